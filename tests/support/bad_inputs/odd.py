"""Inputs that look wrong and are not: they go all the way from ``fit`` to ``predict``.

Each makes what ``fit`` is given and returns its name and its classes.
"""

from __future__ import annotations

import os
import shutil

import pytest
from bad_inputs.place import CLASSES, Place, bad

LONG = "a very long name " * 300
Given = tuple[str, tuple[str, ...]]


def _renamed(place: Place, *names: str) -> Given:
    """Give the three class folders other names."""
    for old, new in zip(CLASSES, names, strict=True):
        try:
            (place / "photos" / old).rename(place / "photos" / new)
        except OSError:
            pytest.skip("this disk does not take such a name")
    return "photos", names


def _labelled(place: Place, *names: str) -> Given:
    """Give the three classes other names in a table."""
    quoted = ('"' + name.replace('"', '""') + '"' for name in names)
    place.table(*place.whole_table(**dict(zip(CLASSES, quoted, strict=True))))
    return "table.csv", names


@bad("class names that are numbers")
def numbers(place: Place) -> Given:
    return _renamed(place, "0", "-1", "2.5")


@bad("class names in any writing")
def unicode(place: Place) -> Given:
    return _renamed(place, "дамба", "魚", "🌬️ طاحونة")


@bad("class names of 250 letters")
def long_folders(place: Place) -> Given:
    return _renamed(place, "a" * 250, "b" * 250, "a" * 249 + "b")


@bad("class names of 5,000 letters")
def long_labels(place: Place) -> Given:
    return _labelled(place, LONG + "dam", LONG + "fish", "windmill")


@bad("class names with slashes")
def slashes(place: Place) -> Given:
    return _labelled(place, "wet/dam", "../fish", "/wind\\mill")


@bad("class names of signs")
def signs(place: Place) -> Given:
    return _labelled(place, "{}", '[red]"dam"[/red]', "--fish | $(ls)")


@bad("class names that begin with a dash, or end in a dot")
def dashes(place: Place) -> Given:
    return _renamed(place, "--strict", "fish.", "windmill.jpg")


@bad("class names of two lines")
def two_lines(place: Place) -> Given:
    return _labelled(place, "dam\nof stone", "fish", "windmill")


@bad("paths with blanks, quotes and line breaks")
def strange_paths(place: Place) -> Given:
    strange = 'photos/dam/it\'s "new"\n %41 ünï.webp'
    try:
        place.photographs("dam")[0].rename(place / strange)
        (place / "photos").rename(place / "my 'photos' [1]*")
    except OSError:
        pytest.skip("this disk does not take such a name")
    return "my 'photos' [1]*", CLASSES


@bad("upper-case endings")
def upper_case(place: Place) -> Given:
    for path in (place / "photos").glob("*/*.webp"):
        path.rename(path.with_suffix(".WebP"))
    return "photos", CLASSES


@bad("what operating systems leave in folders")
def left_behind(place: Place) -> Given:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._dam1.webp", ".hidden/1.webp"):
        place.write(f"photos/dam/{name}", b"\0\0")
    for name in ("__MACOSX/dam/._dam1.webp", "@eaDir/1.webp", ".git/config", "notes.txt"):
        place.write(f"photos/{name}", b"\0\0")
    return "photos", CLASSES


@bad("a folder of images that cannot be written")
def read_only(place: Place) -> Given:
    for name in ("photos", *(f"photos/{name}" for name in CLASSES)):
        place.forbid(name, 0o555)
    return "photos", CLASSES


@bad("class folders and images that are links")
def links(place: Place) -> Given:
    (place / "photos/fish").rename(place / "elsewhere")
    (place / "photos/fish").symlink_to(place / "elsewhere")
    first = place.photographs("dam")[0]
    first.rename(place / "picture")
    first.symlink_to(place / "picture")
    return "photos", CLASSES


@bad("a link that leads back up")
def back_up(place: Place) -> Given:
    (place / "photos/dam/up").symlink_to(place / "photos")
    (place / "photos/fish/here").symlink_to(place / "photos/fish")
    return "photos", CLASSES


@bad("a folder named like an image")
def folder_like_image(place: Place) -> Given:
    (place / "photos/dam/best.jpg").mkdir()
    first = place.photographs("dam")[-1]
    first.rename(place / "photos/dam/best.jpg" / first.name)
    return "photos", CLASSES


@bad("an image with the ending of another format")
def other_ending(place: Place) -> Given:
    first = place.photographs("dam")[0]
    first.rename(first.with_suffix(".png"))
    return "photos", CLASSES


@bad("the same photograph under two names")
def copies(place: Place) -> Given:
    shutil.copy(place.photographs("dam")[0], place / "photos/dam/copy.webp")
    return "photos", CLASSES


@bad("a table with a byte order mark, and line ends of Windows")
def from_windows(place: Place) -> Given:
    lines = ["Image,Label", *place.whole_table(), ""]
    place.write("table.csv", "\r\n".join(lines).encode("utf-8-sig"))
    return "table.csv", CLASSES


@bad("a table with other columns, blank lines and blanks around")
def untidy(place: Place) -> Given:
    lines = [line.replace(",", " , ") + ",by me" for line in place.whole_table()]
    place.table(*lines[:4], "", ",,", *lines[4:], header=" IMAGE , label,who")
    return "table.csv", CLASSES


@bad("a table with whole paths")
def whole_paths(place: Place) -> Given:
    place.table(*(f"{place.folder}/{line}" for line in place.whole_table()))
    return "table.csv", CLASSES


@bad("file names that are not text")
def no_text(place: Place) -> Given:
    first = place.photographs("dam")[0]
    try:
        first.rename(first.with_name(os.fsdecode(b"d\xe4m.webp")))
    except OSError:
        pytest.skip("this disk takes names that are text only")
    return "photos", CLASSES
