"""What a cell of a paper's table holds: our runs of one method, and what the paper prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from handful.benchmark.grouping import Row
from handful.benchmark.significance import half_interval
from handful.datasets.source import short_name

__all__ = ["MEAN", "MEASURES", "Cell", "Measure", "cell", "measures"]

ACCURACY, MEAN = "accuracy", "mean of the shifted"
NOTHING = "–"
_MIB_OF_GIB = 1024


@dataclass(frozen=True)
class Measure:
    """A column: what it is called, and how it is had from a run; None where a run lacks it."""

    name: str
    words: str
    of: Callable[[Row], float | None]
    is_accuracy: bool = False

    def text(self, value: float) -> str:
        """Return a number as it is shown; costs with three digits."""
        if self.is_accuracy:
            return f"{value:.1f}"
        return "<0.001" if 0 < value < 0.001 else f"{value:.3g}"


def _cost(name: str, factor: float) -> Callable[[Row], float | None]:
    return lambda row: None if row.get(name) is None else factor * float(row[name])


def _memory(row: Row) -> float | None:
    held = row.get("peak_device_mb") or row.get("peak_memory_mb")
    return None if held is None else float(held) / _MIB_OF_GIB


MEASURES = {
    one.name: one
    for one in (
        Measure(ACCURACY, "accuracy", lambda row: 100 * float(row["accuracy"]), is_accuracy=True),
        Measure("trained", "trained, millions", _cost("trained_parameters", 1e-6)),
        Measure("minutes", "minutes", _cost("fit_seconds", 1 / 60)),
        Measure("memory", "memory, GiB", _memory),
        Measure("ms", "ms per image", _cost("inference_seconds_per_image", 1000)),
    )
}


def measures(
    columns: Sequence[str], tests: Sequence[str], sources: Mapping[str, Row]
) -> list[Measure]:
    """Return the columns of a table, and one more for each shifted test set and for their mean.

    Args:
        columns: keys of ``MEASURES``.
        tests: what the sets that are tested on are called.
        sources: lines of a results file by digest, which name the tests of a run.
    """
    found = [MEASURES[name] for name in columns]
    for name in tests:
        found.append(Measure(name, name, _tested(name, sources), is_accuracy=True))
    if len(tests) > 1:
        found.append(Measure(MEAN, MEAN, _mean_of_tests, is_accuracy=True))
    return found


def _tested(name: str, sources: Mapping[str, Row]) -> Callable[[Row], float | None]:
    def of(row: Row) -> float | None:
        for test in row.get("tests", ()):
            flags: Sequence[str] = sources.get(test["source"], {}).get("flags", ())
            if len(flags) > 1 and short_name(flags[1]) == name:
                return 100 * float(test["accuracy"])
        return None

    return of


def _mean_of_tests(row: Row) -> float | None:
    tests: Sequence[Mapping[str, Any]] = row.get("tests", ())
    return 100 * fmean(float(test["accuracy"]) for test in tests) if tests else None


@dataclass(frozen=True)
class Cell:
    """Our number: one value for each seed, or for each seed the mean over several data sets.

    Attributes:
        values: by seed, in the unit of the column.
        complete: whether all seeds are there.
    """

    values: Mapping[int, float]
    complete: bool

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return fmean(self.values.values())

    def text(self, measure: Measure) -> str:
        """Return it as it stands in a table; of accuracies with half the interval."""
        if not self.values:
            return NOTHING
        text = measure.text(self.mean)
        around = half_interval(list(self.values.values()))
        if measure.is_accuracy and around is not None:
            text += f" ±{around:.1f}"
        return text if self.complete else f"{text} (n={len(self.values)})"


def cell(rows: Sequence[Row], measure: Measure, seeds: Sequence[int]) -> Cell:
    """Return the number of runs of one method, on one source, with one number of shots."""
    values = {row["seed"]: value for row in rows if (value := measure.of(row)) is not None}
    return Cell(dict(sorted(values.items())), set(values) >= set(seeds))
