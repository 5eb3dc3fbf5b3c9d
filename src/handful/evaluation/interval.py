"""Intervals for an accuracy."""

from __future__ import annotations

__all__ = ["accuracy_interval"]


def accuracy_interval(accuracy: float, images: float, level: float = 0.9) -> tuple[float, float]:
    """Return the Jeffreys interval of a proportion: Beta(k + ½, n − k + ½), k = accuracy · n.

    Its coverage is close to ``level`` even for small counts and proportions near 1, where the
    normal approximation fails (Brown, Cai and DasGupta, "Interval Estimation for a Binomial
    Proportion", 2001). As they advise, the end is 0 or 1 where all images are wrong or right.

    Args:
        accuracy: 0 to 1.
        images: number of images n; need not be whole.
        level: probability that the interval is to hold the true accuracy.
    """
    from scipy.stats import beta

    right = accuracy * images
    tail = (1 - level) / 2
    low = 0.0 if right <= 0 else float(beta.ppf(tail, right + 0.5, images - right + 0.5))
    high = 1.0 if right >= images else float(beta.ppf(1 - tail, right + 0.5, images - right + 0.5))
    return low, high
