"""The least probability with which an answer is given, of each class its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from handful.errors import InputError

__all__ = ["answers_needed", "below_threshold", "precise_threshold"]

Given = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]


def below_threshold(probabilities: Given, thresholds: Given) -> Bools:
    """Return which answers are less probable than is asked of their class.

    Args:
        probabilities: ``(N, C)``; the answer is the most probable class, of equal ones the first.
        thresholds: least probability of each class ``(C,)``; 0 asks nothing.

    Returns:
        ``(N,)``.
    """
    answer = probabilities.argmax(axis=1)
    least = np.asarray(thresholds)[answer]
    return np.asarray(probabilities[np.arange(len(answer)), answer] < least)


def answers_needed(precision: float, confidence: float = 0.95) -> int:
    """Return how many answers, all of them right, show a precision: 29 for 0.9, 59 for 0.95.

    The least n with precisionⁿ ≤ 1 − confidence.
    """
    return max(1, math.ceil(math.log(1 - confidence) / math.log(precision) - 1e-9))


def precise_threshold(
    probabilities: Given,
    labels: npt.NDArray[np.int64],
    column: int,
    precision: float,
    *,
    confidence: float = 0.95,
) -> float:
    """Return a least probability at which answers of one class are right often enough.

    Held-out images with that answer are added the most probable first. From
    :func:`answers_needed` on, each number of them is a test of the precision above the last one
    added, by the lower bound of Clopper and Pearson (1934); the first that fails is the end. Tests
    in an order known beforehand need no correction (fixed-sequence testing: Maurer, Hothorn and
    Lehmacher, 1995; for thresholds: Angelopoulos et al., "Learn then Test", 2021).

    Args:
        probabilities: of images that the classifier was not fitted on, ``(M, C)``.
        labels: column of the true class ``(M,)``.
        column: the class.
        precision: share of its answers that must be right, above 0 and below 1.
        confidence: with which they are, for this class alone.

    Returns:
        The threshold, for :func:`below_threshold`.

    Raises:
        InputError: these images cannot show that precision; it says how many would.
    """
    if not 0 < precision < 1:
        raise InputError(f"the precision is {precision}: expected a number between 0 and 1.")
    own = np.flatnonzero(probabilities.argmax(axis=1) == column)
    top = probabilities[own, column]
    order = np.argsort(-top, kind="stable")
    top, right = top[order], np.cumsum(labels[own][order] == column)
    # Equally probable answers stand or fall together.
    last = np.flatnonzero(np.append(top[1:] != top[:-1], True)) if len(top) else np.arange(0)
    needed, found = answers_needed(precision, confidence), None
    for i in last[last + 1 >= needed].tolist():
        bound = beta.ppf(1 - confidence, right[i], i + 2 - right[i]) if right[i] else 0.0
        if bound < precision:
            break
        found = float(top[i])
    if found is None:
        surest = int(right[min(needed, len(top)) - 1]) if len(top) else 0
        raise InputError(
            f"a precision of {precision:g} of class {column} cannot be shown: of its {len(top)} "
            f"answers on held-out images, {surest} of the {min(needed, len(top))} surest are "
            f"right, and at least {needed} must be; give more images, or ask for less."
        )
    return found
