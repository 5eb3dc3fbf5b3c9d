"""Folders that are not laid out as class folders, or that cannot be read."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from bad_inputs.place import Place, bad


@bad("no such folder")
def missing(place: Place) -> None:
    assert not (place / "photo").exists()


@bad("an empty folder")
def empty(place: Place) -> None:
    (place / "empty").mkdir()


@bad("a folder with a single class")
def single(place: Place) -> None:
    place.images("one", "cat")


@bad("a folder around the folder that is meant")
def around(place: Place) -> None:
    (place / "data").mkdir()
    (place / "photos").rename(place / "data/photos")


@bad("the folder of one class")
def of_one_class(place: Place) -> None:
    assert len(place.photographs("dam")) == 3


@bad("a folder of other things")
def others(place: Place) -> None:
    place.write("notes/notes.txt", "things to do")


@bad("an image instead of a folder")
def image(place: Place) -> None:
    shutil.copy(place.photographs("dam")[0], place / "dam.webp")


@bad("a class folder without images")
def no_images(place: Place) -> None:
    (place / "photos/cat").mkdir()


@bad("a class folder with `Thumbs.db` only")
def thumbs(place: Place) -> None:
    place.write("photos/cat/Thumbs.db", b"\xd0\xcf\x11\xe0")


@bad("a class without training images")
def only_test(place: Place) -> None:
    place.images("split/train", "dam", "fish")
    place.images("split/test", "dam", "fish", "cat")


@bad("two folders for one split")
def two_for_one(place: Place) -> None:
    for name in ("train", "val", "valid"):
        place.images(f"split/{name}", "dam", "fish")


@bad("a folder that you may not read")
def forbidden(place: Place) -> None:
    place.forbid("photos")


@bad("a class folder that you may not read")
def forbidden_class(place: Place) -> None:
    place.forbid("photos/fish")


@bad("a link to a folder that is gone")
def gone(place: Place) -> None:
    (place / "pictures").symlink_to("gone")


@bad("a class name that is not text")
def no_text(place: Place) -> None:
    try:
        (place / "photos/dam").rename(place / "photos" / os.fsdecode(b"d\xe4m"))
    except OSError:
        pytest.skip("this disk takes names that are text only")


@bad("the class folders of another classifier")
def other_classes(place: Place) -> None:
    place.images("pets", "cat", "dog")


@bad("a class folder that is a link to nothing")
def class_gone(place: Place) -> None:
    (place / "photos/cat").symlink_to("gone")


@bad("a pattern that matches nothing")
def no_match(place: Place) -> None:
    assert not list(place.folder.glob("new*"))


@bad("an empty list on standard input")
def no_list(place: Place) -> None:
    place.meanwhile.append(_standard_input(b"\n"))


@contextmanager
def _standard_input(content: bytes) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        yield
