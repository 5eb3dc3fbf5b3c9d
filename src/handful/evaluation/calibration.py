"""Do probabilities mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["calibration_error"]


def calibration_error(
    probabilities: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.int64], bins: int = 15
) -> float:
    """Expected calibration error of the top class over equally wide bins (Guo et al., 2017).

    ECE = Σ_b (n_b / n) · |accuracy(b) − mean confidence(b)|.

    Args:
        probabilities: ``(N, C)``.
        labels: column of the true class ``(N,)``.
        bins: number of bins on [0, 1], right ends included.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    position = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(position, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
