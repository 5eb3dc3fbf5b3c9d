"""Probabilities where classes are as frequent as they were not among the training images.

Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori
Probabilities: A Simple Procedure", Neural Computation 2002. Both functions take probabilities at
their word, so they want calibrated ones, and images of a class that look as they did before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["estimate_prior", "with_prior"]

Floats = npt.NDArray[np.float64]
Given = npt.NDArray[np.floating[Any]]


def with_prior(probabilities: Given, old: Given, new: Given) -> Floats:
    """p'_c ∝ p_c · new_c / old_c (equation 2.4).

    Args:
        probabilities: p ``(N, C)``, right where classes are as frequent as ``old`` says.
        old: share of each class there ``(C,)``, above 0.
        new: share of each class where the answers are used ``(C,)``; a class with 0 gets
            probability 0. The size of neither prior counts.

    Returns:
        ``(N, C)``, rows of sum 1. A row that gives nothing to any class with a share becomes the
        new prior.

    Raises:
        ValueError: a prior is of other classes, negative, or 0 where it must not be.
    """
    before, after = _prior(old, probabilities, "old"), _prior(new, probabilities, "new")
    if (before == 0).any():
        raise ValueError("the old prior is 0 for a class: expected shares above 0")
    adjusted = np.asarray(probabilities, dtype=np.float64) * (after / before)
    total = adjusted.sum(axis=1, keepdims=True)
    return np.where(total > 0, adjusted / np.where(total > 0, total, 1), after)


def estimate_prior(
    probabilities: Given, old: Given, *, most: int = 10_000, tolerance: float = 1e-9
) -> Floats:
    """Return the prior under which unlabelled images are likeliest, by EM (equation 2.9).

    The likelihood Π_i Σ_c p_ic · new_c / old_c is concave in log, so that there is nothing to start
    wrong from. Few images or poor probabilities give a poor prior.

    Args:
        probabilities: of the images ``(N, C)``, right under the prior ``old``.
        old: share of each class there ``(C,)``, above 0.
        most: steps at most.
        tolerance: no share moves by more in the last step.

    Returns:
        ``(C,)``, of sum 1.

    Raises:
        ValueError: there are no images, or as in :func:`with_prior`.
    """
    if len(probabilities) == 0:
        raise ValueError("there are no images to estimate a prior from")
    prior = _prior(old, probabilities, "old")
    for _ in range(most):
        found = with_prior(probabilities, old, prior).mean(axis=0)
        moved = np.abs(found - prior).max()
        prior = found
        if moved <= tolerance:
            break
    return prior


def _prior(given: Given, probabilities: Given, which: str) -> Floats:
    prior = np.asarray(given, dtype=np.float64)
    if prior.shape != probabilities.shape[1:]:
        raise ValueError(
            f"the {which} prior has shape {prior.shape}: expected {probabilities.shape[1:]}"
        )
    if not np.isfinite(prior).all() or (prior < 0).any() or prior.sum() == 0:
        raise ValueError(f"the {which} prior is {prior.tolist()}: expected shares from 0 to 1")
    return np.asarray(prior / prior.sum())
