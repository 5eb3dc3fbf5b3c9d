"""Where handful keeps files, and how it writes them: whole or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handful.errors import InputError

__all__ = ["cache_folder", "new_file", "new_folder"]


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


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it there when the block ends well.

    Raises:
        InputError: ``path`` exists and ``overwrite`` is false, or its folder cannot be written.
    """
    _refuse_existing(path, overwrite)
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
        InputError: ``path`` exists and ``overwrite`` is false, or its parent cannot be written.
    """
    _refuse_existing(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.is_dir() and not path.is_symlink():
            # A folder cannot replace a full one in a single step: the old one steps aside first.
            aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            path.replace(aside / path.name)
            temporary.replace(path)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise InputError(
            f"{path} exists already: give another name, or --force (force=True) to overwrite it."
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
