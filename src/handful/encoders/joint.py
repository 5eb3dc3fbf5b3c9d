"""Several encoders as one: each sees every image, and their features stand side by side.

Texts are read by one of them, the first that can. Its space is the first part of the features.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.encoders.protocol import Encoder
from handful.errors import InputError

__all__ = [
    "Given",
    "JointEncoder",
    "encoder_from",
    "join_specs",
    "load",
    "refuse_several",
    "specs_of",
    "split_specs",
    "widths_of",
]

_PREFIX = "joint:"

# How encoders are named or given: one, or a list of several.
Given = str | Encoder | Sequence[str | Encoder]


class JointEncoder:
    """Several encoders that see the same images; implements ``Encoder`` but for pixels.

    ``preprocess`` is that of the first part; the others have their own, so that only pictures can
    be encoded by all at once, and ``features.extract`` asks each part by itself. ``encode_texts``
    gives ``(M, widths[0])``.

    Args:
        encoders: two or more, different ones. Unless none has a text tower, the first that has one
            is taken to the front; it also gives the logit scale and the templates.

    Attributes:
        parts: the encoders.
        widths: of the features of each; ``dim`` is their sum.
        spec: see :func:`join_specs`.
        fingerprint: digest of the fingerprints of the parts.

    Raises:
        InputError: an encoder is given twice.
    """

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        (twice, count), *_ = Counter(e.fingerprint for e in encoders).most_common(1)
        if count > 1:
            first, second = [e.spec for e in encoders if e.fingerprint == twice][:2]
            raise InputError(
                f"the encoders {first} and {second} are the same: leave one of them out."
            )
        front = next((i for i, e in enumerate(encoders) if e.has_text), 0)
        self.parts = (encoders[front], *encoders[:front], *encoders[front + 1 :])
        self.widths = tuple(part.dim for part in self.parts)
        self.dim = sum(self.widths)
        self.spec = join_specs([part.spec for part in self.parts])
        told = "\n".join(["joint-1", *(part.fingerprint for part in self.parts)])
        self.fingerprint = hashlib.sha256(told.encode()).hexdigest()
        reader = self.parts[0]
        self.logit_scale = reader.logit_scale
        self.default_templates = reader.default_templates
        self.has_text = reader.has_text
        self.preprocess = reader.preprocess

    def encode_images(self, images: Sequence[Any] | npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Encode PIL images; float32 ``(N, D)``, each part not normalised.

        Raises:
            InputError: pixels, which are prepared for one of the parts only.
        """
        if isinstance(images, np.ndarray):
            raise InputError(
                f"the encoder {self.spec} takes pictures, not pixels: each of its parts prepares "
                "them in its own way."
            )
        return np.concatenate([part.encode_images(images) for part in self.parts], axis=1)

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[Any]:
        """Encode texts by the first part; float32 ``(M, widths[0])``, not normalised."""
        return self.parts[0].encode_texts(texts)


def join_specs(specs: Sequence[str]) -> str:
    """Return one spec for several, such as ``joint:lite+hf:openai/clip-vit-base-patch32``.

    A plus sign within one of them is written ``%2B``, and ``%`` itself ``%25``.
    """
    return _PREFIX + "+".join(s.replace("%", "%25").replace("+", "%2B") for s in specs)


def split_specs(spec: str) -> tuple[str, ...]:
    """Return the specs that :func:`join_specs` has joined; of any other spec, itself."""
    if not spec.startswith(_PREFIX):
        return (spec,)
    parts = spec.removeprefix(_PREFIX).split("+")
    return tuple(part.replace("%2B", "+").replace("%25", "%") for part in parts)


def load(spec: str) -> Encoder:
    """Load the encoders that a joined spec names.

    Raises:
        InputError: one of them cannot be loaded, or is named twice.
    """
    return encoder_from(split_specs(spec))


def encoder_from(given: Given) -> Encoder:
    """Return the encoder that is named or given; of several, all of them as one.

    Raises:
        InputError: none is given, one cannot be loaded, or one is given twice.
    """
    from handful.encoders.spec import load_encoder

    several = [given] if isinstance(given, str) or not isinstance(given, Sequence) else given
    parts: list[Encoder] = []
    for one in several:
        encoder = load_encoder(one) if isinstance(one, str) else one
        parts += encoder.parts if isinstance(encoder, JointEncoder) else (encoder,)
    if not parts:
        raise InputError("there is no encoder in the list of encoders: name at least one.")
    return parts[0] if len(parts) == 1 else JointEncoder(parts)


def specs_of(given: Given | None) -> tuple[str, ...]:
    """Return the specs of all encoders that are named or given, without loading any."""
    if given is None:
        return ()
    if isinstance(given, str):
        return split_specs(given)
    if isinstance(given, Sequence):
        return tuple(spec for one in given for spec in specs_of(one))
    return split_specs(given.spec)


def widths_of(encoder: Encoder) -> tuple[int, ...] | None:
    """Return the width of each part's features, or None for one encoder."""
    return encoder.widths if isinstance(encoder, JointEncoder) else None


def refuse_several(encoder: Encoder, what: str) -> None:
    """Raise where several encoders are given to what takes one.

    Args:
        encoder: the one, or all of them as one.
        what: takes one, in words.

    Raises:
        InputError: naming them.
    """
    if isinstance(encoder, JointEncoder):
        specs = ", ".join(part.spec for part in encoder.parts)
        raise InputError(
            f"{what} takes one encoder, and there are {len(encoder.parts)}: {specs}; take them one "
            "after the other."
        )
