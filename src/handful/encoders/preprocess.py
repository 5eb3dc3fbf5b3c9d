"""How a picture becomes the pixels that an encoder was trained on. It belongs to the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from handful.encoders.decode import as_rgb
from handful.encoders.views import CENTRE, View
from handful.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import torch

__all__ = ["CROPS", "FILTERS", "STYLES", "Preprocess"]

STYLES = ("clip", "coop")
CROPS = ("round", "floor")
# By the names that Pillow, torchvision and open_clip share.
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop, normalise.

    Styles (antialiased):
        ``clip``: the short side to ``resize``, the long side in proportion and cut off to a whole
            number, then the centre crop of ``size``.
        ``coop``: both sides to ``resize``, then the same crop; the aspect ratio is lost. SigLIP,
            most image classifiers, CoOp before October 2021, and the tables of the CLIP-Adapter
            paper.

    Attributes:
        size: side S of the square input, in pixels.
        style: one of ``STYLES``.
        mean: of the three channels, on the scale 0 to 1; the default is OpenAI's.
        std: of the three channels, on the same scale.
        resize: side before the crop; None is ``size``.
        resample: filter, one of ``FILTERS``.
        crop: how the crop's offset becomes a whole number. ``round`` (half to even) is OpenAI's
            code and ours, whatever the checkpoint: its training saw it. ``floor`` is what
            ``transformers`` does; the two differ by one pixel where the excess is 3 modulo 4.

    Raises:
        InputError: unknown style, filter or crop, or a side below 1.
    """

    size: int = 224
    style: str = "clip"
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    resize: int | None = None
    resample: str = "bicubic"
    crop: str = "round"

    def __post_init__(self) -> None:
        for what, value, choices in (
            ("preprocessing style", self.style, STYLES),
            ("resampling filter", self.resample, tuple(FILTERS)),
            ("rounding of the crop", self.crop, CROPS),
        ):
            if value not in choices:
                raise InputError(
                    f"the {what} {value!r} is unknown: choose one of {', '.join(choices)}."
                    f"{did_you_mean(value, choices)}"
                )
        if min(self.size, self._resize) < 1:
            raise InputError(
                f"the input size is {min(self.size, self._resize)} pixels: it must be 1 or more."
            )

    @property
    def identity(self) -> str:
        """Stable text of all settings, for fingerprints and cache keys.

        The 1 counts changes of what the settings mean, decoding included.
        """
        mean, std = (",".join(f"{v:.8g}" for v in values) for values in (self.mean, self.std))
        text = f"preprocess-1:{self.style}:{self.size}:{self.resample}:mean={mean}:std={std}"
        # Settings that change nothing are not said: equal pixels must have equal names.
        if self._resize != self.size:
            text += f":resize={self._resize}"
        if self.crop != "round" and (self.style == "clip" or self._resize != self.size):
            text += f":crop={self.crop}"
        return text

    @property
    def _resize(self) -> int:
        return self.size if self.resize is None else self.resize

    def __call__(
        self, image: Image.Image, view: View = CENTRE, key: str = ""
    ) -> npt.NDArray[np.uint8]:
        """Return the pixels of one view, uint8 ``(S, S, 3)``.

        Args:
            image: picture of any mode and size.
            view: a random view crops before it resizes; it is the same in both styles.
            key: digest of the image's bytes, which a random view depends on.
        """
        image = as_rgb(image)
        if view.index is None:
            return np.array(self._centre(image))
        box, mirror = view.crop(*image.size, key)
        image = image.crop(box).resize((self.size, self.size), FILTERS[self.resample])
        if mirror:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.array(image)

    def _centre(self, image: Image.Image) -> Image.Image:
        to = self._resize
        short = min(image.size)
        shape = (to, to) if self.style == "coop" else tuple(to * s // short for s in image.size)
        image = image.resize((shape[0], shape[1]), FILTERS[self.resample])
        if image.size == (self.size, self.size):
            return image
        whole = round if self.crop == "round" else math.floor
        left, top = (whole((side - self.size) / 2) for side in image.size)
        return image.crop((left, top, left + self.size, top + self.size))

    def normalise(self, pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Turn pixels, uint8 ``(N, S, S, 3)``, into the encoder's input.

        Returns:
            float32 ``(N, 3, S, S)`` in channels-last memory order: (pixels / 255 − mean) / std.
        """
        import torch

        x = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2).div_(255)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return x.sub_(mean).div_(std)
