"""A CSV table: one image and its label per line."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handful.datasets.images import SPLIT_WORDS, ImageSource, LabelledImages
from handful.datasets.missing import refuse_missing, refuse_missing_images
from handful.errors import InputError

__all__ = ["read_table"]

MAX_BYTES = 64 * 2**20  # about a million lines: a larger file is not a table of labels


@dataclass(frozen=True)
class _Row:
    line: int
    path: Path
    label: str
    split: str
    group: str


def read_table(table: Path, *, to_learn: bool = True) -> ImageSource:
    """Read a CSV file with columns ``image`` and ``label``, and maybe ``split`` and ``group``.

    UTF-8, comma-separated, first line the column names (in any case); other columns are ignored.
    Paths are relative to the table's folder. ``split`` is train, val or test (or one of their
    usual synonyms); an image with an empty ``group`` is a group of its own. Classes are the sorted
    labels; the order of the lines is kept.

    Args:
        table: the file.
        to_learn: see :class:`~handful.datasets.images.ImageSource`.

    Raises:
        InputError: missing, too large, not UTF-8, not CSV, columns missing, a line without image or
            label, an unknown split, an image with two labels, an image file that does not exist, no
            lines; where ``to_learn``, only one class or a class without training images.
    """
    rows = _rows(table)
    if not rows:
        raise InputError(f"{table} has no rows below its header: add one line per image.")
    _refuse_two_labels(table, rows)
    refuse_missing_images([row.path for row in rows], table, table.parent)
    names = tuple(sorted({row.label for row in rows}))
    label_of = {name: label for label, name in enumerate(names)}
    images = LabelledImages(
        tuple(row.path for row in rows),
        np.array([label_of[row.label] for row in rows], dtype=np.int64),
        names,
        tuple(row.group for row in rows) if any(row.group for row in rows) else None,
    )
    members: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for index, row in enumerate(rows):
        members[row.split].append(index)
    return ImageSource(
        images.take(members["train"]),
        images.take(members["validation"]) if members["validation"] else None,
        images.take(members["test"]) if members["test"] else None,
        str(table),
        to_learn,
    )


def _rows(table: Path) -> list[_Row]:
    reader = csv.reader(io.StringIO(_text(table), newline=""), strict=True)
    try:
        columns = _columns(table, next(reader, []))
        return [
            _row(table, reader.line_num, columns, cells)
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error as error:
        raise InputError(
            f"{table}, line {reader.line_num}, is not CSV ({error}): save it again as CSV (UTF-8)."
        ) from error


def _text(table: Path) -> str:
    refuse_missing(table, "a CSV table with columns image and label")
    try:
        size = table.stat().st_size
        if size > MAX_BYTES:
            raise InputError(
                f"{table} has {size / 2**20:.0f} MiB: a table may have {MAX_BYTES // 2**20} MiB."
            )
        return table.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{table} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{table} is not UTF-8 (byte {error.start}): save it again as CSV (UTF-8)."
        ) from error


def _columns(table: Path, header: list[str]) -> list[str]:
    columns = [cell.strip().lower() for cell in header]
    if missing := [name for name in ("image", "label") if name not in columns]:
        found = ", ".join(f"'{cell.strip()}'" for cell in header) or "nothing"
        used = {";": "semicolons", "\t": "tabs"}
        wrong = [word for mark, word in used.items() if len(header) == 1 and mark in header[0]]
        hint = f"separate the cells with commas, not {wrong[0]}" if wrong else "name the columns"
        raise InputError(
            f"{table} has no column '{missing[0]}' in its first line (found {found}):"
            f" {hint}, as in image,label."
        )
    for name in ("image", "label", "split", "group"):
        if columns.count(name) > 1:
            raise InputError(f"{table} has two columns '{name}': remove or rename one.")
    return columns


def _row(table: Path, line: int, columns: list[str], cells: list[str]) -> _Row:
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise InputError(
            f"{table}, line {line}, has {len(cells)} cells but the header has {len(columns)}:"
            ' put a text that contains a comma in quotes, like "black, white".'
        )
    cell = dict(zip(columns, (text.strip() for text in cells), strict=False))
    for name in ("image", "label"):
        if not cell.get(name):
            raise InputError(
                f"{table}, line {line}, has no {name}: fill it in, or remove the line."
            )
    word = cell.get("split", "") if "split" in columns else "train"
    if word.lower() not in SPLIT_WORDS:
        raise InputError(f"{table}, line {line}, has split '{word}': expected train, val or test.")
    group = cell.get("group", "")
    if "group" in columns and not group:
        group = f"{table.name}, line {line}"
    return _Row(line, table.parent / cell["image"], cell["label"], SPLIT_WORDS[word.lower()], group)


def _refuse_two_labels(table: Path, rows: list[_Row]) -> None:
    first: dict[Path, _Row] = {}
    for row in rows:
        other = first.setdefault(row.path, row)
        if other.label != row.label:
            raise InputError(
                f"{table}, line {row.line}, labels {row.path} '{row.label}', but line {other.line}"
                f" labels it '{other.label}': an image has one label."
            )
