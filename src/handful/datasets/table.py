"""A table, CSV or Parquet: one image and its label per row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handful.datasets.csv_rows import csv_header, csv_rows
from handful.datasets.images import SPLIT_WORDS, ImageSource, LabelledImages
from handful.datasets.missing import refuse_missing, refuse_missing_images
from handful.datasets.parquet_rows import parquet_header, parquet_rows
from handful.errors import InputError

__all__ = ["TABLES", "Cells", "read_table", "table_cells"]

TABLES = (".csv", ".parquet")
MAX_ROWS = 5_000_000  # about 5 GB of memory: what is larger is no table of labels


class Cells(NamedTuple):
    """The chosen cells of a table.

    Attributes:
        unit: what a row is called in this format: line or row.
        rows: number and cells of each.
        has: for each of the chosen columns whether the table has it; its cells are empty if not.
    """

    unit: str
    rows: Iterator[tuple[int, tuple[str, ...]]]
    has: tuple[bool, ...]


class _Row(NamedTuple):
    number: int
    path: Path
    label: str
    split: str
    group: str


def read_table(table: Path, *, to_learn: bool = True) -> ImageSource:
    """Read a file with columns ``image`` and ``label``, and maybe ``split`` and ``group``.

    CSV in UTF-8, comma-separated, first line the column names; or Parquet (``.parquet``, extra
    ``parquet``), columns of text or whole numbers. Names of columns are in any case; other columns
    are ignored. Paths are relative to the table's folder. ``split`` is train, val or test (or one
    of their usual synonyms); an image with an empty ``group`` is a group of its own. Classes are
    the sorted labels; the order of the rows is kept.

    Args:
        table: the file.
        to_learn: see :class:`~handful.datasets.images.ImageSource`.

    Raises:
        InputError: missing, too large, of another format, columns missing, a row without image or
            label, an unknown split, an image with two labels or twice in a split, an image file
            that does not exist, no rows; where ``to_learn``, only one class or a class without
            training images.
    """
    cells = table_cells(table, ("image", "label"), ("split", "group"))
    rows = _rows(table, cells)
    _refuse_repeated(table, cells.unit, rows)
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
    del rows
    return ImageSource(
        images.take(members["train"]),
        images.take(members["validation"]) if members["validation"] else None,
        images.take(members["test"]) if members["test"] else None,
        str(table),
        to_learn,
    )


def table_cells(table: Path, needed: Sequence[str], others: Sequence[str]) -> Cells:
    """Return the cells of some columns of a table, CSV or Parquet.

    Args:
        table: the file.
        needed: names of columns that it must have, in small letters.
        others: of columns that it may have.

    Raises:
        InputError: missing, too large, of another format, or without a column that is needed;
            while they are read, that a row is none or that there are too many.
    """
    refuse_missing(table, f"a table with columns {' and '.join(needed)}")
    if table.suffix.lower() == ".parquet":
        columns = _columns(table, parquet_header(table), needed, others)
        unit, rows = "row", parquet_rows(table, columns)
    else:
        columns = _columns(table, csv_header(table), needed, others)
        unit, rows = "line", csv_rows(table, columns)
    has = tuple(column is not None for column in columns)
    return Cells(unit, _no_more(table, rows), has)


def _no_more(
    table: Path, rows: Iterator[tuple[int, tuple[str, ...]]]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    for count, row in enumerate(rows, start=1):
        if count > MAX_ROWS:
            raise InputError(f"{table} has too many rows: a table may have {MAX_ROWS:,}.")
        yield row


def _columns(
    table: Path, header: Sequence[str], needed: Sequence[str], others: Sequence[str]
) -> list[int | None]:
    """Return where in the header each of the names stands."""
    names = [cell.strip().lower() for cell in header]
    if missing := [name for name in needed if name not in names]:
        found = ", ".join(f"'{cell.strip()}'" for cell in header) or "nothing"
        used = {";": "semicolons", "\t": "tabs"}
        wrong = [word for mark, word in used.items() if len(header) == 1 and mark in header[0]]
        hint = f"separate the cells with commas, not {wrong[0]}" if wrong else "name the columns"
        raise InputError(
            f"{table} has no column '{missing[0]}' (found {found}): {hint}, as in"
            f" {','.join(needed)}."
        )
    wanted = (*needed, *others)
    for name in wanted:
        if names.count(name) > 1:
            raise InputError(f"{table} has two columns '{name}': remove or rename one.")
    return [names.index(name) if name in names else None for name in wanted]


def _rows(table: Path, cells: Cells) -> list[_Row]:
    unit, (*_, has_split, has_group) = cells.unit, cells.has
    folder = str(table.parent)
    rows: list[_Row] = []
    for number, (image, label, word, group) in cells.rows:
        if not (image and label):
            raise InputError(
                f"{table}, {unit} {number}, has no {'label' if image else 'image'}:"
                f" fill it in, or remove the {unit}."
            )
        split = SPLIT_WORDS.get(word.lower()) if has_split else "train"
        if split is None:
            raise InputError(
                f"{table}, {unit} {number}, has split '{word}': expected train, val or test."
            )
        if has_group and not group:
            group = f"{table.name}, {unit} {number}"
        # Twice as fast as pathlib's own way to join, which counts for a million rows.
        path = Path(os.path.join(folder, image))  # noqa: PTH118
        rows.append(_Row(number, path, label, split, group))
    if not rows:
        raise InputError(f"{table} has no rows: add one {unit} per image.")
    return rows


def _refuse_repeated(table: Path, unit: str, rows: Sequence[_Row]) -> None:
    first: dict[Path, _Row] = {}
    for row in rows:
        other = first.setdefault(row.path, row)
        if other is row:
            continue
        if other.label != row.label:
            raise InputError(
                f"{table}, {unit} {row.number}, labels {row.path} '{row.label}', but {unit}"
                f" {other.number} labels it '{other.label}': an image has one label."
            )
        if other.split == row.split:  # two splits: ImageSource refuses that of any source
            raise InputError(
                f"{table}, {unit} {row.number}, repeats {row.path} of {unit} {other.number}:"
                " remove one of the two."
            )
