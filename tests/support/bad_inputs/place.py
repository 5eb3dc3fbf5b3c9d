"""Where a bad input is made, and the list of those who make them.

``docs/bad-inputs.md`` and these builders are one list: a builder is found by the first cell of a
row of the page. ``tests/cli/test_bad_inputs.py`` makes each bad input in a fresh folder, runs the
command of the row there and compares the answer.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["BUILDERS", "Builder", "Place", "bad"]

CLASSES = ("dam", "fish", "windmill")


@dataclass(frozen=True)
class Place:
    """The folder in which a command of the page will run.

    It holds ``photos``, three photographs of each of three classes; ``things``, a classifier fitted
    on them; and ``photos.safetensors``, their features.

    Attributes:
        folder: the folder.
        tiny: gives the folder of a tiny checkpoint, see ``tiny_models``; not to be changed.
        meanwhile: what holds while the command runs, and no longer.
        afterwards: what is undone at the end.
    """

    folder: Path
    tiny: Callable[[str], Path]
    meanwhile: list[AbstractContextManager[None]]
    afterwards: ExitStack

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file and the folders above it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def images(self, folder: str, *names: str, each: int = 2) -> None:
        """Make a folder of class folders: photographs of another class in each."""
        for number, name in enumerate(names):
            target = self.folder / folder / name
            target.mkdir(parents=True)
            for path in self.photographs(CLASSES[number % 3])[:each]:
                shutil.copy(path, target)

    def photographs(self, name: str) -> list[Path]:
        """Return the photographs of a class."""
        return sorted((self.folder / "photos" / name).iterdir())

    def table(self, *lines: str, header: str = "image,label", encoding: str = "utf-8") -> Path:
        """Write ``table.csv``."""
        return self.write("table.csv", "\n".join([header, *lines, ""]).encode(encoding))

    def whole_table(self, **labels: str) -> list[str]:
        """Return the lines of a table of all photographs, with other labels where given."""
        return [
            f"{path.relative_to(self.folder).as_posix()},{labels.get(name, name)}"
            for name in CLASSES
            for path in self.photographs(name)
        ]

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Hold what ``meanwhile`` lists."""
        with ExitStack() as stack:
            for context in self.meanwhile:
                stack.enter_context(context)
            yield

    def forbid(self, name: str, mode: int = 0) -> None:
        """While the command runs, ``name`` has this mode, and it holds for root too."""
        self.meanwhile.append(_forbidden(self.folder / name, mode))

    def files_end_at(self, size: int) -> None:
        """While the command runs, no file can grow beyond ``size`` bytes."""
        self.meanwhile.append(_files_end_at(size))

    def full_disk(
        self, name: str, size: str = "64k", first: Callable[[], object] = lambda: None
    ) -> None:
        """Make a folder on a disk of its own, do something first, and fill it."""
        (self.folder / name).mkdir()
        self.afterwards.enter_context(_small_disk(self.folder / name, size))
        first()
        with suppress(OSError), (self.folder / name / "filling").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass


Builder = Callable[[Place], object]
BUILDERS: dict[str, Builder] = {}


def bad(what: str) -> Callable[[Builder], Builder]:
    """Enter the function that makes a bad input, by the first cell of its rows."""

    def enter(builder: Builder) -> Builder:
        assert what not in BUILDERS, f"two builders for {what!r}"
        BUILDERS[what] = builder
        return builder

    return enter


@contextmanager
def _forbidden(path: Path, mode: int) -> Iterator[None]:
    if sys.platform == "win32":
        pytest.skip("permission bits mean little here")
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        with _like_everybody():
            yield
    finally:
        path.chmod(before)


@contextmanager
def _like_everybody() -> Iterator[None]:
    """Take from root what lets it pass where permission bits forbid it."""
    if os.geteuid() != 0:
        yield
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("root may read and write everything here")
    libc = ctypes.CDLL(None, use_errno=True)
    # The third version of the interface: two times effective, permitted, inheritable.
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    before = sets[0]
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: effective no more, but permitted
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0


@contextmanager
def _files_end_at(size: int) -> Iterator[None]:
    if sys.platform == "win32":
        pytest.skip("needs a limit on the size of files")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "none", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
