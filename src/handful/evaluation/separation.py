"""How well a score tells images of the classes from images of none of them.

Scores are higher for images of the classes (``known``) than for the others (``unknown``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["auroc", "false_positive_rate"]

Floats = npt.NDArray[np.floating[Any]]


def auroc(known: Floats, unknown: Floats) -> float:
    """Area under the receiver operating characteristic.

    It is the probability that an image of the classes has a higher score than one of none of them;
    equal scores count half. 0.5: the score says nothing, 1: a threshold parts them.

    Args:
        known: scores of images of the classes ``(N,)``.
        unknown: scores of others ``(M,)``.

    Raises:
        ValueError: one of them is empty.
    """
    _refuse_empty(known, unknown)
    others = np.sort(unknown)
    below = np.searchsorted(others, known, "left")
    not_above = np.searchsorted(others, known, "right")
    return float((below + not_above).sum() / (2 * len(known) * len(unknown)))


def false_positive_rate(known: Floats, unknown: Floats, at: float = 0.95) -> float:
    """Share of the unknown that are accepted where at least a share ``at`` of the known are.

    Accepted is what has the threshold or more; the threshold is the highest that accepts enough.

    Args:
        known: scores of images of the classes ``(N,)``.
        unknown: scores of others ``(M,)``.
        at: true positive rate, above 0 and at most 1.

    Raises:
        ValueError: one of them is empty.
    """
    _refuse_empty(known, unknown)
    # Decimals are no exact numbers: 0.07 · 100 must be 7, not 8.
    accepted = math.ceil(round(at * len(known), 9))
    threshold = np.sort(known)[len(known) - accepted]
    return float((unknown >= threshold).mean())


def _refuse_empty(known: Floats, unknown: Floats) -> None:
    if not len(known) or not len(unknown):
        raise ValueError("there are no images of the classes, or none of other classes")
