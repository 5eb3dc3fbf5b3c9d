"""Results as figures for print: PNG and SVG, the same bytes for the same results.

Each table of a summary becomes a panel that shows the numbers of that table; a figure holds the
panels of one protocol and one selection policy; one figure has the gains on all sources side by
side. What a table compares with nothing, because runs are missing, is not drawn.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from textwrap import fill
from typing import TYPE_CHECKING

from handful.benchmark.figures.ablation import curves, draw_over, without
from handful.benchmark.figures.by_source import draw_by_source, gains_by_source, not_by_source
from handful.benchmark.figures.looks import ZERO_SHOT_LOOK, Look, look
from handful.benchmark.figures.page import LINE, WIDTH, heading, legend
from handful.benchmark.figures.panels import KINDS, Draw, comparable, listed, plain
from handful.benchmark.summary import ZERO_SHOT, Summary, Table
from handful.errors import InputError, did_you_mean
from handful.report.figures import FORMATS, ready, write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "KINDS", "Drawing", "drawings", "ready", "undrawn", "write"]

PANEL = 2.1  # inches: height of a panel


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure to be drawn.

    Attributes:
        kind: a key of ``KINDS``, ``gain-by-source``, or ``over-`` and a setting.
        tables: whose numbers it shows; all of one protocol and policy.
        looks: by label, the same in all figures of a summary.
        draw: draws all of it.
    """

    kind: str
    tables: tuple[Table, ...]
    looks: Mapping[str, Look]
    draw: Callable[[Sequence[Table], Mapping[str, Look]], Figure]

    @property
    def protocol(self) -> str:
        """Of the tables."""
        return self.tables[0].protocol

    @property
    def select(self) -> str:
        """Of the tables."""
        return self.tables[0].select

    @property
    def sources(self) -> tuple[str, ...]:
        """What the sources are called, each once."""
        return tuple(dict.fromkeys(name for table in self.tables for name in table.names))

    @property
    def name(self) -> str:
        """File name without its ending."""
        return re.sub(r"[^\w-]", "_", f"{self.kind}-{self.protocol}-{self.select}")

    def figure(self) -> Figure:
        """Draw it, inside :func:`ready`."""
        return self.draw(self.tables, self.looks)


def drawings(summary: Summary, over: str | None = None) -> list[Drawing]:
    """Return every kind of figure of every protocol and policy, where there is something to draw.

    Args:
        summary: of the results.
        over: a setting: one figure alone, of accuracy over the values that it was given.

    Raises:
        InputError: there is nothing.
    """
    if over is None:
        kinds = KINDS
        labels = dict.fromkeys(line.label for table in summary.tables for line in table.lines)
    else:
        kinds = {f"over-{over}": (partial(draw_over, over), lambda table: curves(table, over))}
        labels = dict.fromkeys(label for table in summary.tables for label in curves(table, over))
    looks = {label: look(n) for n, label in enumerate(one for one in labels if one != ZERO_SHOT)}
    looks[ZERO_SHOT] = ZERO_SHOT_LOOK
    found = []
    for _, same in groupby(summary.tables, lambda table: (table.protocol, table.select)):
        tables = list(same)
        for kind, (draw, has) in kinds.items():
            if panels := tuple(table for table in tables if has(table)):
                found.append(Drawing(kind, panels, looks, partial(_figure, draw)))
        if over is None and (gains := gains_by_source(tables)):
            found.append(Drawing("gain-by-source", gains.tables, looks, draw_by_source))
    if not found and over is not None:
        given = {name for table in summary.tables for row in table.rows for name in row["given"]}
        raise InputError(
            f"no run that may be drawn was given the setting '{over}'.{did_you_mean(over, given)}"
            f" Given were: {', '.join(sorted(given)) or 'none'}."
        )
    if not found:
        raise InputError("there is nothing to draw: run every method with the same seeds first.")
    return found


def undrawn(summary: Summary, over: str | None = None) -> Iterator[str]:
    """Yield a sentence for whatever is in the results and in no figure, or in some of them only.

    Args:
        summary, over: as :func:`drawings` has drawn them.
    """
    for table in summary.tables:
        where = f"{_title(table)} ({table.protocol}, {table.select})"
        shown = comparable(table)
        gone: dict[str, list[int]] = {}
        for line in table.lines:
            if lacking := [k for k in line.cells if k not in shown.get(line.label, {})]:
                gone[line.label] = lacking
        for cell in table.missing:
            gone.setdefault(cell.label, []).append(cell.shots)
        for shots in dict.fromkeys(map(tuple, gone.values())):
            labels = ", ".join(label for label in gone if tuple(gone[label]) == shots)
            yield f"Not drawn, as runs are missing: {labels} at {listed(shots)} shots, {where}."
        if over is not None:
            if none := without(table, over):
                yield f"Not drawn, as {over} was not given: {', '.join(none)}, {where}."
            continue
        costly = [line.label for line in table.lines if line.average is None]
        if costly and len(costly) < len(table.lines):
            yield (
                f"Not among the costs, as not all of {listed(table.averaged)} shots are there:"
                f" {', '.join(costly)}, {where}."
            )
    if over is None:
        for _, same in groupby(summary.tables, lambda table: (table.protocol, table.select)):
            yield from not_by_source(list(same))


# -- the page --------------------------------------------------------------------------------------


def _figure(draw: Draw, tables: Sequence[Table], looks: Mapping[str, Look]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = 2 if len(tables) in (2, 4) else min(3, len(tables))
    rows = math.ceil(len(tables) / columns)
    width = WIDTH if columns > 1 else WIDTH / 2
    figure = Figure(figsize=(width, 1), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    means: list[str] = []
    said: dict[str, None] = {}
    for ax, table in zip(axes, tables, strict=False):
        ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        mean, sentences = draw(ax, table, looks)
        means.append(mean)
        said.update(dict.fromkeys(sentences))
    # What the panels do not share stands above each of them.
    shared = means[:1] if len(set(means)) == 1 else []
    titles = []
    for ax, table, mean in zip(axes, tables, means, strict=False):
        parts = [_title(table)] if shared else [_title(table), mean]
        wrapped = [fill(plain(p), int(width / columns * 12), break_on_hyphens=False) for p in parts]
        titles.append("\n".join(wrapped))
        ax.set_title(titles[-1])
    for place, ax in enumerate(axes):
        if place % columns:
            ax.set_ylabel("")
        if place + columns < len(tables):
            ax.set_xlabel("")
        if place >= len(tables):
            ax.remove()
    handles = {handle.get_label(): handle for ax in axes for handle in ax.lines}
    shown = [handles[plain(label)] for label in looks if plain(label) in handles]
    first = tables[0]
    of = ", ".join([f"Protocol {first.protocol}", f"selection {first.select}", *shared])
    text = legend(figure, shown, width)
    text += heading(figure, f"{of}. {' '.join(said)}".rstrip(), width) + 2
    for start in range(0, len(titles), columns):
        text += max(title.count("\n") for title in titles[start : start + columns])
    figure.set_size_inches(width, rows * PANEL + text * LINE)
    return figure


def _title(table: Table) -> str:
    return table.names[0] if len(table.names) == 1 else f"average of {len(table.names)} sources"
