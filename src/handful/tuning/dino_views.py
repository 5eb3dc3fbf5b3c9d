"""The crops that DINO learns from: two large ones and many small ones of every picture.

As published (Caron et al. 2021): a random crop of 25 to 100 % of the picture (small ones: 5 to
25 %), a flip, changed colours, some grey, blur, and on the second large crop some solarisation.
Everything random follows from the seed, the epoch, the digest of the image and the number of the
view, so that neither the order of the images nor the number of processes matters.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from handful.encoders.decode import open_image
from handful.encoders.preprocess import FILTERS
from handful.encoders.views import View

__all__ = ["GLOBAL_CROPS", "Crops", "crops_ahead", "view_key"]

GLOBAL_CROPS = 2
"""Large crops that the teacher sees."""

_COLOURED, _GREY, _SOLARISED = 0.8, 0.2, 0.2
_BLURRED = (1.0, 0.1, 0.5)  # first and second large crop, small crops
_BLUR = (0.1, 2.0)  # radii in pixels, where a large crop has
_PUBLISHED = 224  # pixels to a side
_THREADS = 4
_AHEAD = 2  # batches


@dataclass(frozen=True)
class Crops:
    """How pictures are shown.

    Attributes:
        side: of large crops, in pixels.
        small_side: of small crops.
        local: number of small crops.
        seed: of everything random.
        scale: smallest and largest part of the picture that a large crop covers.
        small_scale: the same of small crops.
        resample: filter, one of ``FILTERS``.
        distort: factor on the probabilities of changed colours, grey, blur and solarisation; at 0
            crops and flips are all there is.
    """

    side: int
    small_side: int
    local: int
    seed: int
    scale: tuple[float, float] = (0.25, 1.0)
    small_scale: tuple[float, float] = (0.05, 0.25)
    resample: str = "bicubic"
    distort: float = 1.0

    def __call__(self, image: Image.Image, digest: str, epoch: int) -> list[npt.NDArray[np.uint8]]:
        """Return all crops of an RGB picture, the large ones first, uint8 ``(S, S, 3)`` each."""
        views = range(GLOBAL_CROPS + self.local)
        return [self._crop(image, digest, epoch, view) for view in views]

    def _crop(
        self, image: Image.Image, digest: str, epoch: int, view: int
    ) -> npt.NDArray[np.uint8]:
        large = view < GLOBAL_CROPS
        side, scale = (self.side, self.scale) if large else (self.small_side, self.small_scale)
        # Its own number in every epoch: the crops of a View follow from that and the digest.
        number = epoch * (GLOBAL_CROPS + self.local) + view
        box, mirror = View(number, self.seed, scale).crop(*image.size, digest)
        image = image.resize((side, side), FILTERS[self.resample], box)
        if mirror:
            image = ImageOps.mirror(image)
        # Only .random() is drawn: numpy may change how other distributions use the same bits.
        random = np.random.default_rng(view_key(self.seed, epoch, digest, view)).random
        if random() < self.distort * _COLOURED:
            image = _recoloured(image, random(4), random(4))
        if random() < self.distort * _GREY:
            image = ImageOps.grayscale(image).convert("RGB")
        if random() < self.distort * _BLURRED[min(view, GLOBAL_CROPS)]:
            radius = _BLUR[0] + random() * (_BLUR[1] - _BLUR[0])
            # In proportion: two pixels of a tower's 48 are not two pixels of 224.
            image = image.filter(ImageFilter.GaussianBlur(radius * self.side / _PUBLISHED))
        if view == 1 and random() < self.distort * _SOLARISED:
            image = ImageOps.solarize(image)
        return np.array(image)


def view_key(seed: int, epoch: int, digest: str, view: int) -> int:
    """Return the number that everything random of one view of one image follows from, 64 bits."""
    told = f"dino-1|{seed}|{epoch}|{digest}|{view}".encode()
    return int.from_bytes(hashlib.sha256(told).digest()[:8], "little")


def _recoloured(
    image: Image.Image, order: npt.NDArray[np.float64], amounts: npt.NDArray[np.float64]
) -> Image.Image:
    """Change brightness, contrast (0.6 to 1.4), saturation (0.8 to 1.2) and hue (±0.1 of a turn).

    Args:
        image: RGB.
        order: the change with the smallest number comes first, ``(4,)``.
        amounts: 0 to 1, ``(4,)``.
    """
    for change in np.argsort(order):
        amount = 2 * float(amounts[change]) - 1
        if change == 0:
            image = ImageEnhance.Brightness(image).enhance(1 + 0.4 * amount)
        elif change == 1:
            image = ImageEnhance.Contrast(image).enhance(1 + 0.4 * amount)
        elif change == 2:
            image = ImageEnhance.Color(image).enhance(1 + 0.2 * amount)
        else:
            turned = np.array(image.convert("HSV"))
            turned[..., 0] += np.uint8(round(0.1 * amount * 255) % 256)  # wraps, as hues do
            image = Image.fromarray(turned, "HSV").convert("RGB")
    return image


def crops_ahead(
    crops: Crops,
    paths: Sequence[Path],
    digests: Sequence[str],
    batches: Sequence[tuple[int, Sequence[int]]],
) -> Generator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]], None, None]:
    """Yield the crops of batches, prepared by threads beside the model.

    Args:
        crops: how they are made.
        paths: image files.
        digests: of their bytes.
        batches: epoch and rows of each.

    Yields:
        uint8 ``(n, 2, S, S, 3)`` and ``(n, local, s, s, 3)``.

    Raises:
        InputError: an image cannot be read.
    """

    def made(epoch: int, row: int) -> list[npt.NDArray[np.uint8]]:
        path = Path(paths[row])
        return crops(open_image(path), digests[row], epoch)

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="handful-crops") as pool:
        waiting = deque(
            [pool.submit(made, epoch, row) for row in rows] for epoch, rows in batches[:_AHEAD]
        )
        try:
            for number in range(len(batches)):
                images = [future.result() for future in waiting.popleft()]
                if number + _AHEAD < len(batches):
                    epoch, rows = batches[number + _AHEAD]
                    waiting.append([pool.submit(made, epoch, row) for row in rows])
                small = np.empty((len(images), 0, crops.small_side, crops.small_side, 3), np.uint8)
                if crops.local:
                    small = np.stack([np.stack(image[GLOBAL_CROPS:]) for image in images])
                yield np.stack([np.stack(image[:GLOBAL_CROPS]) for image in images]), small
        finally:
            for futures in waiting:
                for future in futures:
                    future.cancel()
