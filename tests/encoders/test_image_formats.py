"""Every image format and mode, against pixels that are known without Pillow.

Lossless files are written here, byte by byte from the specification of their format: what is in
them is known. Lossy ones are compared with imagecodecs, which has builds of the codecs of its own.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from handful.datasets.folder import image_suffixes
from handful.encoders.decode import open_image
from handful.errors import InputError

Array = Any  # of numpy
H, W = 7, 11  # neither divides by 8
HALF = 0.5 + 1e-9  # a level that is rounded
ONE = 1.01  # 16 bits of which the upper 8 are taken, for each number that goes into the result


def random(*shape: int, below: int = 256) -> Array:
    return np.random.default_rng(sum(shape) + below).integers(0, below, shape)


def on_white(colour: Array, alpha: Array) -> Array:
    """Levels of 0 to 255 from shares of 0 to 1."""
    return 255 * (colour * alpha + 1 - alpha)


def check(content: bytes, expected: Array, tolerance: float) -> None:
    found = np.asarray(open_image(content))
    assert found.dtype == np.uint8
    expected = expected if expected.ndim == 3 else expected[..., None]
    assert found.shape == (*expected.shape[:2], 3)
    assert np.abs(found - np.asarray(expected, float)).max() <= tolerance


def packed(samples: Array, bits: int) -> bytes:
    """One row of samples of 1, 2, 4 or 8 bits, the first in the highest bits."""
    each = np.unpackbits(samples.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - bits :]
    return np.packbits(each.ravel()).tobytes()


# -- PNG -------------------------------------------------------------------------------------------

ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
ADAM7 += [(1, 0, 2, 1)]
PNG_KINDS = {"grey": 0, "RGB": 2, "palette": 3, "LA": 4, "RGBA": 6}


def png(samples: Array, bits: int, kind: str, interlaced: bool = False, **chunks: bytes) -> bytes:
    """A PNG with samples ``(H, W, channels)``; the five filters take turns, row by row."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width, _ = samples.shape
    head = struct.pack(">IIBBBBB", width, height, bits, PNG_KINDS[kind], 0, 0, interlaced)
    if interlaced:
        parts = [samples[y::down, x::across] for y, x, down, across in ADAM7]
        data = b"".join(png_rows(part, bits) for part in parts if part.size)
    else:
        data = png_rows(samples, bits)
    inside = [(b"IHDR", head), *((name.encode(), value) for name, value in chunks.items())]
    inside += [(b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in inside)


def png_rows(samples: Array, bits: int) -> bytes:
    step = max(1, samples.shape[2] * bits // 8)
    found, above = b"", None
    for number, line in enumerate(samples):
        row = line.astype(">u2").tobytes() if bits == 16 else packed(line, bits)
        above = above or bytes(len(row))
        kind, filtered = number % 5, []
        for at, byte in enumerate(row):
            left = row[at - step] if at >= step else 0
            corner = above[at - step] if at >= step else 0
            up = above[at]
            guess = left + up - corner
            paeth = min((left, up, corner), key=lambda one, guess=guess: abs(guess - one))
            filtered.append((byte - (0, left, up, (left + up) // 2, paeth)[kind]) % 256)
        found += bytes([kind, *filtered])
        above = row
    return found


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_png_grey(bits: int, interlaced: bool) -> None:
    white = 2**bits - 1
    grey = random(H, W, 1, below=white + 1)
    check(png(grey, bits, "grey", interlaced), grey * 255 / white, HALF)
    key = min(1, white - 1)  # dark, but not 0 where there is anything between 0 and white
    grey[2, 3] = key
    content = png(grey, bits, "grey", interlaced, tRNS=struct.pack(">H", key))
    check(content, np.where(grey == key, 255, grey * 255 / white), HALF)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("bits", "tolerance"), [(8, HALF), (16, ONE)])
def test_png_colour(bits: int, tolerance: float, interlaced: bool) -> None:
    white = 2**bits - 1
    rgb = random(H, W, 3, below=white + 1)
    check(png(rgb, bits, "RGB", interlaced), rgb * 255 / white, tolerance)
    key = rgb[2, 3]
    content = png(rgb, bits, "RGB", interlaced, tRNS=struct.pack(">3H", *key))
    expected = np.where((rgb == key).all(axis=2, keepdims=True), 255, rgb * 255 / white)
    check(content, expected, tolerance)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("bits", "tolerance"), [(8, HALF), (16, 2 * ONE)])
def test_png_with_an_alpha_channel(bits: int, tolerance: float, interlaced: bool) -> None:
    for kind, channels in (("LA", 2), ("RGBA", 4)):
        samples = random(H, W, channels, below=2**bits)
        share = samples / (2**bits - 1)
        expected = on_white(share[..., :-1], share[..., -1:])
        check(png(samples, bits, kind, interlaced), expected, tolerance)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_palette(bits: int, interlaced: bool) -> None:
    palette = random(2**bits, 3)
    index = random(H, W, 1, below=2**bits)
    colours = bytes(palette.ravel().tolist())
    check(png(index, bits, "palette", interlaced, PLTE=colours), palette[index[..., 0]], 0)
    few = random(2 ** (bits - 1))  # entries beyond those that are named are opaque
    alpha = np.concatenate([few, np.full(2**bits - len(few), 255)])[index] / 255
    content = png(index, bits, "palette", interlaced, PLTE=colours, tRNS=bytes(few.tolist()))
    check(content, on_white(palette[index[..., 0]] / 255, alpha), HALF)


def test_gamma_and_profiles_are_not_applied() -> None:
    """The encoders were trained on pictures that were opened without them."""
    rgb = random(H, W, 3)
    check(png(rgb, 8, "RGB", gAMA=struct.pack(">I", 100_000)), rgb, 0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Applied, this one would turn red into blue.
    swapped = profile.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    assert swapped != profile
    check(png(rgb, 8, "RGB", iCCP=b"p\0\0" + zlib.compress(swapped)), rgb, 0)


# -- BMP -------------------------------------------------------------------------------------------


def bmp(
    rows: Sequence[bytes] | bytes,
    bits: int,
    *,
    palette: Array | None = None,
    compression: int = 0,
    masks: Sequence[int] = (),
    version: int = 3,
    height: int = H,
) -> bytes:
    """A BMP of width ``W``; ``rows`` from the bottom up, or the finished data."""
    data = rows if isinstance(rows, bytes) else b"".join(r + bytes(-len(r) % 4) for r in rows)
    entries = [] if palette is None else palette.tolist()
    colours = b"".join(bytes([blue, green, red, 0]) for red, green, blue in entries)
    masked = struct.pack(f"<{len(masks)}I", *masks)
    size = {3: 40, 4: 108}[version]
    head = struct.pack("<IiiHHIIiiII", size, W, height, 1, bits, compression, len(data), 0, 0, 0, 0)
    rest = (masked.ljust(size - 40, b"\0") if version == 4 else masked) + colours
    start = 14 + len(head) + len(rest)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + rest + data


def test_bmp_colour() -> None:
    rgbx = random(H, W, 4).astype(np.uint8)
    bgr, bgrx = rgbx[..., 2::-1], rgbx[..., [2, 1, 0, 3]]
    lines = [row.tobytes() for row in bgr]
    check(bmp(lines[::-1], 24), rgbx[..., :3], 0)
    check(bmp(lines, 24, height=-H), rgbx[..., :3], 0)  # from the top down
    lines = [row.tobytes() for row in bgrx[::-1]]
    check(bmp(lines, 32), rgbx[..., :3], 0)  # the fourth byte means nothing
    colours = (0xFF0000, 0xFF00, 0xFF)
    opaque = bmp(lines, 32, compression=3, masks=(*colours, 0), version=4)
    check(opaque, rgbx[..., :3], 0)
    clear = bmp(lines, 32, compression=3, masks=(*colours, 0xFF000000), version=4)
    check(clear, on_white(rgbx[..., :3] / 255, rgbx[..., 3:] / 255), HALF)


def test_bmp_of_16_bits() -> None:
    five, six = random(H, W, 3, below=32), random(H, W, below=64)
    words = (five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]).astype("<u2")
    check(bmp([row.tobytes() for row in words[::-1]], 16), five * 255 / 31, 1)
    words = (five[..., 0] << 11 | six << 5 | five[..., 2]).astype("<u2")
    content = bmp(
        [row.tobytes() for row in words[::-1]], 16, compression=3, masks=(0xF800, 0x7E0, 0x1F)
    )
    check(content, np.dstack([five[..., 0] / 31, six / 63, five[..., 2] / 31]) * 255, 1)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmp_palette(bits: int) -> None:
    palette, index = random(2**bits, 3), random(H, W, below=2**bits)
    lines = [packed(row, bits) for row in index[::-1]]
    check(bmp(lines, bits, palette=palette), palette[index], 0)


def test_bmp_of_runs() -> None:
    palette, index = random(256, 3), np.repeat(random(H, 4), 3, axis=1)[:, :W]
    runs = b""
    for row in index[::-1].tolist():
        runs += b"".join(bytes([len(list(run)), value]) for value, run in itertools.groupby(row))
        runs += b"\0\0"
    check(bmp(runs + b"\0\1", 8, palette=palette, compression=1), palette[index], 0)


# -- TIFF ------------------------------------------------------------------------------------------

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, LAB = 0, 1, 2, 3, 5, 8
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
PREMULTIPLIED, ALPHA = 1, 2


def tiff(
    samples: Array,
    bits: int,
    meaning: int,
    *,
    order: str = "<",
    kind: int = UNSIGNED,
    extra: int | None = None,
    planes: bool = False,
    palette: Array | None = None,
) -> bytes:
    """An uncompressed TIFF of samples ``(H, W, channels)``."""
    height, width, channels = samples.shape
    if bits <= 8:
        pieces = [packed(row, bits) for row in samples]
        pieces = (
            [packed(samples[..., c], 8) for c in range(channels)] if planes else [b"".join(pieces)]
        )
    else:
        number = f"{order}{'?uif'[kind]}{bits // 8}"
        parts = [samples[..., c] for c in range(channels)] if planes else [samples]
        pieces = [part.astype(number).tobytes() for part in parts]
    data, starts = b"", []
    for piece in pieces:
        starts.append(8 + len(data))
        data += piece + bytes(len(piece) % 2)
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * channels),
        259: ("H", [1]),
        262: ("H", [meaning]),
        273: ("I", starts),
        277: ("H", [channels]),
        278: ("I", [height]),
        279: ("I", [len(piece) for piece in pieces]),
        284: ("H", [2 if planes else 1]),
        339: ("H", [kind] * channels),
    }
    if extra is not None:
        tags[338] = ("H", [extra])
    if palette is not None:
        tags[320] = ("H", (palette.T.ravel() * 257).tolist())
    place = 8 + len(data)
    after = place + 2 + 12 * len(tags) + 4
    directory, beyond = struct.pack(order + "H", len(tags)), b""
    for tag, (code, values) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(value) > 4:
            value, beyond = struct.pack(order + "I", after + len(beyond)), beyond + value
        directory += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[code], len(values))
        directory += value.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", place) + data + directory + bytes(4) + beyond


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_tiff_grey(bits: int, order: str) -> None:
    white = 2**bits - 1
    grey = random(H, W, 1, below=white + 1)
    check(tiff(grey, bits, BLACK_IS_ZERO, order=order), grey * 255 / white, HALF)
    if (bits, order) != (16, ">"):  # which Pillow does not read
        check(tiff(grey, bits, WHITE_IS_ZERO, order=order), 255 - grey * 255 / white, HALF)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_numbers(order: str) -> None:
    share = random(H, W, 1, below=1000) / 999
    share[0, 0], share[0, 1] = 0, 1
    for meaning, expected in ((BLACK_IS_ZERO, share * 255), (WHITE_IS_ZERO, 255 - share * 255)):
        check(tiff(share, 32, meaning, order=order, kind=FLOAT), expected, HALF)
    number = random(H, W, 1, below=65536)
    check(tiff(number, 32, BLACK_IS_ZERO, order=order, kind=SIGNED), number * 255 / 65535, HALF)
    number = random(H, W, 1, below=65536) - 32768
    stretched = (number - number.min()) * 255 / np.ptp(number)
    check(tiff(number, 16, BLACK_IS_ZERO, order=order, kind=SIGNED), stretched, HALF)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("bits", "tolerance"), [(8, ONE), (16, 3 * ONE)])
