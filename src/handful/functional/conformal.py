"""Split conformal prediction: sets that hold the true class with a stated probability.

Give every image and class a score S(x, y) that says how badly they fit. Of n images that the
classifier was not fitted on, take the scores of the true classes, and of these the k-th smallest as
the limit q, k = ⌈(n + 1)·coverage⌉. The set of a new image is {y : S(x, y) ≤ q}. If the new image
and the n are exchangeable, its score is equally likely to fall into any of the n + 1 gaps, so

    P(true class in the set) ≥ k / (n + 1) ≥ coverage,

whatever the classifier and the score (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random
World", 2005; Papadopoulos et al., "Inductive confidence machines for regression", 2002). That is
over all draws of the n images. For one draw, the share of new images that are covered is itself
random: Beta(k, n + 1 − k) where no scores are equal (Vovk, "Conditional validity of inductive
conformal predictors", 2012).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "adaptive",
    "coverage_interval",
    "finite_sample_quantile",
    "images_needed",
    "least_ambiguous",
    "rank",
]

Floats = npt.NDArray[np.floating[Any]]


def rank(images: int, coverage: float) -> int:
    """Return k = ⌈(n + 1)·coverage⌉; above n where n images cannot support the coverage.

    Args:
        images: n.
        coverage: above 0 and below 1, taken as the decimal number that it prints as: the binary
            number nearest to a decimal may lie above it, and would cost one more image.
    """
    return math.ceil((images + 1) * _exact(coverage))


def images_needed(coverage: float) -> int:
    """Return the smallest n with ⌈(n + 1)·coverage⌉ ≤ n: 4, 9 and 19 for 0.8, 0.9 and 0.95."""
    exact = _exact(coverage)
    return math.ceil(exact / (1 - exact))


def finite_sample_quantile(scores: Floats, coverage: float) -> float:
    """Return the limit q: the k-th smallest of n scores ``(n,)``, infinite where k is above n."""
    k = rank(len(scores), coverage)
    return math.inf if k > len(scores) else float(np.partition(scores, k - 1)[k - 1])


def least_ambiguous(probabilities: Floats) -> npt.NDArray[np.float64]:
    """Score every class by 1 − p.

    No other score gives smaller sets on average where the probabilities are right (Sadinle, Lei and
    Wasserman, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", 2019). A set is
    empty where no class is probable enough.

    Args:
        probabilities: ``(N, C)``.

    Returns:
        Scores ``(N, C)``.
    """
    return 1 - np.asarray(probabilities, dtype=np.float64)


def adaptive(probabilities: Floats, uniform: Floats | None = None) -> npt.NDArray[np.float64]:
    """Score every class by the probability of all that come before it, and of itself.

    Romano, Sesia and Candès, "Classification with Valid and Adaptive Coverage", 2020: with
    p₍₁₎ ≥ p₍₂₎ ≥ …, the class in place r has p₍₁₎ + … + p₍ᵣ₋₁₎ + u·p₍ᵣ₎. Of equal probabilities the
    first column comes first.

    Args:
        probabilities: ``(N, C)``.
        uniform: u ``(N,)``, drawn from [0, 1] for each image. It keeps scores from being equal, so
            that the coverage is not exceeded by more than 1 / (n + 1), and makes the sets smaller.
            None: u = 1, and an image has the same set every time.

    Returns:
        Scores ``(N, C)``.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1).astype(np.float64)
    left_out = 0.0 if uniform is None else (1 - uniform)[:, None] * ranked
    scores = np.empty_like(ranked)
    np.put_along_axis(scores, order, ranked.cumsum(axis=1) - left_out, axis=1)
    return scores


def coverage_interval(
    images: int, coverage: float, level: float = 0.9, *, tested: int, draws: int = 1
) -> tuple[float, float]:
    """Return the interval for the coverage that is measured, if the sets do what they promise.

    Of m test images, those covered follow the beta-binomial distribution with parameters
    m, k and n + 1 − k. Its mean k / (n + 1) lies up to 1 / (n + 1) above ``coverage``.

    Args:
        images: n held-out images that the limit was taken from.
        coverage: asked for.
        level: probability that a measurement lies in the interval; each side is missed with half
            of the rest, at most.
        tested: m.
        draws: number of independent draws of held-out and test images whose coverages are averaged.

    Raises:
        ValueError: n images cannot support the coverage.
    """
    from scipy.stats import betabinom

    k = rank(images, coverage)
    if k > images:
        raise ValueError(f"{images} images cannot support a coverage of {coverage}")
    one = betabinom.pmf(np.arange(tested + 1), tested, k, images + 1 - k)
    # The distribution of a sum is a convolution, which is a power of the Fourier transform.
    size = tested * draws + 1
    total = np.fft.irfft(np.fft.rfft(one, size) ** draws, size).cumsum()
    tail = (1 - level) / 2
    low, high = np.searchsorted(total, [tail, 1 - tail])
    return float(low / (size - 1)), float(min(high, size - 1) / (size - 1))


def _exact(coverage: float) -> Fraction:
    return Fraction(str(float(coverage)))
