"""The results file: one JSON line per run, and one per source; written by several processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any

from filelock import FileLock, Timeout

from handful.errors import InputError
from handful.features.claims import new_owner, still_holds

__all__ = ["Results", "ResultsFile", "read_results"]

BEGINNING = b'{"kind": "'  # of every line


@dataclass(frozen=True)
class Results:
    """What a results file holds.

    Attributes:
        runs: by key; of two lines with one key the first counts.
        sources: by digest.
    """

    runs: dict[str, dict[str, Any]]
    sources: dict[str, dict[str, Any]]


def read_results(path: Path) -> Results:
    """Read a results file.

    Raises:
        InputError: it does not exist, or a line is damaged (but a last line without an end, of a
            run that was killed while writing, is passed over).
    """
    file = ResultsFile(path)
    if not path.exists():
        raise InputError(f"{path} does not exist: expected a file that 'handful bench run' wrote.")
    return file.read()


class ResultsFile:
    """A results file that several processes append to.

    Args:
        path: made when something is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owner = new_owner()
        self._lock = FileLock(f"{path}.lock")
        self._claims = path.with_name(path.name + ".claims")
        self._known = Results({}, {})
        self._place = 0  # in the file: the end of the last line that was read
        self._lines = 0

    def read(self) -> Results:
        """Read what is there now, only what is new since the last call; nothing without a file.

        Raises:
            InputError: a line is damaged, or the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._place)
                content = file.read()
        except FileNotFoundError:
            return self._known
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror or error}.") from error
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.split(b"\n")[:-1]:
            self._lines += 1
            if line.strip():
                self._keep(line)
        torn = content[len(whole) :][: len(BEGINNING)]
        if not BEGINNING.startswith(torn):
            raise self._no_result(self._lines + 1)
        self._place += len(whole)
        return self._known

    def _keep(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            kept, key = self._place_of(row)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._no_result(self._lines) from error
        kept.setdefault(key, row)

    def _place_of(self, row: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], str]:
        kept = {"run": self._known.runs, "source": self._known.sources}[row["kind"]]
        return kept, str(row["key" if row["kind"] == "run" else "digest"])

    def _no_result(self, line: int) -> InputError:
        return InputError(
            f"{self.path}, line {line}, is no line of results: remove it and run again, or give"
            " another file."
        )

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one line, whole; nothing where that run or source is there already.

        Raises:
            InputError: the file cannot be written.
        """
        line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        with self._locked():
            self.read()
            kept, key = self._place_of(row)
            if key in kept:
                return
            with self.path.open("ab+") as file:
                self._cut_torn_line(file)
                file.write(line.encode())

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Yield whether this process is to do the run: not if another one has begun it."""
        name = self._claims / sha256(key.encode()).hexdigest()[:32]
        mine = self._take(name)
        try:
            yield mine
        finally:
            if mine:
                name.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the lock file and the folder of claims, unless others are at work."""
        with suppress(OSError, Timeout), self._lock.acquire(timeout=0):
            for name in self._claims.glob("*"):
                if not self._holds(name):
                    name.unlink()
            if self._claims.exists():
                self._claims.rmdir()
            Path(self._lock.lock_file).unlink()

    def _take(self, name: Path) -> bool:
        with self._locked():
            if self._holds(name):
                return False
            self._claims.mkdir(exist_ok=True)
            name.write_text(self._owner)
        return True

    @staticmethod
    def _holds(name: Path) -> bool:
        try:
            return still_holds(name.read_text(), time() - name.stat().st_mtime)
        except (FileNotFoundError, ValueError):  # cut short: its writer was killed
            return False

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                yield
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written: {error.strerror or error}."
            ) from error

    @staticmethod
    def _cut_torn_line(file: Any) -> None:
        """Remove a last line without an end: its writer was killed."""
        size = file.seek(0, os.SEEK_END)
        while size:
            start = max(0, size - 65536)
            file.seek(start)
            content = file.read(size - start)
            if content.endswith(b"\n"):
                return
            cut = content.rfind(b"\n") + 1
            size = start + cut
            file.truncate(size)
            if cut:
                return
