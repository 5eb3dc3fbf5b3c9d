"""Where handful keeps files, and how it writes them: whole or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from handful.errors import InputError

__all__ = ["cache_folder", "configuration_file", "new_file", "new_folder", "refuse_existing"]


def cache_folder() -> Path:
    """Return the folder of encoded features and converted weights (not created here).

    ``HANDFUL_CACHE`` moves it; otherwise it is the operating system's folder for caches.
    """
    named = os.environ.get("HANDFUL_CACHE")
    if named:
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "handful"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "handful"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "handful"


def configuration_file() -> Path:
    """Return the file in which the user may keep choices (it need not exist).

    ``HANDFUL_CONFIG`` names another; otherwise ``handful/config.toml`` in the operating system's
    folder for configurations.
    """
    named = os.environ.get("HANDFUL_CONFIG")
    if named:
        return Path(named).expanduser()
    if sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    elif sys.platform == "win32":
        folder = Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming"))
    else:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return folder / "handful" / "config.toml"


def refuse_existing(path: Path, *, overwrite: bool, folder: bool) -> None:
    """Raise where ``path`` cannot be written anew; verbs ask before the work, not after it.

    Args:
        path: file or folder to be written.
        overwrite: whether what is there may be replaced.
        folder: whether a folder will be written; a file never replaces a folder.

    Raises:
        InputError: something is there that will not be replaced, or nothing can be written there.
    """
    if not os.path.lexists(path):
        _refuse_unwritable(path)
        return
    if not overwrite:
        raise InputError(
            f"{path} exists already: give another name, or --force (overwrite=True) to overwrite "
            "it."
        )
    if path.is_dir() and not folder:
        raise InputError(f"{path} is a folder: give the name of a file.")


def _refuse_unwritable(path: Path) -> None:
    place = path.parent
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{path} cannot be written: {place} is not a folder; give another name.")
    if not os.access(place, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise InputError(
            f"{path} cannot be written: you may not write in {place}; give another name."
        )


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it there when the block ends well.

    Raises:
        InputError: ``path`` exists and ``overwrite`` is false, or it cannot be written.
    """
    refuse_existing(path, overwrite=overwrite, folder=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; rename it there when the block ends well.

    Raises:
        InputError: ``path`` exists and ``overwrite`` is false, or it cannot be written.
    """
    refuse_existing(path, overwrite=overwrite, folder=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.is_dir() and not path.is_symlink():
            _swap(temporary, path)
        else:
            path.unlink(missing_ok=True)
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    """Put ``new`` in the place of the folder ``path``, which comes back where that fails."""
    # A folder cannot replace a full one in a single step: the old one steps aside first.
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    try:
        path.replace(aside / path.name)
        try:
            new.replace(path)
        except BaseException:
            (aside / path.name).replace(path)
            raise
    except BaseException:
        with suppress(OSError):  # not empty where the old folder could not come back
            aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
