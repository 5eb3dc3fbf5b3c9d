"""The images inside a data set of the package ``datasets``, as files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from handful.errors import InputError
from handful.paths import cache_folder, new_file
from handful.progress import progress

__all__ = ["DatasetImages"]


class DatasetImages(Sequence[Path]):
    """Paths of the images of a data set; what is embedded in it becomes a file when asked for.

    So the images of a split that nobody looks at, and those that a few-shot sampler does not draw,
    cost nothing. The files lie in the cache folder under the SHA-256 of their content: those that
    are there are not written again, and equal images are one file.

    Args:
        rows: of the package ``datasets``.
        column: its images, not decoded: ``{"bytes": …, "path": …}``.
        name: of the rows, for errors.
    """

    def __init__(self, rows: Any, column: str, name: str) -> None:
        self._rows = rows.select_columns([column])
        self._column = column
        self._name = name
        self._files: dict[int, Path] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Path, ...]: ...
    def __getitem__(self, index: int | slice) -> Path | tuple[Path, ...]:
        chosen = range(len(self))[index]
        return self.take(chosen) if isinstance(chosen, range) else self.take([chosen])[0]

    def take(self, rows: Sequence[int]) -> tuple[Path, ...]:
        """Return the files of some rows.

        Raises:
            InputError: a row has no image, or its file cannot be written.
        """
        missing = [row for row in rows if row not in self._files]
        with progress("reading images", len(missing)) as advance:
            for row in missing:
                self._files[row] = self._file(row)
                advance(1)
        return tuple(self._files[row] for row in rows)

    def _file(self, row: int) -> Path:
        image = self._rows[row][self._column] or {}
        content, path = image.get("bytes"), image.get("path") or ""
        if content:
            suffix = re.search(r"\.[a-z0-9]{1,5}$", path.lower())  # for people: not needed to read
            return _stored(content, suffix[0] if suffix else "")
        if not path:
            raise InputError(f"{self._name}: row {row + 1} has no image: leave it out of the data.")
        return Path(path)


def _stored(content: bytes, suffix: str) -> Path:
    digest = hashlib.sha256(content).hexdigest()
    path = cache_folder() / "images" / digest[:2] / (digest + suffix)
    try:
        # The size shows what a machine that lost its power left behind.
        if not (path.is_file() and path.stat().st_size == len(content)):
            with new_file(path, overwrite=True) as file:
                file.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}): make room, or set HANDFUL_CACHE"
            " to a folder on another disk."
        ) from error
    return path
