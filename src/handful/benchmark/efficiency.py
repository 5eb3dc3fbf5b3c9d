"""Accuracy beside what it costs: the shape of CLIP-Adapter's Tables 1, 2, 3 and 10.

A line is a method, or a method with settings. Accuracies are means over seeds; numbers, times and
memory are means over the runs with the most shots that the line has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from handful.benchmark.grouping import Place, Row, group, labels_in_order
from handful.benchmark.results import Results
from handful.benchmark.text_table import TextTable
from handful.errors import InputError

__all__ = ["efficiency_tables"]

_COSTS = ("trained", "fit s", "processor s", "memory MB", "ms/image", "processor ms")
_NOTE = (
    "Accuracy in %, mean over seeds ± standard deviation. What it costs is that of the most shots "
    "in the line. trained: numbers that an optimiser set. fit s: seconds to choose settings and "
    "fit, of a head from stored features on, inside an encoder from the images on. memory: the "
    "most that the process held{device}. ms/image: milliseconds from the pixels of an image to its "
    "class. processor: the same in its own time, which other programs do not lengthen. –: not "
    "measured."
)


def efficiency_tables(results: Sequence[Results]) -> list[TextTable]:
    """Return a table for each source, protocol and selection policy.

    Args:
        results: of runs with equal keys the first counts.

    Raises:
        InputError: there are no runs, or a run lacks something.
    """
    runs = {key: row for one in reversed(results) for key, row in one.runs.items()}
    sources = {digest: row for one in reversed(results) for digest, row in one.sources.items()}
    if not runs:
        raise InputError("there is no run in these results: make some with 'handful bench run'.")
    names = {row["source"]: sources.get(row["source"], {}).get("name") for row in runs.values()}
    order = labels_in_order(runs.values())
    tables = []
    for (protocol, select), found in sorted(group(runs).items()):
        for digest, name in sorted(names.items(), key=lambda item: (str(item[1]), item[0])):
            own = {
                label: {p: row for p, row in found[label].items() if p.source == digest}
                for label in order
                if label in found
            }
            lines = {label: rows for label, rows in own.items() if rows}
            if lines:
                title = f"{name or digest[:8]}, protocol {protocol}, selection {select}"
                tables.append(_table(title, lines))
    return tables


def _table(title: str, lines: Mapping[str, Mapping[Place, Row]]) -> TextTable:
    everything = [row for rows in lines.values() for row in rows.values()]
    shots = sorted({row["shots"] for row in everything})
    device = any(row.get("peak_device_mb") for row in everything)
    names, given = _short_names({label: next(iter(r.values())) for label, r in lines.items()})
    table = []
    for label, rows in lines.items():
        last = max(place.shots for place in rows)
        dearest = [row for place, row in rows.items() if place.shots == last]
        accuracies = [_accuracy(row for p, row in rows.items() if p.shots == k) for k in shots]
        table.append((names[label], *accuracies, *_costs(dearest, device)))
    note = _NOTE.format(device=" + on the GPU" if device else "")
    if given:
        note += f" Settings that were given: {'; '.join(given)}."
    return TextTable(title, note, ("method", *map(str, shots), *_COSTS), tuple(table))


def _short_names(rows: Mapping[str, Row]) -> tuple[dict[str, str], list[str]]:
    """Return names for labels, and what they leave out: given settings that tell nothing apart."""
    names, said = {}, []
    for method in dict.fromkeys(row["method"] for row in rows.values()):
        own = {label: row["given"] for label, row in rows.items() if row["method"] == method}
        common = dict(
            set.intersection(*({(n, repr(v)) for n, v in given.items()} for given in own.values()))
        )
        for label, given in own.items():
            rest = ", ".join(f"{n}={v}" for n, v in sorted(given.items()) if n not in common)
            names[label] = f"{method} ({rest})" if rest else method
        if common:
            words = ", ".join(f"{n}={v}" for n, v in sorted(common.items()))
            said.append(f"{method} {words}")
    return names, said


def _accuracy(rows: Iterable[Row]) -> str:
    values = [100 * row["accuracy"] for row in rows]
    if not values:
        return "–"
    more = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{more}"


def _costs(rows: Sequence[Row], device: bool) -> tuple[str, ...]:
    memory = _mean(rows, "peak_memory_mb", "{:.0f}")
    if device:
        memory += " + " + _mean(rows, "peak_device_mb", "{:.0f}")
    return (
        _mean(rows, "trained_parameters", "{:,.0f}"),
        _mean(rows, "fit_seconds", "{:.2f}"),
        _mean(rows, "fit_processor_seconds", "{:.2f}"),
        memory,
        _mean(rows, "inference_seconds_per_image", "{:.3f}", 1000),
        _mean(rows, "inference_processor_seconds_per_image", "{:.3f}", 1000),
    )


def _mean(rows: Sequence[Row], what: str, form: str, factor: float = 1) -> str:
    values: list[Any] = [row[what] for row in rows if what in row]
    return form.format(factor * mean(values)) if values else "–"
