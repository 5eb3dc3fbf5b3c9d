"""Encoders that the package open_clip builds: ``open_clip:ARCH/TAG``, an optional extra.

The papers' RN50, RN101, ViT-B/32 and ViT-B/16, and all that open_clip knows besides. The models,
their tokenizers and what they say of their preprocessing are open_clip's: ``package`` imports it,
``source`` finds the weights, ``towers`` run the model.
"""

from __future__ import annotations

import math
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from handful.encoders.fingerprint import PROBE, fingerprint
from handful.encoders.open_clip.package import import_open_clip, quiet
from handful.encoders.open_clip.source import Source, find_source
from handful.encoders.open_clip.towers import ImageTower, TextTower
from handful.encoders.options import Options
from handful.encoders.preprocess import Preprocess
from handful.encoders.two_tower import TwoTowerEncoder, computing_device
from handful.errors import InputError

__all__ = ["load"]

CLIP_TEMPLATES = ("a photo of a {}.",)
# What the authors of SigLIP write. Their models are those that were trained with a bias.
SIGLIP_TEMPLATES = ("This is a photo of {}.",)

STYLES = {"shortest": "clip", "squash": "coop"}

# Entries of an architecture's configuration that no feature depends on: they concern training, or
# the tokenizer, which the fingerprint knows by its token ids.
NO_FACTS = {
    "hf_tokenizer_name",
    "hf_model_pretrained",
    "timm_model_pretrained",
    "timm_drop",
    "timm_drop_path",
    "patch_dropout",
    "output_tokens",
}


def load(name: str, options: Options) -> TwoTowerEncoder:
    """Load ``ARCH/TAG``, ``ARCH/FILE``, ``hf-hub:OWNER/NAME[@REVISION]`` or ``local-dir:FOLDER``.

    Args:
        name: as open_clip names it; the tag of the weights, or the path of a file with weights,
            comes after the first slash.
        options: departures from what the model says of itself.

    Raises:
        InputError: open_clip or torchvision are not installed or do not work, the model or its
            weights are unknown, cannot be had or do not belong together, or the model prepares
            images in a way that handful does not know.
    """
    package = import_open_clip()
    source = find_source(package, name)
    model, tokenizer = _build(package, source)
    preprocess = options.applied(_preprocess(model.visual.preprocess_cfg, name))
    texts = TextTower(model, tokenizer, name)
    digest = fingerprint(
        model.state_dict(), _facts(source, options), preprocess, [texts.token_ids(t) for t in PROBE]
    )
    # Read before the weights become coarser.
    scale = math.exp(float(model.logit_scale))
    bias = None if model.logit_bias is None else float(model.logit_bias)
    device, dtype = computing_device(), getattr(torch, options.dtype)
    model.to(device, dtype)
    return TwoTowerEncoder(
        spec=f"open_clip:{source.name}{options}",
        fingerprint=digest,
        preprocess=preprocess,
        dim=source.config["embed_dim"],
        image_tower=ImageTower(model),
        text_tower=texts,
        logit_scale=scale,
        logit_bias=bias or 0.0,
        default_templates=CLIP_TEMPLATES if bias is None else SIGLIP_TEMPLATES,
        device=device,
        dtype=dtype,
    )


def _build(package: Any, source: Source) -> tuple[Any, Any]:
    """Return the model, float32, on the processor, in evaluation mode, and its tokenizer."""
    shapes = _shapes(package, source.weights)
    try:
        with quiet():
            model = package.create_model(
                source.model,
                load_weights=False,
                pretrained_text=False,
                force_quick_gelu=source.quick_gelu,
                force_preprocess_cfg=dict(source.preprocess),
            )
            tokenizer = source.tokenizer()
    # Its configurations are data, some of them the user's, and it does not check them itself.
    except Exception as error:
        if source.elsewhere and isinstance(error, OSError):
            raise InputError(
                f"the encoder 'open_clip:{source.name}' needs files of {source.elsewhere} from the"
                f" Hugging Face hub, which cannot be had ({_reason(error)}): connect to the"
                " internet once, or give another model."
            ) from error
        raise InputError(
            f"open_clip cannot build {source.model} ({_reason(error)}): check its files, or give"
            " another model."
        ) from error
    try:
        with quiet():
            package.load_checkpoint(model, str(source.weights), weights_only=True)
    # It raises whatever its conversions of other formats happen to raise.
    except Exception as error:
        raise _misfit(source, _reason(error)) from error
    # open_clip stretches position embeddings of another length in silence. Its own tags may rely
    # on that; in a file that the user names, it is the wrong architecture.
    for key, tensor in model.state_dict().items() if not source.is_tag else ():
        shape = shapes.get(key, shapes.get(key.removeprefix("text.")))
        if shape is not None and shape.numel() != tensor.numel():
            raise _misfit(source, f"{key} is {tuple(shape)} instead of {tuple(tensor.shape)}")
    return model.eval().requires_grad_(False), tokenizer


def _shapes(package: Any, path: Path) -> dict[str, torch.Size]:
    try:
        state = package.factory.load_state_dict(str(path), weights_only=True)
        return {key: value.shape for key, value in state.items() if hasattr(value, "shape")}
    # The readers of the formats raise whatever they like.
    except Exception as error:
        raise InputError(
            f"the weight file {path} cannot be read ({_reason(error)}): expected a table of named"
            " tensors, as safetensors or from torch.save, without code in it; get it anew."
        ) from error


def _reason(error: Exception) -> str:
    return shorten(str(error), 200, placeholder=" …") or type(error).__name__


def _misfit(source: Source, reason: str) -> InputError:
    return InputError(
        f"the weights in {source.weights} do not fit the architecture {source.model} ({reason}):"
        " name the architecture that they were trained with."
    )


def _preprocess(given: dict[str, Any], name: str) -> Preprocess:
    size = given["size"]
    sides = set(size) if isinstance(size, tuple | list) else {size}
    style = STYLES.get(given["resize_mode"])
    if style is None or len(sides) > 1:
        raise InputError(
            f"the model open_clip:{name} wants images of {size} pixels in the resize mode"
            f" {given['resize_mode']!r}, which is not supported: handful knows square images in"
            f" the modes {' and '.join(STYLES)}."
        )
    # As open_clip does: what is not bilinear is bicubic.
    resample = "bilinear" if given["interpolation"] == "bilinear" else "bicubic"
    return Preprocess(
        sides.pop(), style, tuple(given["mean"]), tuple(given["std"]), resample=resample
    )


def _facts(source: Source, options: Options) -> dict[str, Any]:
    facts: dict[str, Any] = {
        part: {k: v for k, v in source.config[part].items() if k not in NO_FACTS}
        for part in ("vision_cfg", "text_cfg")
    }
    facts["quick_gelu"] = source.quick_gelu
    if options.dtype != "float32":
        facts["dtype"] = options.dtype
    return facts
