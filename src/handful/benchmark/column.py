"""The numbers of one column of a table, each with its place among the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from handful.benchmark.anchors import Anchor, Published
from handful.benchmark.grouping import Place, Row
from handful.benchmark.significance import PairedTest, compare, half_interval

__all__ = ["Figure", "column", "ranks"]


@dataclass(frozen=True)
class Figure:
    """A mean accuracy over seeds. Accuracies and their differences are fractions, not percent.

    Attributes:
        seeds: sorted.
        accuracies: one per seed; where several sources or shots are averaged, means over them.
        rows: the runs behind it.
        complete: whether it has all seeds of its table; if not, it is compared with nothing.
        settings_fixed: whether the policy was ``cv`` but nothing could be held out (one shot), so
            that the documented settings were taken.
        negative_log_likelihood, calibration_error, fit_seconds: means over the runs.
        gain: over the baseline on the same draws.
        error_reduction: part of the baseline's errors that is gone.
        rank: among complete figures, 1 is best, ties share; mean over sources and shots.
        best: whether no complete figure is higher.
        to_best: test against the best one; None for that itself.
        to_baseline: test against the baseline.
        published: what published code reaches, where anchors say it for all of this.
    """

    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    rows: tuple[Row, ...]
    complete: bool
    settings_fixed: bool
    negative_log_likelihood: float
    calibration_error: float
    fit_seconds: float
    gain: float | None = None
    error_reduction: float | None = None
    rank: float | None = None
    best: bool = False
    to_best: PairedTest | None = None
    to_baseline: PairedTest | None = None
    published: Published | None = None

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.accuracies))

    @property
    def deviation(self) -> float | None:
        """Standard deviation over seeds, divided by n − 1; None for one seed."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else None

    @property
    def interval(self) -> float | None:
        """Half the 95 % interval of the mean, over seeds; None for one seed."""
        return half_interval(self.accuracies)


def column(
    runs: Mapping[str, Mapping[Place, Row]],
    complete: Collection[str],
    baseline: str,
    anchor: Callable[[Row], Anchor | None],
) -> dict[str, Figure]:
    """Compare methods on one cell each, or on the same several cells.

    Args:
        runs: by label; for complete labels at the same places.
        complete: labels whose numbers may be compared.
        baseline: label that gains and one of the tests are against; it may be absent.
        anchor: gives the published code that was measured on the same work as a run.
    """
    accuracies = {
        label: {place: float(row["accuracy"]) for place, row in found.items()}
        for label, found in runs.items()
    }
    compared = {label: accuracies[label] for label in runs if label in complete}
    means = {label: round(float(np.mean([*a.values()])), 9) for label, a in compared.items()}
    top = max(means.values(), default=None)
    best = next((label for label in means if means[label] == top), None)
    to_best = compare(compared, best) if best is not None else {}
    to_baseline = compare(compared, baseline) if baseline in compared else {}
    placed = _mean_ranks(compared)
    found = {}
    for label, rows in runs.items():
        gain = reduction = None
        if label in compared and baseline in means and label != baseline:
            gain = means[label] - means[baseline]
            reduction = gain / (1 - means[baseline]) if means[baseline] < 1 else None
        found[label] = Figure(
            *_by_seed(accuracies[label]),
            rows=tuple(rows.values()),
            complete=label in compared,
            settings_fixed=any(_settings_fixed(row) for row in rows.values()),
            negative_log_likelihood=_mean_of("negative_log_likelihood", rows),
            calibration_error=_mean_of("calibration_error", rows),
            fit_seconds=_mean_of("fit_seconds", rows),
            gain=gain,
            error_reduction=reduction,
            rank=placed.get(label),
            best=label in means and means[label] == top,
            to_best=to_best.get(label),
            to_baseline=to_baseline.get(label),
            published=_published({place: anchor(row) for place, row in rows.items()}),
        )
    return found


def ranks(values: Mapping[str, float]) -> dict[str, float]:
    """Return ranks, 1 for the highest; equal values share the mean of their ranks."""
    rounded = {label: round(value, 9) for label, value in values.items()}
    return {
        label: sum(other > value for other in rounded.values())
        + (sum(other == value for other in rounded.values()) + 1) / 2
        for label, value in rounded.items()
    }


def _mean_ranks(accuracies: Mapping[str, Mapping[Place, float]]) -> dict[str, float]:
    cells = dict.fromkeys(place[:2] for found in accuracies.values() for place in found)
    of_cells = [
        ranks(
            {
                label: float(np.mean([a for place, a in found.items() if place[:2] == cell]))
                for label, found in accuracies.items()
            }
        )
        for cell in cells
    ]
    return {label: float(np.mean([one[label] for one in of_cells])) for label in accuracies}


def _by_seed(accuracies: Mapping[Place, float]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    seeds = tuple(sorted({place.seed for place in accuracies}))
    means = (np.mean([a for p, a in accuracies.items() if p.seed == seed]) for seed in seeds)
    return seeds, tuple(float(mean) for mean in means)


def _mean_of(name: str, rows: Mapping[Place, Row]) -> float:
    return float(np.mean([row[name] for row in rows.values()]))


def _settings_fixed(row: Row) -> bool:
    left = row["settings"].keys() - row["given"].keys()
    return row["select"] == "cv" and row["selection"]["policy"] == "fixed" and bool(left)


def _published(found: Mapping[Place, Anchor | None]) -> Published | None:
    anchors = [one for one in found.values() if one is not None]
    if len(anchors) < len(found):
        return None
    mean = np.mean([one.accuracy[place.shots] for place, one in found.items() if one is not None])
    codes = dict.fromkeys(one.code for one in anchors)
    return Published(float(mean), tuple(codes), tuple(dict.fromkeys(one.about for one in anchors)))
