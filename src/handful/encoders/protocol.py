"""What every encoder can do: an image tower, a text tower, and how images are prepared for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from handful.encoders.preprocess import Preprocess

__all__ = ["Encoder"]


@runtime_checkable
class Encoder(Protocol):
    """A frozen two-tower model. Image and text features share one space of ``dim`` numbers.

    Attributes:
        spec: the string that names it, as given to ``--encoder``.
        dim: width D of the features.
        logit_scale: factor s on the cosines in front of the softmax.
        fingerprint: hex digest of weights, architecture and preprocessing. Equal fingerprints
            mean equal features; a saved classifier refuses an encoder with another one.
        preprocess: how a picture becomes pixels; belongs to the weights.
        default_templates: prompt templates that suit the text tower when the user names none.
        has_text: false for a vision-only encoder, whose ``encode_texts`` raises ``InputError``.
    """

    spec: str
    dim: int
    logit_scale: float
    fingerprint: str
    preprocess: Preprocess
    default_templates: tuple[str, ...]
    has_text: bool

    def encode_images(self, images: Sequence[Any] | npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Encode PIL images, or pixels ``(N, S, S, 3)`` uint8 that ``preprocess`` has made.

        Returns:
            float32 ``(N, D)``, not normalised.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[Any]:
        """Encode texts; float32 ``(M, D)``, not normalised."""
        ...
