"""Views: the ways in which one image may be shown to an encoder."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from handful.errors import InputError

__all__ = ["CENTRE", "View", "random_views"]

ASPECT = (3 / 4, 4 / 3)
TRIES = 10


@dataclass(frozen=True)
class View:
    """One encoding of an image: the whole picture, or one random resized crop and flip of it.

    Attributes:
        index: number of the random view; None is the view used for prediction.
        seed: seed of the family of random views.
        scale: smallest and largest part of the image's area that a random crop covers.
    """

    index: int | None = None
    seed: int = 0
    scale: tuple[float, float] = (0.5, 1.0)

    @property
    def identity(self) -> str:
        """Stable text of all settings, for cache keys; the 1 counts changes of the recipe."""
        if self.index is None:
            return "centre"
        low, high = self.scale
        return f"crop-1:scale={low:g}-{high:g}:seed={self.seed}:index={self.index}"

    def crop(self, width: int, height: int, key: str) -> tuple[tuple[int, int, int, int], bool]:
        """Return the crop of a ``width`` × ``height`` image, and whether to mirror it.

        A crop of random area (a part of the image within ``scale``) and random aspect ratio
        (log-uniform in 3/4..4/3); after ten that do not fit, the largest centre crop with an
        allowed ratio, as torchvision documents for ``RandomResizedCrop``. The mirror has
        probability 1/2.

        Args:
            width: of the image, in pixels.
            height: of the image, in pixels.
            key: digest of the image's bytes. The same view of the same image is the same crop in
                every order, process and machine; different images get different crops.

        Returns:
            ``(left, top, right, bottom)`` in pixels, and the mirror.
        """
        digest = hashlib.sha256(f"{self.identity}|{key}".encode()).digest()
        random = np.random.default_rng(int.from_bytes(digest)).random
        # Only .random() is drawn: numpy may change how other distributions use the same bits.
        mirror = bool(random() < 0.5)
        for _ in range(TRIES):
            area = width * height * (self.scale[0] + random() * (self.scale[1] - self.scale[0]))
            ratio = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** random()
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(random() * (width - w + 1)), int(random() * (height - h + 1))
                return (left, top, left + w, top + h), mirror
        w = min(width, round(height * ASPECT[1]))
        h = min(height, round(width / ASPECT[0]))
        left, top = (width - w) // 2, (height - h) // 2
        return (left, top, left + w, top + h), mirror


CENTRE = View()
"""The view used for prediction: how the encoder's preprocessing shows the image."""


def random_views(
    count: int, seed: int = 0, scale: tuple[float, float] = (0.5, 1.0)
) -> tuple[View, ...]:
    """Return ``count`` random training views of one family.

    Args:
        count: number of views; 0 gives none.
        seed: another seed gives other crops.
        scale: smallest and largest part of the area, 0 < smallest <= largest <= 1. Half to all
            is what Tip-Adapter and its successors use; CoOp uses 0.08 to 1.

    Raises:
        InputError: a negative count, or a scale outside 0..1.
    """
    if count < 0:
        raise InputError(f"the number of views is {count}: it must be 0 or more.")
    if not 0 < scale[0] <= scale[1] <= 1:
        raise InputError(
            f"the scale of the random crops is {scale[0]:g} to {scale[1]:g}: give two parts of the"
            " image's area, 0 < smallest <= largest <= 1."
        )
    return tuple(View(index, seed, scale) for index in range(count))
