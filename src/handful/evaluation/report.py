"""Everything that ``evaluate`` says about predictions on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.evaluation.calibration import (
    Bin,
    adaptive_calibration_error,
    brier_score,
    calibration_error,
    classwise_calibration_error,
    negative_log_likelihood,
    reliability,
)
from handful.evaluation.conformal_quality import SetQuality
from handful.evaluation.interval import accuracy_interval

__all__ = ["ClassRecall", "Confusion", "Evaluation", "evaluate_probabilities"]


@dataclass(frozen=True)
class ClassRecall:
    """Share of the images of one class that were given that class."""

    label: str
    recall: float
    n: int


@dataclass(frozen=True)
class Confusion:
    """How often images of one class were taken for another."""

    label: str
    predicted: str
    n: int


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and its companions on labelled images.

    Attributes:
        accuracy, low, high: share of images right, with its 90 % interval.
        n: number of images.
        per_class: recall of each class that has images, in class order.
        confusions: the mistakes, most frequent first.
        calibration_error, adaptive_calibration_error, classwise_calibration_error, brier_score,
        negative_log_likelihood: see :mod:`handful.evaluation.calibration`.
        bins: share right and mean confidence of the answers, by confidence.
        bins_before: the same before calibration, where there was one.
        sets: what prediction sets are worth, where some were asked for.
        seen_in_training: images that the classifier was fitted on; their answers prove nothing.
        seen_by_correction: images that the correction of its encoder was trained on.
        skipped: path and reason of each image that could not be read.
    """

    accuracy: float
    low: float
    high: float
    n: int
    per_class: tuple[ClassRecall, ...]
    confusions: tuple[Confusion, ...]
    calibration_error: float
    adaptive_calibration_error: float
    classwise_calibration_error: float
    brier_score: float
    negative_log_likelihood: float
    bins: tuple[Bin, ...]
    bins_before: tuple[Bin, ...] = ()
    sets: SetQuality | None = None
    seen_in_training: int = 0
    seen_by_correction: int = 0
    skipped: tuple[tuple[Path, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries; of the images skipped, their number."""
        found = asdict(self) | {"skipped": len(self.skipped)}
        found["interval"] = [found.pop("low"), found.pop("high")]
        return found


def evaluate_probabilities(
    probabilities: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.int64],
    class_names: Sequence[str],
) -> Evaluation:
    """Compare probabilities ``(N, C)`` with the true columns ``(N,)``.

    Raises:
        ValueError: there are no rows.
    """
    if len(labels) == 0:
        raise ValueError("there are no images to evaluate on")
    probabilities = np.asarray(probabilities, dtype=np.float64)
    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    matrix = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    counts = matrix.sum(axis=1)
    accuracy = float(np.trace(matrix) / len(labels))
    low, high = accuracy_interval(accuracy, len(labels))
    wrong = matrix - np.diag(np.diag(matrix))
    order = [cell for cell in np.argsort(-wrong, axis=None, kind="stable") if wrong.flat[cell]]
    return Evaluation(
        accuracy=accuracy,
        low=low,
        high=high,
        n=len(labels),
        per_class=tuple(
            ClassRecall(str(class_names[c]), float(matrix[c, c] / counts[c]), int(counts[c]))
            for c in range(n_classes)
            if counts[c]
        ),
        confusions=tuple(
            Confusion(
                str(class_names[cell // n_classes]),
                str(class_names[cell % n_classes]),
                int(wrong.flat[cell]),
            )
            for cell in order
        ),
        calibration_error=calibration_error(probabilities, labels),
        adaptive_calibration_error=adaptive_calibration_error(probabilities, labels),
        classwise_calibration_error=classwise_calibration_error(probabilities, labels),
        brier_score=brier_score(probabilities, labels),
        negative_log_likelihood=negative_log_likelihood(probabilities, labels),
        bins=reliability(probabilities, labels),
    )
