"""Tables whose cells are texts already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["TextTable", "markdown"]


@dataclass(frozen=True)
class TextTable:
    """A table of texts under a title, with what its columns mean."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def markdown(tables: Iterable[TextTable]) -> str:
    """Return the tables in Markdown."""
    parts = []
    for one in tables:
        rows = (one.header, ["---"] * len(one.header), *one.rows)
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        parts.append(f"## {one.title}\n\n{one.note}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)
