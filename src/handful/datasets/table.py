"""A table, CSV or Parquet: one image and its label per row."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handful.datasets.csv_rows import csv_header, csv_rows
from handful.datasets.images import SPLIT_WORDS, ImageSource, LabelledImages
from handful.datasets.missing import refuse_missing, refuse_missing_images
from handful.datasets.parquet_rows import parquet_header, parquet_rows
from handful.errors import InputError

__all__ = ["TABLES", "read_table"]

TABLES = (".csv", ".parquet")
COLUMNS = ("image", "label", "split", "group")
MAX_ROWS = 5_000_000  # about 5 GB of memory: what is larger is no table of labels


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
    refuse_missing(table, "a table with columns image and label")
    if table.suffix.lower() == ".parquet":
        unit, columns = "row", _columns(table, parquet_header(table))
        rows = _rows(table, unit, columns, parquet_rows(table, columns))
    else:
        unit, columns = "line", _columns(table, csv_header(table))
        rows = _rows(table, unit, columns, csv_rows(table, columns))
    _refuse_repeated(table, unit, rows)
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


def _columns(table: Path, header: Sequence[str]) -> list[int | None]:
    """Return where in the header each of ``COLUMNS`` stands."""
    names = [cell.strip().lower() for cell in header]
    if missing := [name for name in ("image", "label") if name not in names]:
        found = ", ".join(f"'{cell.strip()}'" for cell in header) or "nothing"
        used = {";": "semicolons", "\t": "tabs"}
        wrong = [word for mark, word in used.items() if len(header) == 1 and mark in header[0]]
        hint = f"separate the cells with commas, not {wrong[0]}" if wrong else "name the columns"
        raise InputError(
            f"{table} has no column '{missing[0]}' (found {found}): {hint}, as in image,label."
        )
    for name in COLUMNS:
        if names.count(name) > 1:
            raise InputError(f"{table} has two columns '{name}': remove or rename one.")
    return [names.index(name) if name in names else None for name in COLUMNS]


def _rows(
    table: Path,
    unit: str,
    columns: Sequence[int | None],
    cells: Iterable[tuple[int, tuple[str, ...]]],
) -> list[_Row]:
    has_split, has_group = (column is not None for column in columns[2:])
    folder = str(table.parent)
    rows: list[_Row] = []
    for number, (image, label, word, group) in cells:
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
        if len(rows) > MAX_ROWS:
            raise InputError(f"{table} has too many rows: a table may have {MAX_ROWS:,}.")
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
