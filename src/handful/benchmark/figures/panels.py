"""What stands in one panel of a figure: the numbers of one table, in one of three ways."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from handful.benchmark.column import Figure as Number
from handful.benchmark.figures.looks import BAND, Look
from handful.benchmark.summary import ZERO_SHOT, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "KINDS",
    "Draw",
    "across",
    "comparable",
    "curve",
    "gain",
    "listed",
    "plain",
    "seeds_in_words",
]

Draw = Callable[["Axes", Table, Mapping[str, Look]], tuple[str, list[str]]]
"""Draws a table; returns what it is the mean of, and sentences that must be said of the figure."""


def comparable(table: Table) -> dict[str, dict[int, Number]]:
    """Return the numbers that may stand side by side, by label and shots: those of equal draws.

    They are complete, or at these shots all methods have the same seeds: where K images are all
    that there is to learn from, every seed draws the same, and one is enough.
    """
    seeds: dict[int, set[tuple[int, ...]]] = {}
    for line in table.lines:
        for k, number in line.cells.items():
            seeds.setdefault(k, set()).add(number.seeds)
    found = {
        line.label: {k: n for k, n in line.cells.items() if n.complete or len(seeds[k]) == 1}
        for line in table.lines
    }
    return {label: cells for label, cells in found.items() if cells}


def gain(number: Number, base: Number) -> tuple[float, float]:
    """Return mean and standard deviation over seeds of the points above a number of equal draws."""
    pairs = zip(number.accuracies, base.accuracies, strict=True)
    gains = [100 * (mine - its) for mine, its in pairs]
    return statistics.fmean(gains), statistics.stdev(gains) if len(gains) > 1 else 0.0


def plain(text: str) -> str:
    """Keep matplotlib from reading dollar signs as formulas."""
    return text.replace("$", r"\$")


def listed(numbers: Sequence[int]) -> str:
    """Return numbers in words: 1, 2 and 4, or 1 to 3."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    words = [str(number) for number in numbers]
    return " and ".join([*filter(None, [", ".join(words[:-1])]), words[-1]])


# -- the three ways --------------------------------------------------------------------------------


def _accuracy(ax: Axes, table: Table, looks: Mapping[str, Look]) -> tuple[str, list[str]]:
    """Accuracy over shots; zero-shot is a line across, if its test images stay the same."""
    for label, cells in comparable(table).items():
        points = {k: (100 * n.mean, 100 * (n.deviation or 0)) for k, n in cells.items()}
        if label == ZERO_SHOT and len({round(mean, 6) for mean, _ in points.values()}) == 1:
            across(ax, points[min(points)][0], looks[label], label)
        else:
            curve(ax, points, cells, looks[label], label)
    ax.set_ylabel("accuracy, %")
    return _over_shots(ax, table)


def _gain(ax: Axes, table: Table, looks: Mapping[str, Look]) -> tuple[str, list[str]]:
    """Points above zero-shot on the same draws."""
    methods = comparable(table)
    base = methods.pop(ZERO_SHOT)
    across(ax, 0, looks[ZERO_SHOT], ZERO_SHOT)
    for label, cells in methods.items():
        points = {}
        for k, number in cells.items():
            if k in base:
                points[k] = gain(number, base[k])
        if points:
            curve(ax, points, cells, looks[label], label)
    ax.set_ylabel("gain over zero-shot, points")
    return _over_shots(ax, table)


def _cost(ax: Axes, table: Table, looks: Mapping[str, Look]) -> tuple[str, list[str]]:
    """Accuracy against the time of the same runs."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    averages = {line.label: line.average for line in table.lines if line.average is not None}
    seconds = {
        # Results keep a tenth of a millisecond, and zero has no place on this axis.
        label: max(1e-4, statistics.median(row["fit_seconds"] for row in average.rows))
        for label, average in averages.items()
    }
    for label, average in averages.items():
        look = looks[label].marker
        ax.plot([seconds[label]], [100 * average.mean], **look, label=plain(label))
    middle = math.sqrt(min(seconds.values()) * max(seconds.values()))
    factor = max(3.0, 1.7 * max(seconds.values()) / middle)
    low, high = middle / factor, middle * factor
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 3) if high < 100 * low else (1,)
    ticks = [one for d in decades for m in steps if low <= (one := m * 10.0**d) <= high]
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.margins(y=0.15)
    ax.set_xlabel("seconds to choose settings and fit")
    ax.set_ylabel("accuracy, %")
    said = ["Mean accuracy and median time."]
    if any(average.settings_fixed for average in averages.values()):
        said.append("Documented settings where nothing could be held out, as at 1 shot.")
    shots = "shot" if table.averaged == (1,) else "shots"
    return f"{listed(table.averaged)} {shots}, {seeds_in_words(table.seeds)}", said


KINDS: Mapping[str, tuple[Draw, Callable[[Table], Any]]] = {
    "accuracy": (_accuracy, comparable),
    "cost": (_cost, lambda table: any(line.average for line in table.lines)),
    "gain": (_gain, lambda table: ZERO_SHOT in comparable(table) and len(comparable(table)) > 1),
}
"""By name: how to draw a table, and whether there is something to draw."""


# -- parts of them ---------------------------------------------------------------------------------


def across(ax: Axes, height: float, look: Look, label: str) -> None:
    """Draw a line from side to side."""
    ax.axhline(height, **look.line, label=label)


def curve(
    ax: Axes,
    points: Mapping[Any, tuple[float, float]],
    cells: Mapping[Any, Number],
    look: Look,
    label: str,
) -> None:
    """Draw means, and a band of one standard deviation to each side."""
    shots = sorted(points)
    means = [points[k][0] for k in shots]
    low, high = ([points[k][0] + side * points[k][1] for k in shots] for side in (-1, 1))
    ax.plot(shots, means, **(look.marker | look.line), label=plain(label))
    ax.fill_between(shots, low, high, color=look.colour, **BAND)
    white = look.marker | {"markerfacecolor": "white", "markeredgecolor": look.colour}
    fixed = [k for k in shots if cells[k].settings_fixed]
    ax.plot(fixed, [points[k][0] for k in fixed], **white, label="_fixed")


def _over_shots(ax: Axes, table: Table) -> tuple[str, list[str]]:
    """Make the axis of shots, and say what stands over it."""
    cells = [cell for of_label in comparable(table).values() for cell in of_label.items()]
    shots = sorted({k for k, _ in cells})
    ax.set_xscale("log", base=2)
    ax.set_xticks(shots, [str(k) for k in shots])
    ax.set_xlim(shots[0] / 1.2, shots[-1] * 1.2)
    ax.set_xlabel("images per class")
    said = []
    if any(number.deviation is not None for _, number in cells):
        said.append("Mean ± 1 standard deviation.")
    if any(number.settings_fixed for _, number in cells):
        said.append("White inside: documented settings, as nothing could be held out.")
    usual = seeds_in_words(table.seeds)
    others = {k: seeds_in_words(number.seeds) for k, number in cells if number.seeds != table.seeds}
    return ", ".join([usual, *(f"{others[k]} at {k} shots" for k in sorted(others))]), said


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Return seed 1, or seeds 1 and 2."""
    return f"seed{'' if len(seeds) == 1 else 's'} {listed(seeds)}"
