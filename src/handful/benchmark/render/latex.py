"""Tables as LaTeX, for the package booktabs."""

from __future__ import annotations

import re

from handful.benchmark.render.footnotes import about, footnotes, legend
from handful.benchmark.render.words import Entry, Grid, Interval, grids, heading
from handful.benchmark.summary import Summary, Table

__all__ = ["escape", "render"]

# A bracket or an asterisk at the start of a row would be read as an argument of the \\ before it.
SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "[": "{[}", "]": "{]}", "*": "{*}",
    "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≥": r"$\geq$", "α": r"$\alpha$", "β": r"$\beta$",
    "–": "--", "…": r"\ldots{}", "†": r"\dag{}", "‡": r"\ddag{}",
}  # fmt: skip


def render(summary: Summary, interval: Interval) -> str:
    """Return all tables, each a float with its caption, and what holds for all as a paragraph."""
    parts = [r"% Needs \usepackage{booktabs} and \usepackage[T1]{fontenc}."]
    for table in summary.tables:
        for grid in grids(table, summary, interval):
            parts.append(_draw(grid, table, summary, interval))
        if not table.lines:
            parts.append(escape(f"{heading(table)}. {' '.join(footnotes(table, summary))}"))
    parts.append("\n\n".join(escape(note) for note in legend(summary)))
    return "\n\n".join(parts) + "\n"


def _draw(grid: Grid, table: Table, summary: Summary, interval: Interval) -> str:
    title = f"{heading(table)}. {f'{grid.caption}. ' if grid.caption else ''}"
    notes = [] if grid.caption else footnotes(table, summary)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(title + about(table, summary, interval))}}}",
            rf"\begin{{tabular}}{{l{'r' * len(grid.columns)}}}",
            r"\toprule",
            _line(["method", *map(escape, grid.columns)]),
            r"\midrule",
            *(_line([escape(label), *map(_entry, entries)]) for label, entries in grid.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par{{\footnotesize {escape(note)}}}" for note in notes),
            r"\end{table}",
        ]
    )


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _entry(entry: Entry) -> str:
    text = re.sub(r"(?<!\w)-(?=\d)", "$-$", escape(entry.text))
    return rf"\textbf{{{text}}}" if entry.best else text


def escape(text: str) -> str:
    """Return text that LaTeX sets as it is."""
    return "".join(SIGNS.get(sign, sign) for sign in " ".join(text.split()))
