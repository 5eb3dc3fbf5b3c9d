"""Runs that measured trust, put together: calibration, prediction sets, unsure, strangers.

A line is one method on one source under one protocol and policy; each number is the mean over its
runs, that is over shots and seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from handful.benchmark.results import Results
from handful.benchmark.text_table import TextTable
from handful.errors import InputError

__all__ = ["trust_tables"]

Row = Mapping[str, Any]
_HIGH = 0.05  # calibration errors above it are those that calibration is for


def trust_tables(results: Sequence[Results]) -> list[TextTable]:
    """Return the tables for which there are runs.

    Raises:
        InputError: no run has measured anything.
    """
    runs = {key: row for one in reversed(results) for key, row in one.runs.items()}
    names = {d: str(s["name"]) for one in results for d, s in one.sources.items()}
    found = [
        table
        for make in (_calibration, _sets, _unsure, _strangers)
        if (table := make(list(runs.values()), names)) is not None
    ]
    if not found:
        raise InputError(
            "no run in these results has measured more than accuracy: make some with 'handful "
            "bench run --measure trust,strangers'."
        )
    return found


def _grouped(
    runs: Iterable[Row], names: Mapping[str, str], has: Callable[[Row], bool]
) -> dict[tuple[str, str, str], list[Row]]:
    found: dict[tuple[str, str, str], list[Row]] = {}
    kept = [row for row in runs if has(row)]
    drawn: dict[str, set[str]] = {}
    for row in kept:
        drawn.setdefault(row["source"], set()).add(row["protocol"])
    for row in kept:
        given = "".join(f" {name}={value}" for name, value in row["given"].items())
        where = names.get(row["source"], row["source"][:8])
        if len(drawn[row["source"]]) > 1:
            where += f" ({row['protocol']})"
        found.setdefault((where, row["select"], row["method"] + given), []).append(row)
    return dict(sorted(found.items()))


def _calibration(runs: Sequence[Row], names: Mapping[str, str]) -> TextTable | None:
    groups = _grouped(runs, names, lambda row: "trust" in row)
    if not groups:
        return None
    rows = [(*key, *_before_after(own)) for key, own in groups.items()]
    everything = [row for own in groups.values() for row in own]
    rows.append(("all", "", "", *_before_after(everything)))
    return TextTable(
        "Calibration",
        "Before and after calibration, mean over shots and seeds: expected calibration error (15 "
        "bins) in %, of all runs and of those where it was above 5 % before; negative "
        "log-likelihood; Brier score.",
        ("source", "select", "method", "runs", "error", "of high ones", "likelihood", "Brier"),
        tuple(rows),
    )


def _before_after(own: Sequence[Row]) -> tuple[str, ...]:
    def values(what: str, when: str) -> Any:
        return np.array([row["trust"]["calibration"][when][what] for row in own])

    error = [values("calibration_error", when) for when in ("before", "after")]
    high = error[0] > _HIGH
    likelihood = [values("negative_log_likelihood", when).mean() for when in ("before", "after")]
    brier = [values("brier_score", when).mean() for when in ("before", "after")]
    return (
        str(len(own)),
        f"{error[0].mean():.1%} → {error[1].mean():.1%}",
        f"{error[0][high].mean():.1%} → {error[1][high].mean():.1%} ({high.sum()})"
        if high.any()
        else "–",
        f"{likelihood[0]:.3f} → {likelihood[1]:.3f}",
        f"{brier[0]:.3f} → {brier[1]:.3f}",
    )


def _sets(runs: Sequence[Row], names: Mapping[str, str]) -> TextTable | None:
    groups = _grouped(runs, names, lambda row: bool(row.get("trust", {}).get("sets")))
    rows = []
    for key, own in groups.items():
        for kind in dict.fromkeys(k for row in own for k in row["trust"]["sets"]):
            cells = [row["trust"]["sets"][kind] for row in own if kind in row["trust"]["sets"]]
            wanted, _, how = kind.partition(" ")
            mean = {n: np.mean([c[n] for c in cells]) for n in ("coverage", "size", "images")}
            below = sum(c["coverage"] < c["interval"][0] for c in cells)
            rows.append(
                (
                    *key,
                    f"{float(wanted):.0%}",
                    "each class" if how == "by_class" else "all",
                    str(len(cells)),
                    f"{mean['images']:.0f}",
                    f"{mean['coverage']:.1%}",
                    f"{np.mean([c['interval'][0] for c in cells]):.1%}",
                    str(below),
                    f"{mean['size']:.2f}",
                )
            )
    if not rows:
        return None
    return TextTable(
        "Prediction sets",
        "Coverage asked for and measured on test images; the lower end of the 90 % interval that "
        "so many held-out images allow (beta-binomial), the runs below it, labels in a set.",
        ("source", "select", "method", "asked", "over", "runs", "images", "measured", "bound",
         "below", "size"),
        tuple(rows),
    )  # fmt: skip


def _unsure(runs: Sequence[Row], names: Mapping[str, str]) -> TextTable | None:
    groups = _grouped(runs, names, lambda row: bool(row.get("trust", {}).get("unsure")))
    rows = []
    for key, own in groups.items():
        for rate in dict.fromkeys(k for row in own for k in row["trust"]["unsure"]):
            cells = [row["trust"]["unsure"][rate] for row in own if rate in row["trust"]["unsure"]]
            kinds = sorted({c["score"] for c in cells})
            measured = [c["false_alarms"] for c in cells]
            rows.append(
                (*key, f"{float(rate):.0%}", str(len(cells)), f"{np.mean(measured):.1%}",
                 ", ".join(kinds))
            )  # fmt: skip
    if not rows:
        return None
    return TextTable(
        "False alarms",
        "Share of test images of the classes that are called unsure, asked for and measured.",
        ("source", "select", "method", "asked", "runs", "measured", "score"),
        tuple(rows),
    )


def _strangers(runs: Sequence[Row], names: Mapping[str, str]) -> TextTable | None:
    groups = _grouped(runs, names, lambda row: bool(row.get("strangers")))
    rows = []
    for key, own in groups.items():
        for shots in sorted({row["shots"] for row in own}):
            cells = [c for row in own if row["shots"] == shots for c in row["strangers"]]
            by_class: dict[str, list[float]] = {}
            for cell in cells:
                by_class.setdefault(cell["class"], []).append(cell["auroc"])
            hardest = min(by_class, key=lambda name: float(np.mean(by_class[name])))
            flagged = [c["unsure"].get("0.05") for c in cells if c["unsure"].get("0.05")]
            rows.append(
                (
                    *key,
                    str(shots),
                    str(len(cells)),
                    f"{np.mean([c['auroc'] for c in cells]):.3f}",
                    f"{np.mean(by_class[hardest]):.3f} ({hardest})",
                    f"{np.mean([c['fpr95'] for c in cells]):.1%}",
                    f"{np.mean([f[0] for f in flagged]):.1%}" if flagged else "–",
                    f"{np.mean([f[1] for f in flagged]):.1%}" if flagged else "–",
                )
            )
    if not rows:
        return None
    return TextTable(
        "Classes never seen",
        "Each class left out in turn, its test images against those of the others: AUROC, that of "
        "the hardest class, strangers accepted where 95 % of the known are, and, where 5 % of "
        "false alarms are asked for, the share of the known and of the strangers called unsure.",
        ("source", "select", "method", "shots", "left out", "AUROC", "hardest", "FPR95",
         "known unsure", "strangers unsure"),
        tuple(rows),
    )  # fmt: skip
