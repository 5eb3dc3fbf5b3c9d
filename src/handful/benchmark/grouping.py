"""Which runs may stand beside each other: by protocol and policy, by label, source, shots, seed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

from handful.errors import InputError
from handful.methods import registry as heads
from handful.tuning import registry as tunings

__all__ = [
    "Grid",
    "Missing",
    "Place",
    "Row",
    "Runs",
    "group",
    "label_of",
    "labels_in_order",
    "lay_out",
    "missing",
    "refuse_incomplete",
    "shots_in_words",
    "uncounted",
]

Row = Mapping[str, Any]  # a line of a results file

NEEDED = {
    "source", "protocol", "select", "shots", "seed", "method", "given", "accuracy", "test_images",
    "right", "settings", "selection", "negative_log_likelihood", "calibration_error",
    "fit_seconds", "command",
}  # fmt: skip


class Place(NamedTuple):
    """A draw: under one protocol, methods with runs at one place have seen the same images."""

    source: str
    shots: int
    seed: int


Runs = dict[str, dict[Place, Row]]  # by label


def group(runs: Mapping[str, Row]) -> dict[tuple[str, str], Runs]:
    """Return the runs of each protocol and selection policy.

    Raises:
        InputError: a run lacks something.
    """
    refuse_incomplete(runs)
    found: dict[tuple[str, str], Runs] = {}
    for row in runs.values():
        same = found.setdefault((row["protocol"], row["select"]), {})
        place = Place(row["source"], row["shots"], row["seed"])
        same.setdefault(label_of(row), {}).setdefault(place, row)
    return found


def refuse_incomplete(runs: Mapping[str, Row]) -> None:
    """Refuse runs that something is not told of, or whose accuracy is no number.

    Raises:
        InputError: there is one.
    """
    for key, row in runs.items():
        if lacking := sorted(NEEDED - row.keys()):
            raise InputError(
                f"the run '{key}' lacks '{lacking[0]}': remove its line from the results, and run"
                " again."
            )
        if not isinstance(row["accuracy"], int | float) or not isfinite(row["accuracy"]):
            raise InputError(
                f"the run '{key}' has accuracy {row['accuracy']!r:.80}: expected a number; remove"
                " its line from the results, and run again."
            )


def label_of(row: Row) -> str:
    """Return the method with the settings that were given: they make it another method."""
    given = ", ".join(f"{name}={_short(value)}" for name, value in sorted(row["given"].items()))
    return f"{row['method']} ({given})" if given else str(row["method"])


def shots_in_words(k: int) -> str:
    """Return 1 shot, or 2 shots."""
    return "1 shot" if k == 1 else f"{k} shots"


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value, ensure_ascii=False)


def labels_in_order(rows: Iterable[Row]) -> list[str]:
    """Return the labels, in the order of the lists of methods; unknown ones last."""
    known = [*heads.names(), *tunings.names()]

    def place(row: Row) -> tuple[int, str]:
        method = row["method"]
        return known.index(method) if method in known else len(known), label_of(row)

    return list(dict.fromkeys(label for _, label in sorted(map(place, rows))))


@dataclass(frozen=True)
class Grid:
    """Which cells of a table are there, and which of them may be compared.

    Attributes:
        sources: digests.
        seeds: those that most cells have; of two sets that are equally frequent the larger.
        shots: all there are.
        averaged: those that are complete for most labels, likewise.
        complete: label and shots of the cells that have all seeds on all sources.
    """

    sources: tuple[str, ...]
    seeds: tuple[int, ...]
    shots: tuple[int, ...]
    averaged: tuple[int, ...]
    complete: frozenset[tuple[str, int]]

    def places(self, shots: Iterable[int]) -> list[Place]:
        """Return where a complete label has its runs."""
        return [Place(d, k, seed) for d in self.sources for k in shots for seed in self.seeds]


def lay_out(runs: Runs, sources: Sequence[str]) -> Grid:
    """Find out which cells of these sources are complete."""
    seeds_of: dict[tuple[str, str, int], set[int]] = {}
    for label, found in runs.items():
        for place in found:
            if place.source in sources:
                cell = (label, place.source, place.shots)
                seeds_of.setdefault(cell, set()).add(place.seed)
    seeds = _usual(frozenset(one) for one in seeds_of.values())
    shots = sorted({k for _, _, k in seeds_of})
    complete = frozenset(
        (label, k)
        for label in runs
        for k in shots
        if all(seeds_of.get((label, digest, k), set()) >= seeds for digest in sources)
    )
    averaged = _usual(frozenset(k for k in shots if (label, k) in complete) for label in runs)
    return Grid(
        tuple(sources), tuple(sorted(seeds)), tuple(shots), tuple(sorted(averaged)), complete
    )


def _usual(sets: Iterable[frozenset[int]]) -> frozenset[int]:
    counts = Counter(one for one in sets if one)
    return max(counts, key=lambda one: (counts[one], len(one), sorted(one)), default=frozenset())


@dataclass(frozen=True)
class Missing:
    """A cell that an average over sources leaves out, and the sources where it is not complete."""

    label: str
    shots: int
    sources: tuple[str, ...]


def missing(runs: Runs, grid: Grid, names: Mapping[str, str]) -> Iterator[Missing]:
    """Yield the cells that an average over the sources of a grid leaves out; none for one source.

    Args:
        runs: of these sources, and of others.
        grid: laid out for them.
        names: of sources, by digest.
    """
    if len(grid.sources) == 1:
        return
    for label, found in runs.items():
        for k in grid.shots:
            if (label, k) in grid.complete or not any(place.shots == k for place in found):
                continue
            lacking = [
                names[digest]
                for digest in grid.sources
                if not found.keys() >= {Place(digest, k, seed) for seed in grid.seeds}
            ]
            yield Missing(label, k, tuple(lacking))


def uncounted(runs: Runs, grid: Grid) -> Iterator[str]:
    """Yield the labels that have runs of more than the seeds of the grid in a complete cell."""
    for label, found in runs.items():
        if any(
            p.source in grid.sources
            and (label, p.shots) in grid.complete
            and p.seed not in grid.seeds
            for p in found
        ):
            yield label
