"""What runs reached elsewhere: columns beside those of shots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from handful.benchmark.column import Figure
from handful.benchmark.elsewhere import harmonic_mean
from handful.benchmark.exam import BASE_TO_NEW
from handful.benchmark.grouping import Row

__all__ = ["MEAN", "elsewhere_columns", "from_names_alone"]

BASE, HARMONIC = "base", "harmonic mean"
OWN, MEAN = "itself", "mean of others"


def elsewhere_columns(figures: Mapping[str, Figure], protocol: str) -> dict[str, dict[str, Figure]]:
    """Return, by column and label, what figures of one number of shots reached elsewhere.

    A harmonic mean is that of the two means that stand beside it, as in published tables, and has
    no deviation. Nothing where nothing was tested elsewhere.

    Args:
        figures: by label; of one source, or averages over several.
        protocol: of all.
    """
    rows = [row for figure in figures.values() for row in figure.rows]
    of_each = [[test["name"] for test in row.get("tests", ())] for row in rows]
    names = [name for name in (of_each[0] if of_each else ()) if all(name in n for n in of_each)]
    if not names:
        return {}
    own = BASE if protocol == BASE_TO_NEW else OWN
    found = {own: dict(figures)}
    for name in names:
        found[name] = {label: _of_test(figure, name) for label, figure in figures.items()}
    if protocol == BASE_TO_NEW:
        found[HARMONIC] = {
            label: replace(
                figure, accuracies=(harmonic_mean(figure.mean, found[names[0]][label].mean),)
            )
            for label, figure in figures.items()
        }
    elif len(names) > 1:
        found[MEAN] = {
            label: replace(figure, accuracies=_mean([found[name][label] for name in names]))
            for label, figure in figures.items()
        }
    return {name: _best(column) for name, column in found.items()}


def from_names_alone(figure: Figure, column: str) -> bool:
    """Return whether zero-shot rows answered in the place of a method."""
    return any(
        test["name"] == column and test["by"] != row["method"]
        for row in figure.rows
        for test in row["tests"]
    )


def _of_test(figure: Figure, name: str) -> Figure:
    by_seed = [
        float(np.mean([_accuracy(row, name) for row in figure.rows if row["seed"] == seed]))
        for seed in figure.seeds
    ]
    return replace(figure, accuracies=tuple(by_seed))


def _accuracy(row: Row, name: str) -> float:
    return next(float(test["accuracy"]) for test in row["tests"] if test["name"] == name)


def _mean(figures: Sequence[Figure]) -> tuple[float, ...]:
    return tuple(map(float, np.mean([figure.accuracies for figure in figures], axis=0)))


def _best(column: Mapping[str, Figure]) -> dict[str, Figure]:
    """Mark the best of the complete ones; no tests are made here, nor is anything published."""
    means = {label: round(f.mean, 9) for label, f in column.items() if f.complete}
    top = max(means.values(), default=None)
    return {
        label: replace(f, best=label in means and means[label] == top, to_best=None, published=None)
        for label, f in column.items()
    }
