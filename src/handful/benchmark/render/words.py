"""What tables say, in words and short numbers; the same in every format, before escaping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from handful.benchmark.column import Figure
from handful.benchmark.elsewhere_columns import elsewhere_columns, from_names_alone
from handful.benchmark.grouping import shots_in_words
from handful.benchmark.summary import Line, Summary, Table

__all__ = ["Entry", "Grid", "Interval", "grids", "heading", "listed"]

Interval = Literal["sd", "95"]
NOTHING = "–"


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a grid.

    Attributes:
        text: with marks.
        value: to sort by; None sorts last.
        best: to be set in bold.
    """

    text: str = NOTHING
    value: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Grid:
    """A table ready to be written.

    Attributes:
        caption: what sets it apart from the main one, which has none.
        columns: their names.
        shots: of each column; None where it is about the average.
        rows: label and entries, one per column.
    """

    caption: str
    columns: tuple[str, ...]
    shots: tuple[int | None, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]


def heading(table: Table) -> str:
    """Return what a table is about; protocol and policy stand in every one."""
    what = table.names[0]
    if len(table.names) > 1:
        what = f"Average of {len(table.names)} sources ({', '.join(table.names)})"
    return f"{what}: protocol {table.protocol}, selection {table.select}"


def listed(numbers: Sequence[int]) -> str:
    """Return numbers with commas."""
    return ", ".join(map(str, numbers))


def _spread(figure: Figure, interval: Interval) -> float | None:
    """Return what stands behind ±, a fraction; None for one seed."""
    return figure.deviation if interval == "sd" else figure.interval


def grids(table: Table, summary: Summary, interval: Interval) -> list[Grid]:
    """Return the main grid, those of tests elsewhere, and one of published code, as there are."""
    if not table.lines:
        return []

    def accuracy(figure: Figure) -> Entry:
        return _accuracy(figure, interval)

    def p(figure: Figure) -> Entry:
        test = figure.to_baseline if summary.baseline_named else figure.to_best
        return _number(None if test is None else test.corrected, _p_text)

    columns: list[tuple[str, int | None, Callable[[Figure], Entry]]] = [
        *((shots_in_words(k), k, accuracy) for k in table.shots),
        ("average", None, accuracy),
        ("gain", None, lambda f: _number(f.gain, _points)),
        ("fewer errors", None, lambda f: _number(f.error_reduction, lambda v: f"{100 * v:.0f}%")),
        ("rank", None, lambda f: _number(f.rank, lambda v: f"{v:.1f}")),
        ("p", None, p),
    ]
    found = [_grid("", columns, table.lines)]
    found += [grid for k in table.shots if (grid := _elsewhere(table, k, interval))]
    beside = [
        line
        for line in table.lines
        if any(figure.published is not None for figure in line.cells.values())
    ]
    if beside:
        shots = [*table.shots, None]
        published = [(shots_in_words(k) if k else "average", k, _published) for k in shots]
        found.append(_grid("Published code (ours minus it, in points)", published, beside))
    return found


def _elsewhere(table: Table, k: int, interval: Interval) -> Grid | None:
    figures = {line.label: line.cells[k] for line in table.lines if k in line.cells}
    columns = elsewhere_columns(figures, table.protocol)

    def entry(name: str, label: str) -> Entry:
        figure = columns[name][label]
        found = _accuracy(figure, interval)
        return replace(found, text=f"{found.text}§") if from_names_alone(figure, name) else found

    if not columns:
        return None
    return Grid(
        f"Tested elsewhere, {shots_in_words(k)}",
        tuple(columns),
        (k,) * len(columns),
        tuple((label, tuple(entry(name, label) for name in columns)) for label in figures),
    )


def _grid(
    caption: str,
    columns: Sequence[tuple[str, int | None, Callable[[Figure], Entry]]],
    lines: Sequence[Line],
) -> Grid:
    def entries(line: Line) -> tuple[Entry, ...]:
        figures = [line.cells.get(k) if k else line.average for _, k, _ in columns]
        return tuple(
            write(figure) if figure else Entry()
            for figure, (_, _, write) in zip(figures, columns, strict=True)
        )

    return Grid(
        caption,
        tuple(name for name, _, _ in columns),
        tuple(k for _, k, _ in columns),
        tuple((line.label, entries(line)) for line in lines),
    )


def _accuracy(figure: Figure, interval: Interval) -> Entry:
    text = f"{100 * figure.mean:.1f}"
    if (around := _spread(figure, interval)) is not None:
        text += f" ±{100 * around:.1f}"
    if not figure.complete:
        text += f" (n={len(figure.seeds)})"
    if figure.settings_fixed:
        text += "‡"
    if not figure.best and figure.to_best and figure.to_best.different is False:
        text += "†"
    return Entry(text, figure.mean, figure.best)


def _published(figure: Figure) -> Entry:
    if figure.published is None:
        return Entry()
    gap = figure.mean - figure.published.accuracy
    return Entry(f"{100 * figure.published.accuracy:.1f} ({_points(gap)})", gap)


def _number(value: float | None, write: Callable[[float], str]) -> Entry:
    return Entry() if value is None else Entry(write(value), value)


def _points(difference: float) -> str:
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text


def _p_text(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
