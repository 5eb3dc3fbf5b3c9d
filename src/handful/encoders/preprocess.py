"""How a picture becomes the pixels that an encoder was trained on. It belongs to the weights."""

from __future__ import annotations

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

__all__ = ["STYLES", "Preprocess"]

STYLES = ("clip", "coop")


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop, normalise.

    Styles (bicubic, antialiased):
        ``clip``: the short side to ``size``, the long side in proportion and cut off to a whole
            number, then the centre crop, whose offset is rounded (half to even) as in OpenAI's
            code. Other libraries cut the offset off; their crop may lie one pixel aside.
        ``coop``: both sides to ``size``; the aspect ratio is lost. CoOp before October 2021, and
            the tables of the CLIP-Adapter paper.

    Attributes:
        size: side S of the square input, in pixels.
        style: one of ``STYLES``.
        mean: of the three channels, on the scale 0 to 1; the default is OpenAI's.
        std: of the three channels, on the same scale.

    Raises:
        InputError: unknown style, or a size below 1.
    """

    size: int = 224
    style: str = "clip"
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise InputError(
                f"The preprocessing style {self.style!r} is unknown: choose one of"
                f" {', '.join(STYLES)}.{did_you_mean(self.style, STYLES)}"
            )
        if self.size < 1:
            raise InputError(f"The input size is {self.size} pixels: it must be 1 or more.")

    @property
    def identity(self) -> str:
        """Stable text of all settings, for fingerprints and cache keys.

        The 1 counts changes of what the settings mean, decoding included.
        """
        mean, std = (",".join(f"{v:.8g}" for v in values) for values in (self.mean, self.std))
        return f"preprocess-1:{self.style}:{self.size}:bicubic:mean={mean}:std={std}"

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
        square = (self.size, self.size)
        if view.index is not None:
            box, mirror = view.crop(*image.size, key)
            image = image.crop(box).resize(square, Image.Resampling.BICUBIC)
            if mirror:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        elif self.style == "coop":
            image = image.resize(square, Image.Resampling.BICUBIC)
        else:
            image = self._centre_crop(image)
        return np.array(image)

    def _centre_crop(self, image: Image.Image) -> Image.Image:
        short = min(image.size)
        width, height = (self.size * side // short for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
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
