"""The image files that a user names: files, folders, patterns, or a list on standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from handful.datasets.folder import find_images, image_files
from handful.datasets.missing import exists
from handful.errors import InputError

__all__ = ["LIST", "images_named"]

LIST = "-"


def images_named(names: Sequence[str], listed: BinaryIO) -> list[Path]:
    """Return the image files that are named, in that order.

    A name is a file (whatever its suffix), a folder (all images in it), or a pattern with ``*``,
    ``?`` and ``[…]``, which gives what a shell would give, sorted; after ``**``, the images at any
    depth whose path ends so. A file that is really called like a pattern goes before it. ``-``
    stands for a list of files and folders, one per line, or each ended by a zero byte.

    Args:
        names: what the user typed.
        listed: where the list comes from, read only where ``-`` is among the names.

    Raises:
        InputError: nothing is there, a folder has no images, a pattern matches nothing, or the list
            is empty.
    """
    found: list[Path] = []
    for name in names:
        if name == LIST:
            found += find_images(_read_list(listed))
        elif glob.has_magic(name) and not exists(Path(name)):
            found += find_images(_matches(name))
        else:
            found += find_images([Path(name)])
    return found


def _matches(pattern: str) -> list[Path]:
    parts = Path(os.path.expanduser(pattern)).parts  # noqa: PTH111 - pathlib's raises for ~nobody
    if "**" in parts:
        at = parts.index("**")
        rest = str(Path(*parts[at + 1 :])) if parts[at + 1 :] else "*"
        # Not by glob, which would go round a circle of links.
        matches = [
            image
            for folder in _glob(Path(*parts[:at]))
            if folder.is_dir()
            for image in image_files(folder)
            if image.relative_to(folder).match(rest)
        ]
    else:
        matches = _glob(Path(*parts))
    if not matches:
        raise InputError(
            f"nothing matches '{pattern}': expected an image file, a folder of images, or a pattern"
            " such as 'new/*.jpg'."
        )
    return matches


def _glob(pattern: Path) -> list[Path]:
    # Pathlib's would match hidden files, and needs a folder to start from.
    return [Path(match) for match in sorted(glob.glob(str(pattern)))]  # noqa: PTH207


def _read_list(listed: BinaryIO) -> list[Path]:
    content = listed.read().removeprefix(b"\xef\xbb\xbf")
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    places = [Path(os.fsdecode(line)) for line in lines if line.strip()]
    if not places:
        raise InputError("standard input lists no images: expected one path per line.")
    return places
