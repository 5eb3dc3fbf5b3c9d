"""What a run may measure beside accuracy: calibration, prediction sets, classes never seen.

``trust`` costs little: what the method's head says of held-out images is there already, or costs
the fits of one cross-validation. ``strangers`` leaves each class out in turn and learns anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from handful.benchmark.protocols import Draw
from handful.benchmark.source import Source
from handful.classifier.trust import Trust
from handful.errors import InputError
from handful.evaluation.calibration import (
    adaptive_calibration_error,
    brier_score,
    calibration_error,
    classwise_calibration_error,
    negative_log_likelihood,
)
from handful.evaluation.conformal_quality import measured
from handful.evaluation.estimate import estimate_accuracy
from handful.evaluation.evidence import Evidence
from handful.evaluation.none_of_these import NoneOfThese
from handful.evaluation.separation import auroc, false_positive_rate
from handful.functional.conformal import coverage_interval
from handful.methods.head import Head
from handful.selection.select import select
from handful.task import FewShotTask

__all__ = ["MEASURES", "measure_strangers", "measure_trust"]

MEASURES = ("trust", "strangers")

COVERAGES = (0.8, 0.9, 0.95)
FALSE_ALARMS = (0.05, 0.1)
_LEVEL = 0.9

Array = npt.NDArray[Any]


def measure_trust(head: Head, task: FewShotTask, X: Array, y: Array, seed: int) -> dict[str, Any]:
    """Learn calibration, sets and the unsure threshold from the task; measure them on the test.

    Args:
        head: fitted on ``task`` by ``select``.
        task: the task.
        X, y: test features and columns of their classes.
        seed: of the run.
    """
    estimate, _ = estimate_accuracy(head, task, random_state=seed)
    names = [str(row) for row in range(len(task.X))]
    trust = Trust.learn(head, task, names, random_state=seed)
    logits = head.logits(X)
    probabilities = trust.calibration.probabilities(logits)
    told: dict[str, Any] = {
        "estimate": None if estimate is None else [estimate.accuracy, estimate.low, estimate.high],
        "calibration": {
            "kind": trust.calibration.kind,
            "temperature": trust.calibration.temperature,
            "images": trust.calibration.images,
            "source": trust.calibration.source,
            "before": _calibration(softmax(logits, axis=1), y),
            "after": _calibration(probabilities, y),
        },
        "sets": {},
        "unsure": {},
    }
    if trust.sets is not None:
        for coverage in COVERAGES:
            for kind, by_class in (("all", False), ("by_class", True)):
                try:
                    sets = trust.sets.sets(probabilities, coverage, by_class=by_class)
                except InputError:  # too few images
                    continue
                low, high = coverage_interval(trust.sets.images, coverage, _LEVEL, tested=len(y))
                told["sets"][f"{coverage:g} {kind}"] = {
                    **measured(sets, y).to_json(),
                    "images": trust.sets.images,
                    "interval": [low, high],
                }
    if trust.strangers is not None:
        scores = trust.strangers.score(X, head, trust.evidence)
        for rate in FALSE_ALARMS:
            try:
                flagged = scores < trust.strangers.threshold(rate)
            except InputError:
                continue
            told["unsure"][f"{rate:g}"] = {
                "false_alarms": float(flagged.mean()),
                "images": trust.strangers.images,
                "score": trust.strangers.kind,
            }
    return told


def _calibration(probabilities: Array, y: Array) -> dict[str, float]:
    return {
        "calibration_error": calibration_error(probabilities, y),
        "adaptive_calibration_error": adaptive_calibration_error(probabilities, y),
        "classwise_calibration_error": classwise_calibration_error(probabilities, y),
        "brier_score": brier_score(probabilities, y),
        "negative_log_likelihood": negative_log_likelihood(probabilities, y),
    }


def measure_strangers(
    method: type[Head],
    settings: Mapping[str, Any],
    task: FewShotTask,
    source: Source,
    drawn: Draw,
    seed: int,
) -> list[dict[str, Any]]:
    """Leave out each class in turn, and tell its test images from those of the other classes.

    Args:
        method: of the run.
        settings: that the run chose with all classes; they are not searched again.
        task: of the run.
        source, drawn: where test images come from.
        seed: of the run.

    Returns:
        One record for each class: AUROC, false positives where 95 % of the known are accepted, and
        for each rate of false alarms what share of the known and of the strangers is unsure. None
        where fewer than two classes would be left, or no image can be held out.
    """
    found: list[dict[str, Any]] = []
    if len(source.class_names) < 3:
        return found
    labels, X = source.labels[drawn.test], source.image_features[drawn.test]
    for unseen in range(len(source.class_names)):
        if not (labels == unseen).any():
            continue
        known = task_without(task, unseen)
        head = select(method, known, "fixed", random_state=seed, **settings)
        strangers = NoneOfThese.learn(head, known, random_state=seed)
        if strangers is None:
            return []
        rows = [str(row) for row in range(len(known.X))]
        scores = strangers.score(X, head, Evidence.of(known, rows, len(head.classes_)))
        own, strange = scores[labels != unseen], scores[labels == unseen]
        rates = {}
        for rate in FALSE_ALARMS:
            try:
                least = strangers.threshold(rate)
            except InputError:
                continue
            rates[f"{rate:g}"] = [float((own < least).mean()), float((strange < least).mean())]
        found.append(
            {
                "class": source.class_names[unseen],
                "score": strangers.kind,
                "auroc": auroc(own, strange),
                "fpr95": false_positive_rate(own, strange),
                "unsure": rates,
            }
        )
    return found


def task_without(task: FewShotTask, unseen: int) -> FewShotTask:
    """Return the task without a class: neither its images nor its text.

    Args:
        task: labels are numbers, as in every run; with names it would not be known which row of the
            text is whose.
        unseen: number of the class.

    Raises:
        ValueError: labels are names.
    """
    if not np.issubdtype(task.y.dtype, np.integer):
        raise ValueError("the labels of the task are names: expected numbers of classes")
    kept = np.flatnonzero(task.y != unseen)
    text = task.class_embeddings
    classes = len(text) if text is not None else int(task.y.max()) + 1
    rows = [c for c in range(classes) if c != unseen]
    judged = None if task.y_val is None else np.flatnonzero(task.y_val != unseen)
    if judged is not None and not len(judged):
        judged = None
    return replace(
        task,
        X=task.X[kept],
        y=_closed(task.y[kept], unseen),
        X_val=None if judged is None or task.X_val is None else task.X_val[judged],
        y_val=None if judged is None or task.y_val is None else _closed(task.y_val[judged], unseen),
        class_embeddings=None if text is None else text[rows],
        class_names=None if task.class_names is None else [task.class_names[c] for c in rows],
        views=None if task.views is None else task.views[kept],
        groups=None if task.groups is None else task.groups[kept],
        prompts=None if task.prompts is None else task.prompts[rows],
    )


def _closed(labels: Array, unseen: int) -> Array:
    """Return the labels with those above the missing one lowered by one."""
    return labels - (labels > unseen)
