"""How much an image is like each class, and like any of them: for images of none of the classes.

All scores are higher for images of the classes. Those named after one class give ``(N, C)``; the
score of an image is then that of the class it is most like, the ``maximum_logit``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from handful.functional.kernel import cache_votes

__all__ = [
    "cache_affinity",
    "centred_cosines",
    "concept_matching",
    "energy",
    "maximum_logit",
    "nearest_support",
]


def concept_matching(cosines: Tensor, temperature: float = 1.0) -> Tensor:
    """Maximum concept matching, max_c softmax(cos / T)_c.

    Ming et al., "Delving into Out-of-Distribution Detection with Vision-Language Representations",
    NeurIPS 2022, who take T = 1.

    Args:
        cosines: with the class embeddings, ``(N, C)``.
        temperature: T.

    Returns:
        ``(N,)``.
    """
    return torch.softmax(cosines / temperature, dim=1).amax(dim=1)


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Negative free energy, T·log Σ_c exp(z_c / T).

    Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020, who take T = 1.

    Args:
        logits: ``(N, C)``.
        temperature: T.

    Returns:
        ``(N,)``.
    """
    return temperature * torch.logsumexp(logits / temperature, dim=1)


def maximum_logit(logits: Tensor) -> Tensor:
    """max_c z_c (Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings",
    ICML 2022), ``(N, C)`` to ``(N,)``."""
    return logits.amax(dim=1)


def nearest_support(cosines: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Cosine with the nearest support image of each class.

    Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022, take the
    k-th nearest of thousands of images; of a handful it is the first.

    Args:
        cosines: with the support images ``(N, n)``; −∞ where an image is not to be seen.
        labels: class of each support image, int64 ``(n,)``.
        n_classes: C.

    Returns:
        ``(N, C)``; −∞ for a class without images.
    """
    nearest = cosines.new_full((len(cosines), n_classes), -math.inf)
    return nearest.scatter_reduce_(1, labels.expand_as(cosines), cosines, "amax")


def cache_affinity(cosines: Tensor, labels: Tensor, n_classes: int, sharpness: float) -> Tensor:
    """log of the mean vote of the support images of each class, log mean_j exp(−β(1 − a_j)).

    The cache of Tip-Adapter (Zhang et al., ECCV 2022), as a mean so that a class with many images
    is not nearer to everything. Of few images that are far away the votes are tiny; their logarithm
    is on the scale of cosines.

    Args:
        cosines: with the support images ``(N, n)``; −∞ where an image is not to be seen.
        labels: class of each support image, int64 ``(n,)``.
        n_classes: C.
        sharpness: β.

    Returns:
        ``(N, C)``; −∞ for a class without images.
    """
    seen = (cosines > -math.inf).to(cosines.dtype)
    counts = cosines.new_zeros(len(cosines), n_classes).index_add_(1, labels, seen)
    return (cache_votes(cosines, labels, n_classes, sharpness) / counts.clamp_min(1)).log()


def centred_cosines(features: Tensor, means: Tensor, centre: Tensor) -> Tensor:
    """Cosines of x − μ with m_c − μ.

    All images of an encoder share a direction, which says nothing of their class; without it they
    differ more.

    Args:
        features: x ``(N, D)``.
        means: m of each class ``(C, D)``.
        centre: μ ``(D,)``, or one for each image ``(N, D)``.

    Returns:
        ``(N, C)``; 0 where a mean is the centre.
    """
    centre = centre.expand_as(features)
    shared = (centre * centre).sum(dim=1, keepdim=True)
    crossed = centre @ means.T
    products = features @ means.T - (features * centre).sum(dim=1, keepdim=True) - crossed + shared
    squares = (means * means).sum(dim=1) - 2 * crossed + shared
    lengths = squares.clamp_min(0).sqrt()
    away = torch.linalg.vector_norm(features - centre, dim=1, keepdim=True)
    cosines: Tensor = products / (lengths * away).clamp_min(1e-9)
    return cosines
