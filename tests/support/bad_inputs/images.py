"""Images that are none, or that cannot be had."""

from __future__ import annotations

import io
import os
import shutil
import struct
import sys
import threading
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from bad_inputs.place import Place, bad
from PIL import Image

SIDE = 40_000


@bad("a text file named `.jpg`")
def text(place: Place) -> None:
    place.write("photos/dam/bad.jpg", "this is no picture")


@bad("a file of zero bytes")
def zero_bytes(place: Place) -> None:
    place.write("photos/dam/bad.jpg", b"")


@bad("a JPEG that is cut short")
def truncated(place: Place) -> None:
    whole = io.BytesIO()
    with Image.open(place.photographs("dam")[0]) as image:
        image.convert("RGB").save(whole, "JPEG")
    place.write("photos/dam/bad.jpg", whole.getvalue()[: len(whole.getvalue()) // 2])


def _chunk(name: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def _black(compressed: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", compressed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


@bad("a PNG that says it has 40,000 × 40,000 pixels")
def says_it_is_large(place: Place) -> None:
    place.write("photos/dam/bad.png", _black(zlib.compress(b"\0" * 100)))


@bad("a PNG that does have 40,000 × 40,000 pixels")
def is_large(place: Place) -> None:
    packer = zlib.compressobj(1)
    row = b"\0" * (1 + SIDE // 8)  # no filter, then a bit per pixel
    packed = b"".join(packer.compress(row * 1000) for _ in range(SIDE // 1000)) + packer.flush()
    bomb = place.write("photos/dam/bad.png", _black(packed))
    assert bomb.stat().st_size < 2**20 < SIDE * len(row)


@bad("a strip of 3,000 × 10 pixels")
def strip(place: Place) -> None:
    Image.new("RGB", (3000, 10)).save(place / "photos/dam/bad.png")


@bad("an EPS file named `.jpg`")
def eps(place: Place) -> None:
    drawing = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    place.write("photos/dam/bad.jpg", drawing)


@bad("a TIFF that is damaged")
def tiff(place: Place) -> None:
    whole = io.BytesIO()
    with Image.open(place.photographs("dam")[0]) as image:
        image.convert("RGB").resize((64, 64)).save(whole, "TIFF", compression="tiff_lzw")
    content = bytearray(whole.getvalue())
    content[8:72] = b"\xff" * 64
    place.write("photos/dam/bad.tif", bytes(content))


@bad("five files that are no pictures")
def five(place: Place) -> None:
    for number in range(5):
        place.write(f"photos/fish/bad{number}.jpg", "this is no picture")


@bad("a class with no readable image")
def class_without(place: Place) -> None:
    for path in place.photographs("fish"):
        path.write_text("this is no picture")


@bad("no readable image at all")
def none(place: Place) -> None:
    for path in (place / "photos").glob("*/*"):
        path.write_text("this is no picture")


@bad("no readable validation image")
def no_validation(place: Place) -> None:
    place.images("split/train", "dam", "fish")
    place.write("split/val/dam/bad.jpg", "this is no picture")


@bad("a link to an image that is gone")
def dangling(place: Place) -> None:
    (place / "photos/dam/bad.jpg").symlink_to("gone.jpg")


@bad("a link that leads to itself")
def circular(place: Place) -> None:
    (place / "photos/dam/bad.jpg").symlink_to("bad.jpg")


@bad("a named pipe")
def pipe(place: Place) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    pipe = place / "photos/dam/bad.jpg"
    os.mkfifo(pipe)

    def end() -> None:
        """Let go of whoever waits for something to come out of it."""
        with suppress(OSError):
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))

    timer = threading.Timer(20, end)
    timer.start()
    place.afterwards.callback(timer.cancel)


@bad("a device")
def device(_: Place) -> None:
    if not Path("/dev/null").exists():
        pytest.skip("needs devices among the files")


@bad("an image that the disk does not give")
def unreadable_disk(place: Place) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("needs a file that exists and gives an input/output error")
    (place / "photos/dam/bad.jpg").symlink_to("/proc/self/mem")


@bad("an image that you may not read")
def forbidden(place: Place) -> None:
    shutil.copy(place.photographs("dam")[0], place / "photos/dam/bad.webp")
    place.forbid("photos/dam/bad.webp")


@bad("no such image")
def no_such_image(place: Place) -> None:
    assert not (place / "photos/dam/dam9.webp").exists()


@bad("a folder without images")
def no_images(place: Place) -> None:
    (place / "empty").mkdir()
