"""One run: a method learns a draw, and is tested. Everything that a results line holds."""

from __future__ import annotations

import base64
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.benchmark.protocols import Draw
from handful.benchmark.sources import Source
from handful.datasets.duplicates import duplicate_groups
from handful.evaluation.report import evaluate_probabilities
from handful.functional.normalise import unit
from handful.methods.head import Head
from handful.selection.select import choose_policy, select
from handful.task import FewShotTask

__all__ = ["Run", "learn", "run_once", "task_of"]


@dataclass(frozen=True)
class Run:
    """What is run. Two runs with equal fields give equal results.

    Attributes:
        source: digest of the source.
        protocol, select, shots, seed, method: as on the command line; ``select`` is ``val``,
            ``cv`` or ``fixed``.
        settings: given ones, as sorted pairs; they are not searched.
    """

    source: str
    protocol: str
    select: str
    shots: int
    seed: int
    method: str
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def key(self) -> str:
        """A text that is equal for equal runs."""
        given = "".join(f" {name}={value!r}" for name, value in self.settings)
        where = f"{self.source[:16]} {self.protocol} {self.select}"
        return f"{where} {self.shots} {self.seed} {self.method}{given}"


def task_of(source: Source, drawn: Draw, policy: str) -> FewShotTask:
    """Return everything that a method and its selection see; copies, so that no test row is in it.

    Validation images are in it for the policy ``val`` alone.
    """
    f, rows = source.features, drawn.support
    judged = drawn.validation if policy == "val" else None
    X, views = source.image_features[rows], source.view_features
    first = f.image_features[rows]  # of several encoders it says what looks alike
    return FewShotTask(
        X,
        source.labels[rows],
        None if judged is None else source.image_features[judged],
        None if judged is None else source.labels[judged],
        class_embeddings=f.class_embeddings,
        class_names=source.class_names,
        logit_scale=f.logit_scale,
        views=None if views is None else views[rows],
        groups=duplicate_groups(None, unit(torch.from_numpy(first)).numpy()),
        widths=source.widths,
        prompts=f.text_features,
        projection=source.projection,
    )


def learn(run: Run, task: FewShotTask) -> Head:
    """Choose settings and fit. ``cv`` at one shot, where nothing can be held out, is ``fixed``."""
    policy: str = run.select
    if policy == "cv" and choose_policy(task, None) == "fixed":
        policy = "fixed"
    return select(run.method, task, policy, random_state=run.seed, **dict(run.settings))


def run_once(run: Run, source: Source, drawn: Draw, task: FewShotTask) -> dict[str, Any]:
    """Run, and return the line of the results file."""
    _forget_peak()
    start = time.perf_counter()
    head = learn(run, task)
    learnt = time.perf_counter()
    probabilities = head.predict_proba(source.image_features[drawn.test])
    predicted = time.perf_counter()
    labels = source.labels[drawn.test]
    found = evaluate_probabilities(probabilities, labels, _distinct(source.class_names))
    right = probabilities.argmax(1) == labels
    assert head.selection_ is not None
    return {
        "kind": "run",
        "key": run.key,
        "source": source.digest,
        "protocol": run.protocol,
        "select": run.select,
        "shots": run.shots,
        "seed": run.seed,
        "method": run.method,
        "given": dict(run.settings),
        "accuracy": found.accuracy,
        "test_images": found.n,
        "per_class": {one.label: one.recall for one in found.per_class},
        "negative_log_likelihood": found.negative_log_likelihood,
        "calibration_error": found.calibration_error,
        "right": base64.b64encode(np.packbits(right).tobytes()).decode(),
        "settings": head.settings(),
        "selection": _selection(head.selection_.to_json()),
        "support": drawn.support.tolist(),
        "validation": None if task.X_val is None or drawn.validation is None
        else drawn.validation.tolist(),
        "fit_seconds": round(learnt - start, 4),
        "predict_seconds": round(predicted - learnt, 4),
        "peak_memory_mb": _peak(),
        "trained_parameters": head.trained_parameters(),
        "versions": _versions(),
        "machine": _machine(),
        "command": _command(run, source),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }  # fmt: skip


def _distinct(names: Sequence[str]) -> list[str]:
    """Number the names that are given to several classes, or one would hide the other."""
    count = Counter(names)
    return [f"{n} ({label})" if count[n] > 1 else n for label, n in enumerate(names)]


def _selection(told: dict[str, Any]) -> dict[str, Any]:
    """Put the trace into columns: a tenth of the size, and easier to plot."""
    trace = told.pop("trace")
    names = dict.fromkeys(name for one in trace for name in one)
    told["trace"] = {n: [_short(one.get(n)) for one in trace] for n in names}
    return told


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


@cache
def _versions() -> dict[str, str]:
    packages = ("handful", "torch", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _machine() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _command(run: Run, source: Source) -> list[str]:
    flags: Mapping[str, Any] = {
        "--protocol": run.protocol,
        "--select": run.select,
        "--methods": run.method,
        "--shots": run.shots,
        "--seeds": run.seed,
    }
    words = ["handful", "bench", "run", *source.flags]
    words += [str(word) for pair in flags.items() for word in pair]
    for name, value in run.settings:
        words += ["--set", f"{name}={json.dumps(value)}"]
    return [*words, "--out", "again.jsonl"]


def _forget_peak() -> None:
    """Start measuring the peak of memory anew, where the system allows it (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """Return the most memory that this process has held, in MB; since ``_forget_peak`` on Linux.

    0 where the system does not tell.
    """
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        told = next(line for line in lines if line.startswith("VmHWM"))
        return round(int(told.split()[1]) / 1024, 1)
    try:
        import resource
    except ImportError:  # Windows has none
        return 0.0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used / (1024**2 if platform.system() == "Darwin" else 1024), 1)