def test_tiff_colour(bits: int, tolerance: float, order: str) -> None:
    samples = random(H, W, 4, below=2**bits)
    share = samples / (2**bits - 1)
    rgb, fourth = share[..., :3], share[..., 3:]
    for planes in (False, True):
        content = tiff(samples[..., :3], bits, RGB, order=order, planes=planes)
        check(content, rgb * 255, ONE)
        content = tiff(samples, bits, RGB, order=order, planes=planes, extra=ALPHA)
        check(content, on_white(rgb, fourth), tolerance)
    content = tiff(samples, bits, CMYK, order=order)
    check(content, 255 * (1 - rgb) * (1 - fourth), tolerance)
    ready = np.concatenate([np.rint(samples[..., :3] * fourth), samples[..., 3:]], axis=2)
    content = tiff(ready, bits, RGB, order=order, extra=PREMULTIPLIED)
    check(content, 255 * (ready[..., :3] / (2**bits - 1) + 1 - fourth), tolerance)


def test_tiff_of_16_bits_in_planes_is_never_read_as_8() -> None:
    """Where Pillow has no reader for the planes, it is refused: it would be stripes."""
    samples = random(H, W, 4, below=65536)
    with pytest.raises(InputError, match="cannot be read"):
        open_image(tiff(samples, 16, CMYK, planes=True))


