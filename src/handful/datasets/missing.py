"""What to say when a file or folder is not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from handful.errors import InputError, did_you_mean

__all__ = ["exists", "file_size", "refuse_missing", "refuse_missing_images"]


def refuse_missing(path: Path, what: str) -> None:
    """Raise unless ``path`` exists; suggest the nearest name beside the part that is missing.

    Args:
        path: file or folder that must exist.
        what: what was expected there, for the sentence.

    Raises:
        InputError: nothing is at ``path``.
    """
    if exists(path):
        return
    if os.path.islink(path):  # noqa: PTH114 - pathlib's raises for a name that is too long
        raise InputError(f"{path} is a link that leads nowhere: expected {what}; mend the link.")
    lost = path
    while not exists(lost.parent) and lost.parent != lost:
        lost = lost.parent
    try:
        beside = [entry.name for entry in lost.parent.iterdir() if not entry.name.startswith(".")]
    except OSError:
        beside = []
    where = "" if lost == path else f" (there is no {lost})"
    hint = did_you_mean(lost.name, beside)
    raise InputError(f"{path} does not exist{where}: expected {what}.{hint}")


def file_size(path: Path, what: str, most: int) -> int:
    """Return the bytes of a file that may be read at once.

    Args:
        path: the file.
        what: what was expected there, for the sentence.
        most: bytes that it may have.

    Raises:
        InputError: it is missing, no file (a pipe would never end), or larger.
    """
    refuse_missing(path, what)
    try:
        size = path.stat().st_size
        regular = path.is_file()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if not regular:
        raise InputError(f"{path} is a folder, a pipe or a device: expected {what}.")
    if size > most:
        raise InputError(
            f"{path} has {size / 2**20:,.0f} MiB: expected {what}, which has {most / 2**20:,.0f}"
            " MiB at most."
        )
    return size


def refuse_missing_images(paths: Sequence[Path], listed_in: Path, root: Path) -> None:
    """Raise unless every path is a file; name the first three that are not.

    Args:
        paths: image files, ``root`` included.
        listed_in: the file that lists them, for the sentence.
        root: the folder that the listed paths are relative to, for the sentence.

    Raises:
        InputError: at least one is missing.
    """
    # Not pathlib's is_file, which raises for a name that is too long.
    missing = [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113
    if missing:
        named = ", ".join(str(path) for path in missing[:3]) + (", …" if len(missing) > 3 else "")
        raise InputError(
            f"{len(missing)} of {len(paths)} images in {listed_in} do not exist: {named};"
            f" its paths are relative to the folder '{root}'."
        )


def exists(path: Path) -> bool:
    """Return whether anything is at ``path``; false, never an error, for an impossible name."""
    return os.path.exists(path)  # noqa: PTH110 - pathlib's raises for a name that is too long
