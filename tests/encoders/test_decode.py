"""Every kind of image file becomes the upright RGB picture that a person sees, or an InputError."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from handful.encoders import decode
from handful.encoders.decode import as_rgb, open_image
from handful.errors import InputError

CORNER = np.zeros((10, 20, 3), np.uint8)  # one white corner shows how a picture is turned
CORNER[:5, :10] = 255


def encoded(image: Image.Image, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(CORNER), kind, exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    upright = open_image(content)
    np.testing.assert_array_equal(upright, expected)
    assert as_rgb(upright) is upright


def test_a_picture_opened_by_the_caller_gives_the_same_and_is_not_changed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(CORNER), "PNG", exif=exif)
    image = Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(as_rgb(image), open_image(content))
    assert image.size == (20, 10)
    assert "exif" in image.info


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled(kind: str) -> None:
    values = np.linspace(0, 65535, 640).reshape(20, 32).astype(np.uint16)
    rgb = np.asarray(open_image(encoded(Image.fromarray(values), kind)), np.float64)
    # 65535 / 255 = 257; at most half a level is lost by rounding.
    assert np.abs(rgb - (values / 257)[..., None]).max() <= 0.5


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.0, 0.5, 1.0]], [0, 128, 255]),
        ([[0.0, 100.0, 255.0]], [0, 100, 255]),
        ([[0.0, 25700.0, 65535.0]], [0, 100, 255]),
        ([[-1.0, 0.0, 1.0]], [0, 128, 255]),
        ([[np.nan, 0.0, 1.0]], [0, 0, 255]),
        ([[7e5, 7e5, 7e5]], [0, 0, 0]),
    ],
)
def test_floating_point_grey(values: list[list[float]], expected: list[int]) -> None:
    content = encoded(Image.fromarray(np.array(values, np.float32)), "TIFF")
    assert np.asarray(open_image(content))[0, :, 1].tolist() == expected


def test_integer_grey_of_32_bits_does_not_take_1_for_white() -> None:
    content = encoded(Image.fromarray(np.array([[0, 1, 200]], np.int32)), "TIFF")
    assert np.asarray(open_image(content))[0, :, 0].tolist() == [0, 1, 200]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 90, (90, 90, 90)),
        ("LA", (90, 0), (255, 255, 255)),
        ("RGBA", (200, 10, 30, 0), (255, 255, 255)),
        ("RGBA", (200, 10, 30, 255), (200, 10, 30)),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),  # a fifth of red over white
        ("PA", (0, 0), (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_modes(mode: str, colour: object, expected: tuple[int, int, int]) -> None:
    rgb = as_rgb(Image.new(mode, (3, 2), colour))  # type: ignore[arg-type]
    assert rgb.mode == "RGB"
    assert rgb.getpixel((1, 1)) == expected


def test_palette_with_a_transparent_colour_is_shown_on_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((2, 2), 1)
    for kind in ("GIF", "PNG"):
        rgb = open_image(encoded(image, kind, transparency=0))
        assert rgb.getpixel((0, 0)) == (255, 255, 255)
        assert rgb.getpixel((2, 2)) == (200, 100, 50)


def test_cmyk_jpeg() -> None:
    red = open_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert np.abs(np.asarray(red, int) - (255, 0, 0)).max() <= 3  # JPEG is lossy


def test_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "TIFF", "WEBP"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        red, _, blue = open_image(content).getpixel((4, 4))  # type: ignore[misc]
        assert red > 200 > 50 > blue


def test_a_path_gives_the_same_as_its_bytes(photo_files: list[Path]) -> None:
    path = photo_files[0]
    np.testing.assert_array_equal(open_image(path), open_image(path.read_bytes()))


JPEG = encoded(Image.fromarray(CORNER).resize((200, 100)), "JPEG")
PNG = encoded(Image.effect_noise((64, 64), 50), "PNG")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image at all",
        JPEG[: len(JPEG) // 2],
        PNG[: len(PNG) // 2],
        PNG[:40],
        PNG.replace(b"IDAT", b"IDAX"),
        encoded(Image.fromarray(CORNER), "EPS"),
    ],
    ids=["empty", "text", "half JPEG", "half PNG", "head of PNG", "no data in PNG", "EPS"],
)
def test_what_cannot_be_read_is_named_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(content)
    for source, name in ((path, ""), (content, str(path))):
        with pytest.raises(InputError) as caught:
            open_image(source, name)
        message = str(caught.value)
        assert message.startswith(f"{path} ")
        assert message.endswith(".")
        assert "\n" not in message


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.jpg", tmp_path):
        with pytest.raises(InputError, match=r"cannot be read: \w+"):
            open_image(path)


def test_too_many_pixels_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_decoding(self: object) -> None:
        raise AssertionError("decoded")

    content = encoded(Image.new("1", (300, 200)), "PNG")
    monkeypatch.setattr(decode, "MAX_PIXELS", 300 * 200)
    open_image(content)
    monkeypatch.setattr(decode, "MAX_PIXELS", 300 * 200 - 1)
    monkeypatch.setattr(ImageFile.ImageFile, "load", no_decoding)
    with pytest.raises(InputError, match=r"wide.png has more than 59,999 pixels \(300 × 200\)"):
        open_image(content, "wide.png")


def test_the_limit_holds_where_pillow_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    content = encoded(Image.new("1", (10_000, 9_000)), "PNG")
    with pytest.raises(InputError, match=r"more than 89,000,000 pixels"):
        open_image(content)


def test_what_is_accepted_makes_pillow_print_nothing() -> None:
    assert decode.MAX_PIXELS < Image.MAX_IMAGE_PIXELS  # type: ignore[operator]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_image(encoded(Image.new("1", (400, 400)), "PNG"))


def test_what_pillow_calls_a_bomb_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.new("1", (300, 200)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match="more than 89,000,000 pixels: make it smaller"):
        open_image(content)


def test_a_strip_is_refused() -> None:
    open_image(encoded(Image.new("L", (3, 300)), "PNG"))
    with pytest.raises(InputError, match="3 × 301 pixels, a strip"):
        open_image(encoded(Image.new("L", (3, 301)), "PNG"))
