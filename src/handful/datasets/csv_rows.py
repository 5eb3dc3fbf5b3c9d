"""The cells of a CSV file, line by line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handful.errors import InputError

__all__ = ["csv_header", "csv_rows"]

MAX_BYTES = 512 * 2**20  # five million long lines: a larger file is not a table of labels


def csv_header(table: Path) -> list[str]:
    """Return the cells of the first line; none of an empty file.

    Raises:
        InputError: the file cannot be read, or is not CSV in UTF-8.
    """
    with _reading(table) as reader:
        return next(reader, [])


def csv_rows(table: Path, columns: Sequence[int | None]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield number and chosen cells of each line below the header, without its blank lines.

    Args:
        table: the file, comma-separated, UTF-8.
        columns: positions of the cells to give; None gives an empty text.

    Raises:
        InputError: not CSV in UTF-8, or a line has more cells than the header.
    """
    with _reading(table) as reader:
        width = len(next(reader, []))
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            if any(map(str.strip, cells[width:])):
                raise InputError(
                    f"{table}, line {reader.line_num}, has {len(cells)} cells but the header has"
                    f' {width}: put a text that contains a comma in quotes, like "black, white".'
                )
            count = len(cells)
            yield (
                reader.line_num,
                tuple(
                    cells[column].strip() if column is not None and column < count else ""
                    for column in columns
                ),
            )


@contextmanager
def _reading(table: Path) -> Iterator[Any]:
    try:
        size = table.stat().st_size
        if size > MAX_BYTES:
            raise InputError(
                f"{table} has {size / 2**20:,.0f} MiB: a table may have {MAX_BYTES // 2**20} MiB."
            )
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            try:
                yield reader
            except csv.Error as error:
                raise InputError(
                    f"{table}, line {reader.line_num}, is not CSV ({error}):"
                    " save it again as CSV (UTF-8)."
                ) from error
    except OSError as error:
        raise InputError(f"{table} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{table}, line {_first_undecodable(table)}, is not UTF-8:"
            " save it again as CSV (UTF-8)."
        ) from error


def _first_undecodable(table: Path) -> int:
    """Return the number of the line; the stream that failed has read ahead of it."""
    with table.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1