def test_tiff_with_a_palette_and_grey_with_alpha() -> None:
    palette, index = random(256, 3), random(H, W, 1)
    check(tiff(index, 8, PALETTE, palette=palette), palette[index[..., 0]], 0)
    share = random(H, W, 2) / 255
    content = tiff(random(H, W, 2), 8, BLACK_IS_ZERO, extra=ALPHA)
    check(content, on_white(share[..., :1], share[..., 1:]), HALF)


def test_tiff_in_the_lab_space() -> None:
    lightness = np.array([[20.0, 50, 80, 60, 60, 60, 60]])
    a = np.array([[0.0, 0, 0, 30, -30, 0, 0]])
    b = np.array([[0.0, 0, 0, 0, 0, 30, -30]])
    stored = np.dstack([np.rint(lightness * 255 / 100), a % 256, b % 256])
    # CIE 1976, white D50; then the colours of sRGB adapted to D50, and its curve (IEC 61966-2-1).
    red, green, blue = (
        (0.4360747, 0.2225045, 0.0139322),
        (0.3850649, 0.7168786, 0.0971045),
        (0.1430804, 0.0606169, 0.7141733),
    )
    y = (stored[..., 0] * 100 / 255 + 16) / 116
    f = np.dstack([y + a / 500, y, y - b / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.96422, 1, 0.82521]
    to_xyz = np.array([red, green, blue]).T
    linear = (xyz @ np.linalg.inv(to_xyz).T).clip(0, 1)
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    check(tiff(stored, 8, LAB), expected * 255, 2)


# -- PPM and GIF -----------------------------------------------------------------------------------


@pytest.mark.parametrize("white", [255, 1000, 65535])
def test_ppm(white: int) -> None:
    rgb = random(H, W, 3, below=white + 1)
    kind = "u1" if white < 256 else ">u2"
    check(f"P6 {W} {H} {white}\n".encode() + rgb.astype(kind).tobytes(), rgb * 255 / white, HALF)
    grey = rgb[..., :1]
    check(f"P5 {W} {H} {white}\n".encode() + grey.astype(kind).tobytes(), grey * 255 / white, HALF)


def gif(frames: Sequence[Array], palette: Array, *, clear: int | None, interlaced: bool) -> bytes:
    """A GIF of 8 bits whose frames may be smaller than the first; codes of 9 bits throughout."""
    height, width = frames[0].shape
    content = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0)
    content += bytes(palette.ravel().tolist())
    for index in frames:
        rows = range(len(index))
        if interlaced:
            rows = [*rows[0::8], *rows[4::8], *rows[2::4], *rows[1::2]]  # type: ignore[assignment]
        codes = []
        for at, value in enumerate(index[list(rows)].ravel().tolist()):
            codes += [256, value] if at % 200 == 0 else [value]  # 256: forget, and keep to 9 bits
        bits = np.concatenate([np.array([*codes, 257])[:, None] >> np.arange(9) & 1]).ravel()
        data = np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()
        flags, transparent = (9, clear) if clear is not None else (8, 0)
        content += b"!\xf9\4" + struct.pack("<BHBB", flags, 10, transparent, 0)
        content += b"," + struct.pack("<HHHHB", 0, 0, *index.shape[::-1], 64 * interlaced) + b"\x08"
        pieces = [data[at : at + 255] for at in range(0, len(data), 255)]
        content += b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"
    return content + b";"


