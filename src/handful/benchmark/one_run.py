"""One run: a method learns a draw, and is tested. Everything that a results line holds."""

from __future__ import annotations

import base64
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from handful.benchmark.cost import Cost, Seconds, cost_of, peak_memory, timed
from handful.benchmark.elsewhere import Elsewhere, judge
from handful.benchmark.inside import Inside, run_inside
from handful.benchmark.pictures import SHOWN
from handful.benchmark.protocols import Draw
from handful.benchmark.source import Source
from handful.benchmark.trust import measure_strangers, measure_trust
from handful.classifier.tuned import is_tuning
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
        measures: what is measured beside accuracy; see :mod:`handful.benchmark.trust`.
        test_on: digests of other sources that are tested on.
    """

    source: str
    protocol: str
    select: str
    shots: int
    seed: int
    method: str
    settings: tuple[tuple[str, Any], ...] = ()
    measures: tuple[str, ...] = ()
    test_on: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A text that is equal for equal runs."""
        given = "".join(f" {name}={value!r}" for name, value in self.settings)
        where = f"{self.source[:16]} {self.protocol} {self.select}"
        more = "".join(f" +{measure}" for measure in self.measures)
        others = "".join(f" @{digest[:16]}" for digest in self.test_on)
        return f"{where} {self.shots} {self.seed} {self.method}{given}{more}{others}"


def task_of(source: Source, drawn: Draw, policy: str) -> FewShotTask:
    """Return everything that a method and its selection see; copies, so that no test row is in it.

    Validation images are in it for the policy ``val`` alone.
    """
    f, rows = source.features, drawn.support
    judged = drawn.validation if policy == "val" else None
    X, views = source.image_features[rows], source.view_features
    first = f.image_features[rows]  # of several encoders, or spaces, it says what looks alike
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
        corrected=source.corrected,
    )


def learn(run: Run, task: FewShotTask) -> Head:
    """Choose settings and fit. ``cv`` at one shot, where nothing can be held out, is ``fixed``."""
    policy: str = run.select
    if policy == "cv" and choose_policy(task, None) == "fixed":
        policy = "fixed"
    return select(run.method, task, policy, random_state=run.seed, **dict(run.settings))


def run_once(
    run: Run,
    source: Source,
    drawn: Draw,
    task: FewShotTask,
    elsewhere: Sequence[Elsewhere] = (),
) -> dict[str, Any]:
    """Run, and return the line of the results file.

    Args:
        run: what.
        source: what it learns from and is tested on.
        drawn: which images of it are what.
        task: made of these.
        elsewhere: what else it is tested on.
    """
    learnt: Head | Inside
    if is_tuning(run.method):
        learnt, cost, probabilities, seconds = run_inside(
            run.method,
            source,
            drawn,
            judge=run.select == "val",
            seed=run.seed,
            **dict(run.settings),
        )
    else:
        learnt, cost, probabilities, seconds = _run_head(run, source, drawn, task)
    memory = peak_memory()
    labels = source.labels[drawn.test]
    found = evaluate_probabilities(probabilities, labels, _distinct(source.class_names))
    right = probabilities.argmax(1) == labels
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
        "settings": learnt.settings(),
        "selection": _selection(learnt.selection_.to_json()),
        **_elsewhere(run, learnt, elsewhere),
        "support": source.in_whole(drawn.support).tolist(),
        "validation": None if task.X_val is None or drawn.validation is None
        else source.in_whole(drawn.validation).tolist(),
        "fit_seconds": round(cost.fit_seconds, 4),
        "fit_processor_seconds": round(cost.fit_processor_seconds, 4),
        "predict_seconds": round(seconds, 4),
        **_inference(source, cost, learnt),
        "peak_memory_mb": memory,
        "peak_device_mb": round(cost.peak_device_mb, 1),
        "trained_parameters": cost.trained_parameters,
        "correction": source.told_of_correction(drawn.test),
        **_measured(run, learnt, task, source, drawn),
        "versions": _versions(),
        "machine": _machine(),
        "command": _command(run, source, elsewhere),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }  # fmt: skip


def _run_head(
    run: Run, source: Source, drawn: Draw, task: FewShotTask
) -> tuple[Head, Cost, npt.NDArray[Any], float]:
    X = source.image_features
    some = drawn.test[:SHOWN]
    head, cost = cost_of(lambda: learn(run, task), lambda h: h.predict_proba(X[some]), len(some))
    probabilities, seconds = timed(lambda: head.predict_proba(X[drawn.test]))
    return head, cost, probabilities, seconds.passed


def _inference(source: Source, cost: Cost, learnt: Head | Inside) -> dict[str, float]:
    """Return what an answer takes from the pixels of an image on, where there are images."""
    if source.pictures is None:
        return {}
    # An encoder that is the same for many heads is measured once.
    before = source.pictures.encoding if isinstance(learnt, Head) else Seconds(0, 0)
    return {
        "inference_seconds_per_image": round(before.passed + cost.seconds_per_image, 7),
        "inference_processor_seconds_per_image": round(
            before.worked + cost.processor_seconds_per_image, 7
        ),
    }


def _elsewhere(run: Run, learnt: Head | Inside, tests: Sequence[Elsewhere]) -> dict[str, Any]:
    found = [judge(learnt, run.method, dict(run.settings), test) for test in tests]
    return {"tests": found} if found else {}


def _measured(
    run: Run, head: Head | Inside, task: FewShotTask, source: Source, drawn: Draw
) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if isinstance(head, Inside):
        return more
    if "trust" in run.measures:
        X, y = source.image_features[drawn.test], source.labels[drawn.test]
        more["trust"] = measure_trust(head, task, X, y, run.seed)
    if "strangers" in run.measures:
        more["strangers"] = measure_strangers(
            type(head), head.settings(), task, source, drawn, run.seed
        )
    return more


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


def _command(run: Run, source: Source, elsewhere: Sequence[Elsewhere]) -> list[str]:
    flags: Mapping[str, Any] = {
        "--protocol": run.protocol,
        "--select": run.select,
        "--methods": run.method,
        "--shots": run.shots,
        "--seeds": run.seed,
    }
    words = ["handful", "bench", "run", *source.flags]
    words += [str(word) for pair in flags.items() for word in pair]
    if run.test_on:
        # How it is opened, features or images, is told by its name.
        words += [word for test in elsewhere for word in ("--test-on", test.source.flags[1])]
    if run.measures:
        words += ["--measure", ",".join(run.measures)]
    for name, value in run.settings:
        words += ["--set", f"{name}={json.dumps(value)}"]
    return [*words, "--out", "again.jsonl"]
