"""Text-image retrieval: how often what belongs together is among the first found, both ways.

Adapted features are given like any others: those of images through ``ClipAdapter.transform``, those
of texts through ``transform_text``, or of a tuned encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.errors import InputError

__all__ = ["Retrieval", "retrieval"]

_BLOCK = 2**22  # similarities at once: 32 MiB

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Retrieval:
    """Recall at K, by K, 0 to 1.

    Attributes:
        image_to_text: share of the images of which a text is among the first K texts.
        text_to_image: share of the texts of which the image is among the first K images.
        images, texts: how many there were to ask with; images without a text are found only.
    """

    image_to_text: dict[int, float]
    text_to_image: dict[int, float]
    images: int
    texts: int


def retrieval(
    images: Floats, texts: Floats, image_of_text: Integers, at: Sequence[int] = (1, 5, 10)
) -> Retrieval:
    """Rank texts for each image and images for each text, by cosine.

    Of equal cosines the wrong ones come first: features that are all the same find nothing. Memory
    beside the features is bounded, however many there are.

    Args:
        images: ``(N, D)``, of any length.
        texts: ``(M, D)``, of any length; of one image there may be several.
        image_of_text: row of the image that each text belongs to, ``(M,)``.
        at: numbers K.

    Raises:
        InputError: shapes disagree, a text belongs to no image, a row is zero or not finite.
    """
    images, texts = _unit(images, "images"), _unit(texts, "texts")
    owner = np.asarray(image_of_text)
    if images.shape[1] != texts.shape[1]:
        raise InputError(
            f"images are {images.shape[1]} wide but texts {texts.shape[1]}: expected features of"
            " one encoder."
        )
    if owner.shape != (len(texts),) or owner.dtype.kind not in "iu":
        raise InputError(
            f"image_of_text has shape {owner.shape} and type {owner.dtype}: expected the row of an"
            f" image for each of {len(texts)} texts."
        )
    if (outside := owner[(owner < 0) | (owner >= len(images))]).size:
        raise InputError(
            f"image_of_text holds {outside[0]}: expected rows of images, 0 to {len(images) - 1}."
        )
    if not at or min(at) < 1:
        raise InputError(f"at is {list(at)}: expected numbers of 1 or more.")
    asking = np.unique(owner)
    of_images = _wrong_before(images[asking], texts, asking, owner)
    of_texts = _wrong_before(texts, images, owner, np.arange(len(images)))
    return Retrieval(
        {k: float((of_images < k).mean()) for k in at},
        {k: float((of_texts < k).mean()) for k in at},
        len(asking),
        len(texts),
    )


def _wrong_before(asked: Floats, found: Floats, asks: Integers, belongs: Integers) -> Integers:
    """Return how many wrong ones come before the first right one, for each that is asked with."""
    rows = max(1, _BLOCK // len(found))
    before = np.empty(len(asked), dtype=np.int64)
    for start in range(0, len(asked), rows):
        part = slice(start, start + rows)
        cosines = asked[part] @ found.T
        right = asks[part, None] == belongs[None]
        best = np.where(right, cosines, -np.inf).max(axis=1, keepdims=True)
        before[part] = ((cosines >= best) & ~right).sum(axis=1)
    return before


def _unit(rows: Floats, what: str) -> Floats:
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise InputError(f"{what} have shape {rows.shape}: expected (number, width), none empty.")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if bad.size:
        raise InputError(
            f"row {bad[0]} of the {what} is zero or not finite: encode it again, in float32."
        )
    unit: Floats = rows / lengths
    return unit