@pytest.mark.parametrize("interlaced", [False, True])
def test_gif(interlaced: bool) -> None:
    palette, first, second = random(256, 3), random(40, 30), random(20, 30)
    content = gif([first, second], palette, clear=None, interlaced=interlaced)
    check(content, palette[first], 0)  # the first frame
    content = gif([first], palette, clear=int(first[3, 3]), interlaced=interlaced)
    check(content, np.where((first == first[3, 3])[..., None], 255, palette[first]), 0)


# -- lossy formats, and the same files for an independent decoder ----------------------------------


@pytest.fixture(scope="module")
def codecs() -> Any:
    return pytest.importorskip("imagecodecs", reason="needs imagecodecs, an independent decoder")


@pytest.fixture(scope="module")
def photo(photo_files: list[Path]) -> Image.Image:
    """A piece of a photograph, of odd width and height."""
    return Image.open(photo_files[0]).convert("RGB").crop((0, 0, 101, 67))


def saved(image: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def test_what_is_written_here_is_what_others_read(codecs: Any) -> None:
    for bits, kind, channels in ((8, "RGB", 3), (16, "RGB", 3), (16, "grey", 1), (8, "RGBA", 4)):
        samples = random(H, W, channels, below=2**bits)
        found = codecs.png_decode(png(samples, bits, kind))
        np.testing.assert_array_equal(found.reshape(samples.shape), samples)
    for bits, order in itertools.product((8, 16), "<>"):
        samples = random(H, W, 3, below=2**bits)
        np.testing.assert_array_equal(
            codecs.tiff_decode(tiff(samples, bits, RGB, order=order)), samples
        )
    share = random(H, W, 1, below=1000) / 999
    found = codecs.tiff_decode(tiff(share, 32, BLACK_IS_ZERO, kind=FLOAT))
    np.testing.assert_array_equal(found, share[..., 0].astype(np.float32))
    palette, index = random(256, 3), random(40, 30)
    for interlaced in (False, True):
        content = gif([index], palette, clear=None, interlaced=interlaced)
        np.testing.assert_array_equal(codecs.gif_decode(content)[..., :3], palette[index])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"quality": 30},
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"progressive": True},
        {"optimize": True},
        {"restart_marker_rows": 1},
    ],
    ids=str,
)
def test_jpeg(codecs: Any, photo: Image.Image, settings: dict[str, Any]) -> None:
    for mode in ("RGB", "L"):
        content = saved(photo.convert(mode), "JPEG", **settings)
        check(content, codecs.jpeg8_decode(content), 1)


