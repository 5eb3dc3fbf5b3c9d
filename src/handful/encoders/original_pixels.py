"""The preprocessing of OpenAI's code in plain Pillow, to compare an encoder's with.

Written apart from :class:`~handful.encoders.preprocess.Preprocess`, so that a mistake there shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from handful.encoders.known_answers import KnownAnswers
from handful.encoders.preprocess import Preprocess

__all__ = ["differing_pixels", "gradient_picture", "original_pixels", "senseless_pixels"]

Pixels = npt.NDArray[np.uint8]


def original_pixels(
    image: Image.Image,
    size: int,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
    whole: Callable[[float], int] = round,
) -> Pixels:
    """Return what ``Resize(size, bicubic)`` and ``CenterCrop(size)`` make, uint8 ``(S, S, 3)``.

    Source: ``_transform`` in clip/clip.py of openai/CLIP, with what torchvision documents for both
    steps: the long side in proportion, cut off to a whole number; the crop's offset rounded.
    """
    width, height = (int(size * side / min(image.size)) for side in image.size)
    image = image.resize((width, height), resample)
    left, top = (whole((side - size) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _squeezed(image: Image.Image, size: int) -> Pixels:
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


# Mistakes by what is told of them, and the option of a spec that asks for the same thing.
VARIANTS: dict[str, tuple[str, Callable[[Image.Image, int], Pixels]]] = {
    "crop off by a pixel: its offset is cut off, OpenAI's code rounds it": (
        "crop=floor",
        lambda image, size: original_pixels(image, size, whole=math.floor),
    ),
    "the whole picture is squeezed into the square, OpenAI's code crops it": (
        "style=coop",
        _squeezed,
    ),
    "resized with a bilinear filter, OpenAI's code takes a bicubic one": (
        "",
        lambda image, size: original_pixels(image, size, Image.Resampling.BILINEAR),
    ),
}


def gradient_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a picture whose red grows to the right and green downwards; its blue is noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    pixels[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    return Image.fromarray(pixels)


def senseless_pixels(preprocess: Preprocess) -> str:
    """Say what no encoder's preprocessing may do and this one does; empty where all is well."""
    pixels = preprocess(gradient_picture(400, 300))
    half = len(pixels) // 2
    red, green = pixels[..., 0].astype(np.float64), pixels[..., 1].astype(np.float64)
    right = red[:, half:].mean() - red[:, :half].mean()
    down = green[half:].mean() - green[:half].mean()
    if min(right, down) < 10:
        return "a picture comes out mirrored, turned or with its colours in another order"
    mean, std = preprocess.mean, preprocess.std
    if not (all(0 <= m <= 1 for m in mean) and all(0.001 < s < 10 for s in std)):
        told = "which is not on the scale 0 to 1 of a colour"
        return f"mean is {_words(mean)} and std {_words(std)}, {told}"
    return ""


def differing_pixels(preprocess: Preprocess, known: KnownAnswers) -> tuple[str, str]:
    """Compare with what a checkpoint of OpenAI was trained on.

    Returns:
        What differs, empty where nothing does, and the option of a spec that asks for it.
    """
    for what, given, right in (
        ("size", (preprocess.size,), (known.size,)),
        ("mean", preprocess.mean, known.mean),
        ("std", preprocess.std, known.std),
    ):
        if not np.allclose(given, right, rtol=0, atol=1e-4):
            return f"{what} is {_words(given)}, expected {_words(right)}", ""
    # The first shows how an offset of half a pixel is rounded, the second a real change of size.
    pictures = [gradient_picture(635, 224), gradient_picture(301, 455)]
    levels = _levels(preprocess, pictures, original_pixels)
    if levels <= 1:
        return "", ""
    for fault, (option, variant) in VARIANTS.items():
        if _levels(preprocess, pictures, variant) <= 1:
            return fault, option
    return f"pixels differ from those of OpenAI's code by up to {levels} of 255 levels", ""


def _levels(
    preprocess: Preprocess,
    pictures: Sequence[Image.Image],
    other: Callable[[Image.Image, int], Pixels],
) -> int:
    pairs = [(preprocess(picture), other(picture, preprocess.size)) for picture in pictures]
    return max(int(np.abs(ours.astype(int) - theirs).max()) for ours, theirs in pairs)


def _words(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.4f}".rstrip("0").rstrip(".") for number in numbers)
