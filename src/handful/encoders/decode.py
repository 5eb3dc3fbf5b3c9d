"""From bytes to an upright RGB picture, or one sentence that says why not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from handful.errors import InputError

__all__ = ["MAX_PIXELS", "MAX_RATIO", "as_rgb", "open_image"]

# Just below the size at which Pillow prints a warning of its own. Neither reads nor sets Pillow's
# global limit, which belongs to the program that uses us.
MAX_PIXELS = 89_000_000
# Bringing the short side of a longer strip to the encoder's size would take gigabytes.
MAX_RATIO = 100
# Pillow hands these to another program (Ghostscript), which has no place behind a web form.
REFUSED_FORMATS = ("EPS",)

WHITE_IS_ZERO = 0
PLANES = 2

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
    name = name or (str(source) if isinstance(source, Path) else "the image")
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
    Colour profiles and gamma are not applied: encoders have seen pictures without.

    The argument is not changed, and a picture that this function returned comes back as it is.
    """
    transparent = _transparent_colour(image)  # before load(), which forgets the depth
    _read_planes_of_16_bits(image)
    image.load()
    if image.mode == "RGB" and not image.info:
        return image
    orientation = _orientation(image)  # after load(): TIFF turns itself there
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        rgb = _grey(values / 257.0, image)
        if transparent is not None:
            rgb.paste("white", mask=Image.fromarray(values == transparent))
    elif image.mode in ("I", "F"):
        values = np.asarray(image, np.float64)
        rgb = _grey(_guess_white(values, floating=image.mode == "F"), image)
    elif image.has_transparency_data:
        if transparent is not None:
            image = image.copy()
            image.info["transparency"] = transparent
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


def _grey(values: npt.NDArray[Any], image: Image.Image) -> Image.Image:
    tags = getattr(image, "tag_v2", {})
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:
        values = 255 - values  # Pillow turns these round in 8 bits alone
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")


def _transparent_colour(image: Image.Image) -> Any:
    """Return the one transparent colour of a PNG, in the levels of Pillow's mode.

    Pillow gives it in the levels of the file: 0 to 3 for grey of 2 bits, which become 0 to 255.
    """
    colour: Any = image.info.get("transparency")
    tiles = getattr(image, "tile", None)
    if image.format != "PNG" or type(colour) not in (int, tuple) or not tiles:
        return None  # bytes are the transparencies of a palette
    match tiles[0][3]:
        case "L;2":
            return colour * 85
        case "L;4":
            return colour * 17
        case "RGB;16B":
            return tuple(level >> 8 for level in colour)
    return colour


def _read_planes_of_16_bits(image: Image.Image) -> None:
    """Correct how an uncompressed TIFF with a plane per colour is read: Pillow takes 8 bits."""
    tags: Any = getattr(image, "tag_v2", {})
    if (
        tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) != PLANES
        or 16 not in tags.get(TiffImagePlugin.BITSPERSAMPLE, ())
        or image.mode not in ("RGB", "RGBA", "CMYK")
    ):
        return
    tiles: list[Any] = getattr(image, "tile", [])
    for at, (codec, extents, offset, args) in enumerate(tiles):
        if codec == "raw" and len(args[0]) == 1:
            args = (args[0] + (";16L" if tags.prefix == b"II" else ";16B"), *args[1:])
            # A named tuple since Pillow 11.
            make = getattr(type(tiles[at]), "_make", tuple)
            tiles[at] = make((codec, extents, offset, args))
