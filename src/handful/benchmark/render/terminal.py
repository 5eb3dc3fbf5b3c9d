"""Tables for a terminal, or as plain text."""

from __future__ import annotations

import io
import textwrap

from handful.benchmark.render.footnotes import about, footnotes, legend
from handful.benchmark.render.words import Entry, Grid, Interval, grids, heading
from handful.benchmark.summary import Summary

__all__ = ["render"]

WIDTH_OF_TEXT = 80


def render(
    summary: Summary, interval: Interval, *, width: int | None = None, styled: bool = False
) -> str:
    """Return all tables as text.

    Args:
        summary: what to show.
        interval: what stands behind ±.
        width: of the terminal: columns that do not fit come below. None: one line for each row.
        styled: whether to set the best in bold, for a terminal; it has an asterisk anyway.
    """

    def wrapped(text: str, indent: str = "") -> str:
        narrow = min(width or WIDTH_OF_TEXT, WIDTH_OF_TEXT)
        return textwrap.fill(text, narrow, subsequent_indent=indent, break_on_hyphens=False)

    parts = []
    for table in summary.tables:
        parts += [wrapped(heading(table)), wrapped(about(table, summary, interval)), ""]
        for grid in grids(table, summary, interval):
            if grid.caption:
                parts += [grid.caption, ""]
            for part in _fitting(grid, width):
                parts += [_draw(part, styled), ""]
        parts += [wrapped(note, "  ") for note in footnotes(table, summary)]
        parts += ["", ""]
    parts += [wrapped(note, "  ") for note in legend(summary)]
    return "\n".join(parts) + "\n"


def _text(entry: Entry) -> str:
    return entry.text + ("*" if entry.best else "")


def _fitting(grid: Grid, width: int | None) -> list[Grid]:
    """Cut a grid where it is too wide: averages go below cells, then what still does not fit."""
    label = max(len(label) for label, _ in grid.rows)
    widths = [
        2 + max(len(name), *(len(_text(entries[i])) for _, entries in grid.rows))
        for i, name in enumerate(grid.columns)
    ]
    if width is None or label + sum(widths) <= width:
        return [grid]
    parts: list[list[int]] = []
    for i, k in enumerate(grid.shots):
        full = parts and label + sum(widths[j] for j in [*parts[-1], i]) > width
        if not parts or full or (k is None and grid.shots[i - 1] is not None):
            parts.append([])
        parts[-1].append(i)
    return [_columns(grid, part) for part in parts]


def _columns(grid: Grid, which: list[int]) -> Grid:
    rows = tuple((label, tuple(entries[i] for i in which)) for label, entries in grid.rows)
    names = tuple(grid.columns[i] for i in which)
    return Grid(grid.caption, names, tuple(grid.shots[i] for i in which), rows)


def _draw(grid: Grid, styled: bool) -> str:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    drawn.add_column("method", no_wrap=True)
    for name in grid.columns:
        drawn.add_column(name, justify="right", no_wrap=True)
    for label, entries in grid.rows:
        cells = [Text(_text(entry), "bold" if entry.best else "") for entry in entries]
        drawn.add_row(Text(label), *cells)
    out = io.StringIO()
    console = Console(
        file=out, width=1000, force_terminal=styled, no_color=not styled, highlight=False
    )
    console.print(drawn)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
