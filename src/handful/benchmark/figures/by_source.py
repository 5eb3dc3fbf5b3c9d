"""The gain over zero-shot on each source, side by side: Figure 4 of the CLIP-Adapter paper.

Up to four methods are bars with their values; more are markers, as so many bars cannot be told
apart. All of it is at one number of shots, and of methods that have it on every source shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

from handful.benchmark.column import Figure as Number
from handful.benchmark.figures.looks import Look
from handful.benchmark.figures.page import LETTERS, LINE, WIDTH, heading, legend
from handful.benchmark.figures.panels import comparable, gain, plain, seeds_in_words
from handful.benchmark.grouping import shots_in_words
from handful.benchmark.summary import ZERO_SHOT, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Gains", "draw_by_source", "gains_by_source", "not_by_source"]

MOST_BARS = 4  # methods, and patterns that grey print tells apart
PATTERNS = ("", "////", "....", "xxxx")
BAR, DOT = 0.17, 0.11  # inches, from a method to the next
GAP = 0.12  # inches, between sources
TALLEST = 7.0  # inches of all dots: of very many, they stand closer together
NAME = 26  # letters of a line of a name
VALUE = 0.42  # inches for a value at the end of a bar


@dataclass(frozen=True, eq=False)
class Gains:
    """Gains over zero-shot on the same draws, in points.

    Attributes:
        shots: images per class; of those that most sources have, the most.
        tables: of the sources, those of the highest gain first: the mean over methods.
        of: by label and name of the source, mean and standard deviation over seeds.
        numbers: what they were computed from.
    """

    shots: int
    tables: tuple[Table, ...]
    of: Mapping[str, Mapping[str, tuple[float, float]]]
    numbers: tuple[Number, ...]

    @property
    def names(self) -> list[str]:
        """Of the sources."""
        return [table.names[0] for table in self.tables]


def gains_by_source(tables: Sequence[Table]) -> Gains | None:
    """Return what can be compared on two sources or more; None if nothing can.

    Args:
        tables: of one protocol and policy; averages among them are passed over.
    """
    single = {table.names[0]: table for table in tables if len(table.sources) == 1}
    there = {name: comparable(table) for name, table in single.items()}
    having: dict[int, list[str]] = {}
    for name, cells in there.items():
        for k in cells.get(ZERO_SHOT, {}):
            if any(k in of for label, of in cells.items() if label != ZERO_SHOT):
                having.setdefault(k, []).append(name)
    # Numbers of shots by how many sources have them, then by their size.
    for k in sorted(having, key=lambda k: (len(having[k]), k), reverse=True):
        names = having[k]
        if len(names) < 2:
            break
        labels = dict.fromkeys(label for name in names for label in there[name])
        shown = [
            label
            for label in labels
            if label != ZERO_SHOT and all(k in there[name].get(label, {}) for name in names)
        ]
        if not shown:
            continue
        of = {
            label: {n: gain(there[n][label][k], there[n][ZERO_SHOT][k]) for n in names}
            for label in shown
        }
        means = {n: round(statistics.fmean(of[label][n][0] for label in shown), 9) for n in names}
        ordered = sorted(names, key=lambda name: (-means[name], name))
        numbers = tuple(there[name][label][k] for name in ordered for label in shown)
        return Gains(k, tuple(single[name] for name in ordered), of, numbers)
    return None


def not_by_source(tables: Sequence[Table]) -> Iterator[str]:
    """Yield a sentence for the methods and the sources that :func:`gains_by_source` leaves out.

    Args:
        tables: the same.
    """
    gains = gains_by_source(tables)
    if gains is None:
        return
    single = [table for table in tables if len(table.sources) == 1]
    first = tables[0]
    at = f"at {shots_in_words(gains.shots)}"
    where = f"{first.protocol}, {first.select}"
    labels = dict.fromkeys(line.label for table in single for line in table.lines)
    if lacking := [label for label in labels if label not in (ZERO_SHOT, *gains.of)]:
        yield (
            f"Not among the gains by source, as not all {len(gains.names)} sources have them {at}:"
            f" {', '.join(lacking)} ({where})."
        )
    if alone := [name for table in single for name in table.names if name not in gains.names]:
        yield (
            f"Not among the gains by source, as nothing or no zero-shot may be compared {at}:"
            f" {', '.join(alone)} ({where})."
        )


def draw_by_source(tables: Sequence[Table], looks: Mapping[str, Look]) -> Figure:
    """Draw it, inside :func:`~handful.report.figures.ready`.

    Args:
        tables: of which :func:`gains_by_source` finds something.
        looks: by label.
    """
    from matplotlib.figure import Figure

    gains = gains_by_source(tables)
    assert gains is not None
    labels = [label for label in looks if label in gains.of]
    bars = len(labels) <= MOST_BARS
    names = [fill(plain(name), NAME, break_on_hyphens=False) for name in gains.names]
    longest = max(len(line) for name in names for line in name.split("\n"))
    least = max(max(name.count("\n") + 1 for name in names) * LINE, 1.4 / len(names))
    if bars:  # few of them are thick, where there is room
        pitch = max(BAR, min(1.5 * BAR, (least - GAP) / len(labels)))
    else:
        pitch = min(DOT, TALLEST / len(labels) / len(names))
    row = max(len(labels) * pitch + GAP, least)
    figure = Figure(figsize=(WIDTH, 1), layout="constrained")
    ax = figure.subplots()
    handles = []
    for place, label in enumerate(labels):
        shift = pitch * (place - (len(labels) - 1) / 2)
        heights = [row * n + shift for n in range(len(names))]
        points = [gains.of[label][name] for name in gains.names]
        if bars:
            pattern = PATTERNS[place]
            handles.append(_bars(ax, heights, points, looks[label], label, pitch, pattern))
        else:
            handles.append(_dots(ax, heights, points, looks[label], label))
    handles.append(ax.axvline(0, **looks[ZERO_SHOT].line, label=ZERO_SHOT))
    for n in range(0, len(names), 2):  # which line a marker belongs to
        ax.axhspan(row * (n - 0.5), row * (n + 0.5), color="#f5f5f5", linewidth=0, zorder=0)
    ax.set_xlim(*_limits(gains, VALUE if bars else 0.1, WIDTH - longest / LETTERS - 0.4))
    ax.set_ylim(row * (len(names) - 0.5), -row * 0.5)  # the highest gain is on top
    ax.set_yticks([row * n for n in range(len(names))], names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set_xlabel("gain over zero-shot, points")
    text = legend(figure, handles, WIDTH) + heading(figure, _said(gains), WIDTH) + 3
    figure.set_size_inches(WIDTH, row * len(names) + text * LINE)
    return figure


def _bars(
    ax: Axes,
    heights: Sequence[float],
    points: Sequence[tuple[float, float]],
    look: Look,
    label: str,
    pitch: float,
    pattern: str,
) -> object:
    """Draw bars with their values behind them, on the side to which they point."""
    found = ax.barh(
        heights,
        [mean for mean, _ in points],
        height=0.82 * pitch,
        color=look.colour,
        edgecolor="white",
        linewidth=0,
        hatch=pattern,
        label=plain(label),
    )
    for height, (mean, spread) in zip(heights, points, strict=True):
        ax.plot([mean - spread, mean + spread], [height, height], color="black", linewidth=0.9)
        side = -1 if mean < 0 else 1
        ax.annotate(
            _signed(mean),
            (mean + side * spread, height),
            (side * 3, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center_baseline",
        )
    return found


def _dots(
    ax: Axes,
    heights: Sequence[float],
    points: Sequence[tuple[float, float]],
    look: Look,
    label: str,
) -> object:
    """Draw markers, and a line of one standard deviation to each side."""
    for height, (mean, spread) in zip(heights, points, strict=True):
        ax.plot([mean - spread, mean + spread], [height, height], color=look.colour, linewidth=0.9)
    (found,) = ax.plot([mean for mean, _ in points], heights, **look.marker, label=plain(label))
    return found


def _signed(points: float) -> str:
    """Return a gain with its sign; one that rounds to nothing has none."""
    text = f"{abs(points):.1f}"
    if text == "0.0":
        return text
    return ("+" if points > 0 else "\N{MINUS SIGN}") + text


def _limits(gains: Gains, room: float, width: float) -> tuple[float, float]:
    """Return the ends of the axis: zero, all bars, and room for words where bars end.

    Args:
        gains: that are drawn.
        room: inches at an end that bars reach.
        width: of the panel, inches.
    """
    found = [point for of in gains.of.values() for point in of.values()]
    low = min(0.0, *(mean - spread for mean, spread in found))
    high = max(0.0, *(mean + spread for mean, spread in found))
    left, right = (room if end else 0.05 for end in (low < 0, high > 0))
    inch = ((high - low) or 1.0) / (width - left - right)
    return low - left * inch, high + right * inch


def _said(gains: Gains) -> str:
    first = gains.tables[0]
    seeds = dict.fromkeys(number.seeds for number in gains.numbers)
    of = f"Protocol {first.protocol}, selection {first.select}, {shots_in_words(gains.shots)}"
    said = [f"{of}, {' or '.join(map(seeds_in_words, seeds))}."]
    if any(spread for of_label in gains.of.values() for _, spread in of_label.values()):
        said.append("Mean ± 1 standard deviation over seeds.")
    if len(gains.of) > 1:
        said.append("Sources in the order of the mean gain of these methods.")
    if any(number.settings_fixed for number in gains.numbers):
        said.append("Documented settings where nothing could be held out.")
    return " ".join(said)
