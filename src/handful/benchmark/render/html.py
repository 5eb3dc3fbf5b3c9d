"""Tables as one HTML file that needs nothing else: no network, no other file, no JavaScript.

With JavaScript, columns can be sorted, and the lines of the results file are shown whole.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from handful.benchmark.render.footnotes import about, footnotes, legend
from handful.benchmark.render.html_runs import part_id, runs_section
from handful.benchmark.render.words import Entry, Grid, Interval, grids, heading
from handful.benchmark.summary import Summary, Table

__all__ = ["render"]

FOLDER = Path(__file__).parent


def render(summary: Summary, interval: Interval) -> str:
    """Return the page."""
    tables = [_table(i, table, summary, interval) for i, table in enumerate(summary.tables)]
    contents = [
        f'<li><a href="#t{i}">{escape(heading(table))}</a></li>'
        for i, table in enumerate(summary.tables)
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8"><title>Methods compared</title>',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>\n{(FOLDER / 'page.css').read_text('utf-8')}</style></head>",
            "<body><main>",
            "<h1>Methods compared</h1>",
            f'<nav aria-label="Tables"><ul>{"".join(contents)}</ul>',
            "<p>Every number leads to the runs behind it.</p></nav>",
            *tables,
            "<section><h2>How to read this</h2>",
            _list(legend(summary)),
            "</section>",
            runs_section(summary),
            "</main>",
            f"<script>\n{(FOLDER / 'page.js').read_text('utf-8')}</script>",
            "</body></html>\n",
        ]
    )


def _table(position: int, table: Table, summary: Summary, interval: Interval) -> str:
    parts = [
        f'<section id="t{position}"><h2>{escape(heading(table))}</h2>',
        f"<p>{escape(about(table, summary, interval))}</p>",
    ]
    for grid in grids(table, summary, interval):
        name = escape(grid.caption or heading(table))
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in grid.columns)
        rows = "\n".join(
            _row(position, line, label, grid.shots, entries)
            for line, (label, entries) in _lines(table, grid)
        )
        parts += [
            f'<div class="wide" role="region" tabindex="0" aria-label="{name}"><table>',
            f"<caption>{escape(grid.caption)}</caption>" if grid.caption else "",
            f'<thead><tr><th scope="col">method</th>{head}</tr></thead>',
            f"<tbody>\n{rows}\n</tbody></table></div>",
        ]
    return "\n".join([*parts, _list(footnotes(table, summary)), "</section>"])


def _lines(table: Table, grid: Grid) -> list[tuple[int, tuple[str, tuple[Entry, ...]]]]:
    """Return the rows of a grid with their positions in the table, which may have more."""
    positions = {line.label: i for i, line in enumerate(table.lines)}
    return [(positions[row[0]], row) for row in grid.rows]


def _row(
    table: int, line: int, label: str, shots: tuple[int | None, ...], entries: tuple[Entry, ...]
) -> str:
    cells = [f'<th scope="row">{escape(label)}</th>']
    for k, entry in zip(shots, entries, strict=True):
        if entry.value is None:
            cells.append(f"<td>{escape(entry.text)}</td>")
            continue
        kind = ' class="best"' if entry.best else ""
        link = f'<a href="#{part_id(table, line, k)}">{escape(entry.text)}</a>'
        cells.append(f'<td{kind} data-value="{entry.value:.9g}">{link}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _list(notes: list[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>'
