"""A paper's figure, drawn from the runs that it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from handful.benchmark.figures.neighbours import draw_neighbours, unshown
from handful.benchmark.figures.plot import drawings, undrawn
from handful.benchmark.neighbours import neighbours
from handful.benchmark.papers.make import Made
from handful.benchmark.papers.paper import Item, Paper
from handful.benchmark.papers.wanted import Where, wanted
from handful.benchmark.results import Results
from handful.benchmark.summary import summarise
from handful.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["T_SNE", "PaperFigure", "of_runs", "of_test_images"]

T_SNE = "t-sne"


@dataclass(frozen=True, eq=False)
class PaperFigure:
    """A figure to be drawn.

    Attributes:
        kind: of :class:`~handful.benchmark.papers.paper.Item`.
        protocol, select: of what it shows.
        sources: what these are called.
        figure: draws it, inside :func:`handful.report.figures.ready`.
    """

    kind: str
    protocol: str
    select: str
    sources: tuple[str, ...]
    figure: Callable[[], Figure]


def of_runs(paper: Paper, item: Item, made: Made) -> tuple[list[PaperFigure], list[str]]:
    """Return figures of runs, and sentences about what is not in them.

    There is one for each protocol and policy, which are one of each but in a plan of the user's.

    Raises:
        InputError: there is nothing to draw.
    """
    runs = {
        row["key"]: dict(row)
        for one in made.needed
        for rows in one.found(made.results)
        for row in rows
    }
    summary = summarise([Results(runs, made.results.sources)])
    over = item.over or None
    kind = f"over-{over}" if over else item.kind
    found = [
        PaperFigure(item.kind, one.protocol, one.select, one.sources, one.figure)
        for one in drawings(summary, over)
        if one.kind == kind
    ]
    if not found:
        raise InputError(
            f"there is nothing to draw for {item.name} of {paper.name}: its methods need runs with"
            " the same seeds, on two data sets or more where gains are sorted by them."
        )
    return found, list(undrawn(summary, over))


def of_test_images(paper: Paper, item: Item, where: Where) -> tuple[list[PaperFigure], list[str]]:
    """Let the methods of a figure learn, and return what they make of the test images.

    Of one data set each; the most shots and the first seed.

    Raises:
        InputError: there are no data, or a method cannot run on them.
    """
    if not where.known:
        raise InputError(
            f"{item.name} of {paper.name} shows test images: give --data ROOT, the folder of the"
            " data sets, or --plan PLAN.toml with images or features of your own."
        )
    found, told = [], []
    for one in wanted(item, where):
        plan = one.plan
        for source in plan.sources():
            lacking = {method: source.lacks(method, given) for method, given in plan.arms}
            told += [f"Left out: {why}" for why in lacking.values() if why]
            seen = neighbours(
                source,
                [(method, given) for method, given in plan.arms if not lacking[method]],
                shots=max(plan.shots),
                seed=plan.seeds[0],
                protocol=plan.protocol,
                select=plan.select,
            )
            told += unshown(seen)
            draw = partial(draw_neighbours, seen)
            found.append(PaperFigure(T_SNE, plan.protocol, plan.select, (source.name,), draw))
    return found, told
