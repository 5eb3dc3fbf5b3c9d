"""The part of the page behind its numbers: for each the runs, their commands and JSON lines."""

from __future__ import annotations

import base64
import gzip
import json
import shlex
from collections.abc import Mapping
from html import escape
from typing import Any

from handful.benchmark.column import Figure
from handful.benchmark.grouping import Row, label_of, shots_in_words
from handful.benchmark.render.words import heading
from handful.benchmark.significance import PairedTest, mcnemar
from handful.benchmark.summary import Line, Summary, Table

__all__ = ["part_id", "runs_section"]

LONG = ("support", "validation", "per_class", "right")
MOST_SHOWN = 8


def part_id(table: int, line: int, shots: int | None) -> str:
    """Return the id of what stands behind a number; without shots, behind an average."""
    return f"t{table}-{line}-{'average' if shots is None else shots}"


def runs_section(summary: Summary) -> str:
    """Return the runs behind every number of every table, closed, and their lines, packed."""
    # Runs on one draw share long lists: side by side they take little space.
    rows = {row["key"]: row for t in summary.tables if len(t.sources) == 1 for row in t.rows}
    order = sorted(rows, key=lambda key: _draw(rows[key]))
    places = {key: i for i, key in enumerate(order)}
    lines = "\n".join(_json(rows[key]) for key in order)
    packed = base64.b64encode(gzip.compress(lines.encode(), 9, mtime=0)).decode()
    parts = ['<section class="runs"><h2>Behind the numbers</h2>']
    for i, table in enumerate(summary.tables):
        parts.append(f"<h3>{escape(heading(table))}</h3>")
        for j, line in enumerate(table.lines):
            for k, figure in line.cells.items():
                inside = (
                    _runs(table, k, figure, places)
                    if len(table.sources) == 1
                    else _links(figure, places, summary)
                )
                parts.append(_details(part_id(i, j, k), line, shots_in_words(k), figure, inside))
            if line.average:
                inside = _links(line.average, places, summary)
                name = part_id(i, j, None)
                parts.append(_details(name, line, "average", line.average, inside))
    parts.append(f'<script type="application/octet-stream" id="lines">{packed}</script></section>')
    return "\n".join(parts)


def _draw(row: Row) -> tuple[str, int, int]:
    return row["source"], row["shots"], row["seed"]


def _details(name: str, line: Line, what: str, figure: Figure, inside: str) -> str:
    title = f"{line.label}, {what}: {100 * figure.mean:.2f}%"
    facts = [_test(t) for t in (figure.to_best, figure.to_baseline) if t is not None]
    if figure.published is not None:
        code = ", ".join(figure.published.code)
        facts.append(f"Published code ({code}): {100 * figure.published.accuracy:.1f}%.")
    told = "".join(f"<p>{escape(fact)}</p>" for fact in dict.fromkeys(facts))
    return (
        f'<details id="{name}"><summary>{escape(title)}</summary>'
        f"<div>{told}{inside}</div></details>"
    )


def _test(test: PairedTest) -> str:
    if test.p is None or test.corrected is None:
        return f"Against {test.against}: {test.pairs} draws, {test.needed} are needed for a test."
    return (
        f"Against {test.against}: p = {test.p:.3g} on {test.pairs} draws, {test.corrected:.3g}"
        f" Holm-corrected for {test.comparisons}."
    )


def _links(figure: Figure, places: Mapping[str, int], summary: Summary) -> str:
    items = []
    for row in sorted(figure.rows, key=_draw):
        source = summary.sources.get(row["source"], {}).get("name", row["source"][:8])
        where = f"{source}, {shots_in_words(row['shots'])}, seed {row['seed']}"
        items.append(
            f'<li><a href="#run{places[row["key"]]}">{escape(where)}</a>:'
            f" {100 * row['accuracy']:.2f}%</li>"
        )
    return f"<p>Mean of {len(items)} runs:</p><ul>{''.join(items)}</ul>"


def _runs(table: Table, k: int, figure: Figure, places: Mapping[str, int]) -> str:
    best = next((f for line in table.lines if (f := line.cells.get(k)) and f.best), None)
    at = {row["seed"]: row for row in best.rows} if best and best is not figure else {}
    return "".join(_run(row, at.get(row["seed"]), places[row["key"]]) for row in figure.rows)


def _run(row: Row, best: Row | None, place: int) -> str:
    facts = f"{100 * row['accuracy']:.2f}% of {row['test_images']:,} test images."
    if best is not None and best["test_images"] == row["test_images"]:
        found = mcnemar(row, best)
        facts += (
            f" Beside {label_of(best)}: {found.only_first} images right that it has wrong,"
            f" {found.only_second} wrong that it has right, p = {found.p:.3g} (McNemar's exact"
            " test; of these two classifiers, not of the methods)."
        )
    fields = (f" {_json(name)}: {_json(value)}" for name, value in _short(row).items())
    short = "{\n" + ",\n".join(fields) + "\n}"
    return (
        f'<article id="run{place}"><h4>seed {row["seed"]}</h4><p>{escape(facts)}</p>'
        f"<pre>{escape(shlex.join(row['command']))}</pre>"
        f'<details class="line" data-line="{place}"><summary>JSON line</summary>'
        f"<pre>{escape(short, quote=False)}</pre></details></article>"
    )


def _json(value: Any) -> str:
    """Return what stands in the results file."""
    return json.dumps(value, ensure_ascii=False)


def _short(row: Row) -> dict[str, Any]:
    """Return a line without what fills pages; JavaScript puts the whole in its place."""
    selection = dict(row["selection"])
    columns = list(selection.get("trace", {}).values())
    selection["trace"] = f"… {len(columns[0]) if columns else 0} candidates"
    short = {name: _abbreviated(row[name]) for name in LONG if name in row}
    found = {**row, "selection": selection, **short}
    del found["command"]  # stands above it
    return found


def _abbreviated(value: Any) -> Any:
    if not isinstance(value, list | dict | str) or len(value) <= MOST_SHOWN:
        return value
    start = f"{', '.join(map(str, value[:3]))}, " if isinstance(value, list) else ""
    return f"{start}… {len(value)} in all"