@pytest.mark.parametrize("stored", ["CMYK", "YCCK"])
def test_jpeg_of_printers(codecs: Any, photo: Image.Image, stored: str) -> None:
    """Adobe's programs store them turned round: 0 is full ink."""
    ink = np.asarray(photo.convert("CMYK")).copy()
    ink[..., 3] = random(1, below=120)
    content = codecs.jpeg8_encode(255 - ink, level=95, colorspace="CMYK", outcolorspace=stored)
    assert b"Adobe" in content
    paper = codecs.jpeg8_decode(content, outcolorspace="CMYK") / 255
    check(content, 255 * paper[..., :3] * paper[..., 3:], ONE)


def test_jpeg_that_stores_rgb(codecs: Any, photo: Image.Image) -> None:
    content = codecs.jpeg8_encode(
        np.asarray(photo), level=90, colorspace="RGB", outcolorspace="RGB"
    )
    check(content, codecs.jpeg8_decode(content), 1)


@pytest.mark.parametrize("settings", [{}, {"quality": 20}, {"lossless": True}], ids=str)
def test_webp(codecs: Any, photo: Image.Image, settings: dict[str, Any]) -> None:
    content = saved(photo, "WEBP", **settings)
    check(content, codecs.webp_decode(content), 1)
    clear = photo.copy()
    clear.putalpha(Image.linear_gradient("L").resize(photo.size))
    content = saved(clear, "WEBP", **settings)
    share = codecs.webp_decode(content, hasalpha=True) / 255
    check(content, on_white(share[..., :3], share[..., 3:]), ONE)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("settings", [{}, {"quality": 100, "subsampling": "4:4:4"}], ids=str)
