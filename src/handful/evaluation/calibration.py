"""Do probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Bin",
    "adaptive_calibration_error",
    "brier_score",
    "calibration_error",
    "classwise_calibration_error",
    "negative_log_likelihood",
    "reliability",
]

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bin:
    """Images of about the same confidence.

    Attributes:
        confidence: their mean probability of the answer.
        accuracy: share of them that were right.
        n: number of images, above 0.
    """

    confidence: float
    accuracy: float
    n: int


def calibration_error(probabilities: Floats, labels: Labels, bins: int = 15) -> float:
    """Expected calibration error of the top class over equally wide bins (Guo et al., 2017).

    ECE = Σ_b (n_b / n) · |accuracy(b) − mean confidence(b)|.

    Args:
        probabilities: ``(N, C)``.
        labels: column of the true class ``(N,)``.
        bins: number of bins on [0, 1], right ends included.
    """
    confidence, right = _answers(probabilities, labels)
    return _gap(confidence, right, _place(confidence, bins), bins)


def adaptive_calibration_error(probabilities: Floats, labels: Labels, bins: int = 15) -> float:
    """The same over bins of equally many images (Nixon et al., 2019; Nguyen and O'Connor, 2015).

    Confidences are sorted, and cut into ``bins`` runs whose lengths differ by one at most; with
    fewer images than bins, each is a bin. Of equal confidences at a cut, those that come first in
    ``probabilities`` go into the lower bin.

    Args:
        probabilities: ``(N, C)``.
        labels: column of the true class ``(N,)``.
        bins: number of bins.
    """
    confidence, right = _answers(probabilities, labels)
    place = np.empty(len(labels), dtype=np.int64)
    order = np.argsort(confidence, kind="stable")
    place[order] = np.arange(len(labels)) * bins // len(labels)
    return _gap(confidence, right, place, bins)


def classwise_calibration_error(probabilities: Floats, labels: Labels, bins: int = 15) -> float:
    """Mean over the classes of the calibration error of "it is class c" (Kull et al., 2019).

    cw-ECE = (1/C) Σ_c Σ_b (n_bc / n) · |share of class c in the bin − mean probability of c|. Its
    size falls with C, as most probabilities of most classes are near 0.

    Args:
        probabilities: ``(N, C)``.
        labels: column of the true class ``(N,)``.
        bins: number of bins on [0, 1], right ends included.
    """
    n_classes = probabilities.shape[1]
    gaps = [_gap(p, labels == c, _place(p, bins), bins) for c, p in enumerate(probabilities.T)]
    return float(np.sum(gaps) / n_classes)


def brier_score(probabilities: Floats, labels: Labels) -> float:
    """Mean of Σ_c (p_c − [c is the true class])² (Brier, 1950): 0 best, 2 worst.

    Args:
        probabilities: ``(N, C)``.
        labels: column of the true class ``(N,)``.
    """
    off = np.array(probabilities, dtype=np.float64)
    off[np.arange(len(labels)), labels] -= 1
    return float((off**2).sum(axis=1).mean())


def negative_log_likelihood(probabilities: Floats, labels: Labels) -> float:
    """Mean of −log p(true class), in nats; a probability below 1e-12 counts as 1e-12.

    Args:
        probabilities: ``(N, C)``.
        labels: column of the true class ``(N,)``.
    """
    true_class = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(true_class, 1e-12)).mean())


def reliability(probabilities: Floats, labels: Labels, bins: int = 15) -> tuple[Bin, ...]:
    """Return the bins of :func:`calibration_error` that hold images, lowest confidence first.

    Args:
        probabilities: ``(N, C)``.
        labels: column of the true class ``(N,)``.
        bins: number of bins on [0, 1], right ends included.
    """
    confidence, right = _answers(probabilities, labels)
    place = _place(confidence, bins)
    counts = np.bincount(place, minlength=bins)
    sure, good = (np.bincount(place, weights=w, minlength=bins) for w in (confidence, right))
    return tuple(
        Bin(float(sure[b] / n), float(good[b] / n), int(n)) for b, n in enumerate(counts) if n
    )


def _answers(probabilities: Floats, labels: Labels) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the probability of each answer, and whether it was right."""
    return probabilities.max(axis=1), np.asarray(probabilities.argmax(axis=1) == labels)


def _place(confidence: Floats, bins: int) -> Labels:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _gap(confidence: Floats, right: npt.NDArray[np.bool_], place: Labels, bins: int) -> float:
    gaps = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(right))
