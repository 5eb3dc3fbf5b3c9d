"""Tables as Markdown, as GitHub reads it."""

from __future__ import annotations

import re

from handful.benchmark.render.footnotes import about, footnotes, legend
from handful.benchmark.render.words import Entry, Grid, Interval, grids, heading
from handful.benchmark.summary import Summary

__all__ = ["escape", "render"]


def render(summary: Summary, interval: Interval) -> str:
    """Return all tables, each under a heading of the second level."""
    parts = []
    for table in summary.tables:
        parts += [f"## {escape(heading(table))}", escape(about(table, summary, interval))]
        for grid in grids(table, summary, interval):
            parts += [escape(grid.caption)] if grid.caption else []
            parts.append(_draw(grid))
        parts.append("\n".join(f"- {escape(note)}" for note in footnotes(table, summary)))
    parts.append("## How to read this")
    parts.append("\n".join(f"- {escape(note)}" for note in legend(summary)))
    return "\n\n".join(parts) + "\n"


def _draw(grid: Grid) -> str:
    lines = [
        _line(["method", *grid.columns]),
        "|---|" + "---:|" * len(grid.columns),
        *(_line([escape(label), *map(_entry, entries)]) for label, entries in grid.rows),
    ]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _entry(entry: Entry) -> str:
    return f"**{escape(entry.text)}**" if entry.best else escape(entry.text)


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$!])", r"\\\1", " ".join(text.split()))