def test_avif(codecs: Any, photo: Image.Image, settings: dict[str, Any]) -> None:
    content = saved(photo, "AVIF", **settings)
    check(content, codecs.avif_decode(content), 1)
    clear = photo.copy()
    clear.putalpha(Image.linear_gradient("L").resize(photo.size))
    content = saved(clear, "AVIF", **settings)
    share = codecs.avif_decode(content) / 255
    check(content, on_white(share[..., :3], share[..., 3:]), ONE)
    deep = codecs.avif_encode(np.asarray(photo).astype(np.uint16) * 4, level=90, bitspersample=10)
    check(deep, codecs.avif_decode(deep) * (255 / 1023), 3)  # colours are spread at 8 or 10 bits


@pytest.mark.parametrize("how", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd"])
def test_compressed_tiff(codecs: Any, photo: Image.Image, how: str) -> None:
    for mode in ("RGB", "L"):
        content = saved(photo.convert(mode), "TIFF", compression=how)
        check(content, codecs.tiff_decode(content), 1)


@pytest.mark.parametrize("how", ["group3", "group4", "packbits"])
def test_tiff_of_fax_machines(codecs: Any, photo: Image.Image, how: str) -> None:
    black = photo.convert("1")
    check(saved(black, "TIFF", compression=how), np.asarray(black) * 255, 0)


def test_heic_where_pillow_cannot() -> None:
    if ".heic" in image_suffixes():
        pytest.skip("this Pillow reads HEIC")
    start = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic")
    with pytest.raises(InputError, match=r"is not an image that can be read: .*save it as JPEG"):
        open_image(start + bytes(500))


# -- which side is up ------------------------------------------------------------------------------

# TIFF 6.0, Orientation (and Exif 2.3): what the first row and the first column of the stored
# picture are in the visible one.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def visible(stored: Array, orientation: int) -> Array:
    row, column = SIDES[orientation]
    if row in ("left", "right"):
        stored, row, column = stored.swapaxes(0, 1), column, row
    stored = stored[::-1] if row == "bottom" else stored
    return stored[:, ::-1] if column == "right" else stored


KINDS: dict[str, tuple[dict[str, Any], float]] = {
    "JPEG": ({"quality": 100, "subsampling": "4:4:4"}, 4),
    "PNG": ({}, 0),
    "TIFF": ({}, 0),
    "WEBP": ({"lossless": True}, 0),
    "AVIF": ({"quality": 100, "subsampling": "4:4:4"}, 6),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", SIDES)
def test_orientation(kind: str, orientation: int) -> None:
    if not features.check("avif") and kind == "AVIF":
        pytest.skip("this Pillow has no AVIF")
    settings, tolerance = KINDS[kind]
    stored = np.kron(random(3, 5, 3), np.ones((16, 16, 1))).astype(np.uint8)  # no two sides alike
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(stored), kind, exif=exif, **settings)
    check(content, visible(stored, orientation), tolerance)
