"""A paper's table, ours beside the published: one for each data set, and their average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import fmean

from handful.benchmark.grouping import label_of, shots_in_words
from handful.benchmark.papers.cells import Cell, Measure, cell, measures
from handful.benchmark.papers.paper import Item, Paper
from handful.benchmark.papers.wanted import Wanted
from handful.benchmark.results import Results
from handful.benchmark.text_table import TextTable
from handful.datasets.source import short_name
from handful.encoders.spec import encoder_name

__all__ = ["paper_tables"]

NOTHING = "–"
Published = dict[str, float | str]  # by column


@dataclass(frozen=True)
class _Line:
    """A row of a table."""

    label: str
    cells: dict[str, Cell]
    published: Published


def paper_tables(
    paper: Paper, item: Item, needed: Sequence[Wanted], results: Results
) -> list[TextTable]:
    """Return a table for each data set and number of shots, and for the average over data sets.

    Args:
        paper: whose.
        item: table of it.
        needed: its runs.
        results: those that are there.

    Raises:
        InputError: runs are on two sources that are called the same.
    """
    tests = [short_name(one) for one in needed[0].plan.test_on]
    columns = measures(item.columns, tests, results.sources)
    tables = []
    for shots in needed[0].plan.shots:
        of_each: dict[str, list[_Line]] = {}
        for dataset, same in groupby(needed, lambda one: one.dataset):
            own = list(same)
            of_each[dataset] = _lines(item, own, results, columns, shots)
            tables.append(_table(paper, item, own, columns, of_each[dataset], shots, dataset))
        if len(of_each) > 1:
            kept = [one for one in columns if one.is_accuracy]
            averages = [_average(lines, kept) for lines in zip(*of_each.values(), strict=True)]
            name = f"average of {', '.join(of_each)}"
            tables.append(_table(paper, item, needed, kept, averages, shots, name))
    # What is said of all of them is said once.
    first = tables[0].note
    return [
        tables[0],
        *(replace(t, note="As above.") if t.note == first else t for t in tables[1:]),
    ]


def _lines(
    item: Item,
    needed: Sequence[Wanted],
    results: Results,
    columns: Sequence[Measure],
    shots: int,
) -> list[_Line]:
    """Return the rows of one data set, backbone after backbone."""
    found = []
    several = len({one.encoder for one in needed}) > 1
    for encoder, same in groupby(needed, lambda one: one.encoder):
        own = list(same)
        arms = [arm for one in own for arm in one.plan.arms]
        runs = [rows for one in own for rows in one.found(results)]
        labels = [label_of({"method": method, "given": given}) for method, given in arms]
        if len(item.rows) == len(labels):
            labels = list(item.rows)
        for place, (label, rows) in enumerate(zip(labels, runs, strict=True)):
            here = [row for row in rows if row["shots"] == shots]
            found.append(
                _Line(
                    f"{label}, {encoder_name(encoder)}" if several else label,
                    {c.name: cell(here, c, own[0].plan.seeds) for c in columns},
                    _published(item, own[0], place) if shots in item.shots else {},
                )
            )
    return found


def _published(item: Item, needed: Wanted, place: int) -> Published:
    """Return what the paper prints in a row; nothing of another data set than its own."""
    found: Published = {}
    for printed in item.published if needed.of_paper else ():
        if printed.dataset == needed.dataset and printed.encoder in ("", needed.paper_encoder):
            found |= {name: of[place] for name, of in printed.values.items() if of[place] != ""}
    return found


def _average(lines: Sequence[_Line], columns: Sequence[Measure]) -> _Line:
    """Return the means over data sets of rows; of the seeds, where all data sets have all."""
    cells, published = {}, {}
    for column in columns:
        own = [line.cells[column.name] for line in lines]
        whole = all(one.complete and one.values for one in own)
        seeds = sorted(set.intersection(*(set(one.values) for one in own))) if whole else []
        cells[column.name] = Cell({s: fmean(one.values[s] for one in own) for s in seeds}, whole)
        printed = [line.published.get(column.name) for line in lines]
        numbers = [one for one in printed if isinstance(one, int | float)]
        if len(numbers) == len(lines):
            published[column.name] = fmean(numbers)
    return _Line(lines[0].label, cells, dict(published))


def _table(
    paper: Paper,
    item: Item,
    needed: Sequence[Wanted],
    columns: Sequence[Measure],
    lines: Sequence[_Line],
    shots: int,
    name: str,
) -> TextTable:
    header = [item.of_rows]
    rows = [[line.label] for line in lines]
    for column in columns:
        header.append(column.words)
        for row, line in zip(rows, lines, strict=True):
            row.append(line.cells[column.name].text(column))
        if not any(column.name in line.published for line in lines):
            continue
        header += ["published", *(["difference"] if column.is_accuracy else [])]
        for row, line in zip(rows, lines, strict=True):
            row += _beside(line.cells[column.name], line.published.get(column.name), column)
    return TextTable(
        f"{paper.name}, {item.name} ({item.title[0].lower()}{item.title[1:]}): {name},"
        f" {shots_in_words(shots)}",
        _note(paper, item, needed, any(line.published for line in lines)),
        tuple(header),
        tuple(map(tuple, rows)),
    )


def _beside(cell: Cell, published: float | str | None, column: Measure) -> list[str]:
    if published is None:
        texts = [NOTHING, NOTHING]
    elif isinstance(published, str):
        texts = [published, NOTHING]
    else:
        gap = f"{cell.mean - published:+.1f}" if cell.values else NOTHING
        texts = [f"{published:.2f}" if column.is_accuracy else f"{published:.3g}", gap]
    return texts if column.is_accuracy else texts[:1]


def _note(paper: Paper, item: Item, needed: Sequence[Wanted], beside: bool) -> str:
    plan = needed[0].plan
    encoders = dict.fromkeys(one.encoder for one in needed if one.encoder)
    of = f" with {' and '.join(encoders)}" if encoders else ""
    seeds = ", ".join(map(str, plan.seeds))
    several = f"mean over the seeds {seeds} ± half the 95% interval"
    said = [
        f"Accuracy in %. Ours{of}: {several if len(plan.seeds) > 1 else f'seed {seeds}'}, protocol"
        f" {plan.protocol}, selection {plan.select}."
    ]
    if given := _given(needed):
        said.append(f"Settings that were given: {given}.")
    said += item.notes
    if not beside:
        said.append(
            f"The text of the paper ({paper.citation}) has no numbers for this."
            if all(one.of_paper for one in needed)
            else f"Not the paper's data ({paper.citation}), so nothing published stands beside it."
        )
        return " ".join(said)
    said += [f"Published: {paper.citation}. {paper.about}", *item.flags]
    others = [one for one in needed if one.encoder != one.paper_encoder]
    if others:
        said.append(
            f"The published numbers are of {others[0].paper_encoder}, ours of {others[0].encoder}:"
            " they can be compared only if that holds the same weights and prepares images alike."
        )
    return " ".join(said)


def _given(needed: Sequence[Wanted]) -> str:
    """Return settings that were given and are none of the paper's table, in words."""
    found: dict[str, None] = {}
    for one in needed:
        for method, given in one.plan.arms:
            axes = {*one.part.variants.get(method, {}), *one.part.settings.get(method, {})}
            more = ", ".join(f"{n}={v}" for n, v in given.items() if n not in axes)
            if more:
                found[f"{method} {more}"] = None
    return "; ".join(found)
