"""From bytes to an upright RGB picture, or one sentence that says why not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from handful.errors import InputError

__all__ = ["MAX_PIXELS", "MAX_RATIO", "as_rgb", "open_image"]

# Just below the size at which Pillow prints a warning of its own. Neither reads nor sets Pillow's
# global limit, which belongs to the program that uses us.
MAX_PIXELS = 89_000_000
# Bringing the short side of a longer strip to the encoder's size would take gigabytes.
MAX_RATIO = 100
# Pillow hands these to another program (Ghostscript), which has no place behind a web form.
REFUSED_FORMATS = ("EPS",)

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(source: Path | bytes, name: str = "") -> Image.Image:
    """Open an image file, or the bytes of one, as an upright RGB picture.

    The first frame is taken; see ``as_rgb`` for the colours. Size is checked before decoding.

    Args:
        source: path of the file, or its content.
        name: what an error calls it; a path names itself.

    Raises:
        InputError: the file is missing, no image, damaged, or larger than ``MAX_PIXELS``.
    """
    name = name or (str(source) if isinstance(source, Path) else "The image")
    try:
        content = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}.") from error
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check(image, name)
            return as_rgb(image)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(
            f"{name} is not an image that can be read: remove it, or save it as JPEG or PNG."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(_too_large(name)) from error
    except Exception as error:  # damaged files make Pillow raise almost anything
        reason = str(error).rstrip(".") or type(error).__name__
        raise InputError(
            f"{name} is damaged and cannot be read ({reason}): replace or remove it."
        ) from error


def _check(image: Image.Image, name: str) -> None:
    width, height = image.size
    if image.format in REFUSED_FORMATS:
        raise InputError(f"{name} is an {image.format} file: save it as JPEG or PNG.")
    if width * height > MAX_PIXELS:
        raise InputError(_too_large(name, f" ({width} × {height})"))
    if max(width, height) > MAX_RATIO * min(width, height):
        raise InputError(
            f"{name} has {width} × {height} pixels, a strip more than {MAX_RATIO} times longer than"
            " wide: cut a picture out of it, or remove it."
        )


def _too_large(name: str, size: str = "") -> str:
    return f"{name} has more than {MAX_PIXELS:,} pixels{size}: make it smaller."


def as_rgb(image: Image.Image) -> Image.Image:
    """Return the picture as a person sees it: upright (EXIF), RGB, 8 bits, opaque on white.

    16-bit grey is scaled to 8 bits. 32-bit and floating-point pictures do not say what white is:
    it is taken to be the first of 1 (floats only), 255 and 65,535 that no value exceeds; others
    (and those with negative values) are stretched from their lowest to their highest value.

    The argument is not changed, and a picture that this function returned comes back as it is.
    """
    image.load()
    if image.mode == "RGB" and not image.info:
        return image
    orientation = _orientation(image)  # after load(): TIFF turns itself there
    if image.mode.startswith("I;16"):
        rgb = _grey(np.asarray(image) / 257.0)
    elif image.mode in ("I", "F"):
        rgb = _grey(_guess_white(np.asarray(image, np.float64), floating=image.mode == "F"))
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    else:
        rgb = image.convert("RGB")
    if orientation in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[orientation])
    rgb.info = {}  # otherwise the picture would be turned again the next time
    return rgb


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF block does not make the picture unusable
        return 1


def _guess_white(values: npt.NDArray[Any], *, floating: bool) -> npt.NDArray[Any]:
    values = np.nan_to_num(values)
    low, high = float(values.min()), float(values.max())
    if low >= 0:
        for white in (1, 255, 65535) if floating else (255, 65535):
            if high <= white:
                return values * (255 / white)
    return (values - low) * (255 / ((high - low) or 1))


def _grey(values: npt.NDArray[Any]) -> Image.Image:
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")
