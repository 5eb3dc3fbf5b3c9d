"""A panel of accuracy over the values of one setting, which runs were given: an ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from handful.benchmark.column import Figure as Number
from handful.benchmark.figures.looks import Look
from handful.benchmark.figures.panels import across, comparable, curve, plain, seeds_in_words
from handful.benchmark.grouping import label_of, shots_in_words
from handful.benchmark.summary import ZERO_SHOT, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["curves", "draw_over", "without"]

LOG_FROM = 8  # largest over smallest value, from which on the axis is logarithmic


def curves(table: Table, setting: str) -> dict[str, dict[Any, Number]]:
    """Return a curve for each method and number of shots: a number for each value of the setting.

    A method with other settings given is another method, as everywhere. Values are in order.
    """
    found: dict[tuple[str, int], dict[Any, Number]] = {}
    for cells in comparable(table).values():
        for k, number in cells.items():
            row = number.rows[0]
            if setting in row["given"]:
                others = {name: v for name, v in row["given"].items() if name != setting}
                method = label_of({**row, "given": others})
                found.setdefault((method, k), {})[row["given"][setting]] = number
    return {
        f"{method}, {shots_in_words(k)}": {
            value: found[method, k][value] for value in _in_order(found[method, k])
        }
        for method, k in sorted(found)
    }


def without(table: Table, setting: str) -> list[str]:
    """Return the labels that have no value of the setting, and so no place in the panel."""
    labels = [line.label for line in table.lines if line.label != ZERO_SHOT]
    rows = {line.label: next(iter(line.cells.values())).rows[0] for line in table.lines}
    return [label for label in labels if setting not in rows[label]["given"]]


def draw_over(
    setting: str, ax: Axes, table: Table, looks: Mapping[str, Look]
) -> tuple[str, list[str]]:
    """Draw the curves of a table; zero-shot is a line across. Words stand side by side."""
    found = curves(table, setting)
    values = _in_order({value for numbers in found.values() for value in numbers})
    words = any(isinstance(value, str | bool) for value in values)
    zero = comparable(table).get(ZERO_SHOT, {})
    if len({round(number.mean, 9) for number in zero.values()}) == 1:
        across(ax, 100 * next(iter(zero.values())).mean, looks[ZERO_SHOT], ZERO_SHOT)
    for place, (label, numbers) in enumerate(found.items()):
        if words:
            step = 0.6 / len(found)
            shift = step * (place - (len(found) - 1) / 2)
            at = {values.index(value) + shift: n for value, n in numbers.items()}
            _bars(ax, at, looks[label], label)
        else:
            points = {v: (100 * n.mean, 100 * (n.deviation or 0)) for v, n in numbers.items()}
            curve(ax, points, numbers, looks[label], label)
    _axis(ax, setting, values, words)
    drawn = [number for numbers in found.values() for number in numbers.values()]
    said = []
    if any(number.deviation is not None for number in drawn):
        said.append("Mean ± 1 standard deviation.")
    if any(number.settings_fixed for number in drawn):
        said.append("White inside: other settings documented, as nothing could be held out.")
    seeds = dict.fromkeys(number.seeds for number in drawn)
    return " or ".join(map(seeds_in_words, seeds)), said


def _bars(ax: Axes, numbers: Mapping[float, Number], look: Look, label: str) -> None:
    """Draw a marker with a bar of one standard deviation to each side."""
    for n, (place, number) in enumerate(numbers.items()):
        mean, around = 100 * number.mean, 100 * (number.deviation or 0)
        inside = {"markerfacecolor": "white", "markeredgecolor": look.colour}
        marker = look.marker | (inside if number.settings_fixed else {})
        ax.plot([place, place], [mean - around, mean + around], color=look.colour, linewidth=0.8)
        ax.plot([place], [mean], **marker, label=plain(label) if n == 0 else "_more")


def _axis(ax: Axes, setting: str, values: Sequence[Any], words: bool) -> None:
    names = [str(value).lower() if isinstance(value, bool) else f"{value}" for value in values]
    if words:
        ax.set_xticks(range(len(values)), names)
        ax.set_xlim(-0.5, len(values) - 0.5)
    else:
        if values[0] > 0 and values[-1] >= LOG_FROM * values[0]:
            ax.set_xscale("log", base=2)
        ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.minorticks_off()
    ax.set_xlabel(plain(setting))
    ax.set_ylabel("accuracy, %")


def _in_order(values: Any) -> list[Any]:
    """Sort numbers by size; words, where there are any, by name."""
    if any(isinstance(value, str | bool) for value in values):
        return sorted(values, key=str)
    return sorted(values)
