"""Runs put together into tables: plain numbers, no rendering.

There is one table for each source, protocol and selection policy, and for each protocol and policy
one of the average over its sources. Numbers of two protocols or two policies never meet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from handful.benchmark.anchors import Anchor
from handful.benchmark.column import Figure, column
from handful.benchmark.grouping import (
    Grid,
    Missing,
    Row,
    Runs,
    group,
    labels_in_order,
    lay_out,
    missing,
    uncounted,
)
from handful.benchmark.results import Results
from handful.errors import InputError, did_you_mean

__all__ = ["ZERO_SHOT", "Line", "Summary", "Table", "summarise"]

ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class Line:
    """A row of a table: a method with the settings that were given.

    Attributes:
        label: of both.
        cells: by shots; some may be absent.
        average: over ``Table.averaged``; None where one of these is absent or incomplete.
    """

    label: str
    cells: Mapping[int, Figure]
    average: Figure | None


@dataclass(frozen=True)
class Table:
    """All methods on one source under one protocol and policy, or their average over sources.

    Attributes:
        sources: digests; one, or several in an average.
        names: of these sources.
        protocol, select: of every run in it.
        seeds: of every complete cell; runs of other seeds are not counted in it.
        shots: of the columns.
        averaged: those of them that averages are over.
        baseline: label that gains and reductions of errors are against; it may be absent.
        lines: in the order of the list of methods.
        missing: what an average over sources leaves out.
        uncounted: labels that have runs of more than ``seeds``.
    """

    sources: tuple[str, ...]
    names: tuple[str, ...]
    protocol: str
    select: str
    seeds: tuple[int, ...]
    shots: tuple[int, ...]
    averaged: tuple[int, ...]
    baseline: str
    lines: tuple[Line, ...]
    missing: tuple[Missing, ...] = ()
    uncounted: tuple[str, ...] = ()

    @property
    def figures(self) -> list[Figure]:
        """All numbers, averages last."""
        averages = [line.average for line in self.lines if line.average]
        return [*(f for line in self.lines for f in line.cells.values()), *averages]

    @property
    def rows(self) -> list[Row]:
        """All runs behind it."""
        return [row for line in self.lines for f in line.cells.values() for row in f.rows]


@dataclass(frozen=True)
class Summary:
    """Everything that a rendering needs.

    Attributes:
        tables: in the order in which they are shown.
        sources: lines of the results files, by digest.
        baseline_named: whether the user named the baseline: then tests are against it.
    """

    tables: tuple[Table, ...]
    sources: Mapping[str, Row]
    baseline_named: bool


def summarise(
    results: Sequence[Results], *, baseline: str | None = None, anchors: Sequence[Anchor] = ()
) -> Summary:
    """Put the runs of one or several results files into tables.

    Args:
        results: of runs with equal keys the first counts.
        baseline: label of a method; gains and tests are against it. None: gains are against
            zero-shot, tests against the best.
        anchors: of published code.

    Raises:
        InputError: there are no runs, a run lacks something, or no method has the label.
    """
    runs: dict[str, Row] = {}
    sources: dict[str, Row] = {}
    for one in reversed(results):
        runs.update(one.runs)
        sources.update(one.sources)
    if not runs:
        raise InputError("there is no run in these results: make some with 'handful bench run'.")
    groups = group(runs)
    labels = labels_in_order(runs.values())
    if baseline is not None and baseline not in labels:
        raise InputError(
            f"no method in these results is called '{baseline}'.{did_you_mean(baseline, labels)}"
            f" There are {', '.join(labels)}."
        )
    make = _Tables(_names(runs.values(), sources), anchors, baseline or ZERO_SHOT)
    tables = []
    # Whatever the order in which processes wrote the lines, the tables are the same.
    for protocol, select in sorted(groups):
        found = groups[protocol, select]
        ordered = {label: dict(sorted(found[label].items())) for label in labels if label in found}
        tables += list(make.of(ordered, protocol, select))
    return Summary(tuple(tables), sources, baseline is not None)


def _names(runs: Iterable[Row], sources: Mapping[str, Row]) -> dict[str, str]:
    """Return names by digest, in their order; two of one name are told apart by their digests."""
    digests = {row["source"] for row in runs}
    names = sorted((sources[d]["name"] if d in sources else d[:8], d) for d in digests)
    count = Counter(name for name, _ in names)
    return {d: f"{name} ({d[:8]})" if count[name] > 1 else name for name, d in names}


@dataclass(frozen=True)
class _Tables:
    names: Mapping[str, str]
    anchors: Sequence[Anchor]
    baseline: str

    def of(self, runs: Runs, protocol: str, select: str) -> Iterator[Table]:
        """Yield the tables of one protocol and policy."""
        there = {place.source for found in runs.values() for place in found}
        sources = [digest for digest in self.names if digest in there]
        for digest in sources:
            yield self._table(runs, [digest], protocol, select)
        if len(sources) > 1:
            yield self._table(runs, sources, protocol, select)

    def _table(self, runs: Runs, sources: list[str], protocol: str, select: str) -> Table:
        grid = lay_out(runs, sources)
        cells = {k: self._column(runs, grid, (k,)) for k in grid.shots}
        averages = self._column(runs, grid, grid.averaged, only_complete=True)
        lines = [
            Line(
                label, {k: of[label] for k, of in cells.items() if label in of}, averages.get(label)
            )
            for label in runs
        ]
        return Table(
            sources=grid.sources,
            names=tuple(self.names[digest] for digest in sources),
            protocol=protocol,
            select=select,
            seeds=grid.seeds,
            shots=tuple(k for k in grid.shots if cells[k]),
            averaged=grid.averaged,
            baseline=self.baseline,
            lines=tuple(line for line in lines if line.cells),
            missing=tuple(missing(runs, grid, self.names)),
            uncounted=tuple(uncounted(runs, grid)),
        )

    def _column(
        self, runs: Runs, grid: Grid, shots: Sequence[int], *, only_complete: bool = False
    ) -> dict[str, Figure]:
        """Compare the labels at these shots. An incomplete cell is shown for one source alone."""
        places = grid.places(shots)
        complete = [label for label in runs if places and runs[label].keys() >= set(places)]
        shown = {label: {place: runs[label][place] for place in places} for label in complete}
        if len(grid.sources) == 1 and not only_complete:
            there = {
                label: {p: row for p, row in found.items() if p[:2] == (grid.sources[0], shots[0])}
                for label, found in runs.items()
            }
            shown = {label: shown.get(label, rows) for label, rows in there.items() if rows}
        return column(shown, complete, self.baseline, self._anchor)

    def _anchor(self, row: Row) -> Anchor | None:
        name = self.names[row["source"]]
        return next((one for one in self.anchors if one.fits(name, row)), None)
