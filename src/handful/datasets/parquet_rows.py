"""The cells of a Parquet file, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handful.errors import InputError

__all__ = ["parquet_header", "parquet_rows"]

BATCH = 10_000  # rows in memory at a time


def parquet_header(table: Path) -> list[str]:
    """Return the names of the columns.

    Raises:
        InputError: the package pyarrow is missing, or the file is damaged or no Parquet file.
    """
    with _reading(table) as file:
        return list(file.schema_arrow.names)


def parquet_rows(
    table: Path, columns: Sequence[int | None]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield number (from 1) and chosen cells of each row; whole numbers become text.

    Args:
        table: the file.
        columns: positions of the cells to give; None gives an empty text.

    Raises:
        InputError: as ``parquet_header``; or a column holds pictures, or neither text nor whole
            numbers.
    """
    with _reading(table) as file:
        schema = file.schema_arrow
        chosen = [schema.names[column] for column in columns if column is not None]
        for name in chosen:
            _check_type(table, schema.field(name))
        number = 0
        for batch in file.iter_batches(BATCH, columns=chosen):
            # By name: the batch has the columns in the order of the file.
            texts = iter([_texts(batch.column(name)) for name in chosen])
            empty = [""] * batch.num_rows
            for cells in zip(
                *(empty if column is None else next(texts) for column in columns), strict=True
            ):
                number += 1
                yield number, cells


def _texts(cells: Any) -> list[str]:
    return ["" if cell is None else str(cell).strip() for cell in cells.to_pylist()]


def _check_type(table: Path, field: Any) -> None:
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if is_text or types.is_integer(kind) or types.is_null(kind):
        return
    if types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        raise InputError(
            f"{table} holds pictures in its column '{field.name}', but a table has their paths:"
            f" give it as a data set, hf:{table}."
        )
    raise InputError(
        f"{table}: its column '{field.name}' has type {field.type}: expected text or whole numbers."
    )


@contextmanager
def _reading(table: Path) -> Iterator[Any]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise InputError(
            f"{table} needs the package pyarrow: run pip install 'handful[parquet]', or save the"
            " table as CSV."
        ) from error
    try:
        stream = table.open("rb")
    except OSError as error:
        raise InputError(f"{table} cannot be read: {error.strerror}.") from error
    try:
        with stream, parquet.ParquetFile(stream) as file:
            yield file
    except (OSError, ArrowException, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"{table} is damaged or no Parquet file ({reason}): write it again."
        ) from error
