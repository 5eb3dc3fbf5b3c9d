"""The key-value cache of Tip-Adapter: support images vote for their class."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cache_kernel", "cache_votes"]


def cache_kernel(affinity: Tensor, sharpness: float) -> Tensor:
    """φ_β(a) = exp(−β(1 − a)) on cosines; equals exp(−β‖x − f‖²/2) for unit vectors."""
    return torch.exp(sharpness * (affinity - 1))


def cache_votes(
    affinity: Tensor,
    key_labels: Tensor,
    n_classes: int,
    sharpness: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Q = φ_β(A)·diag(w)·L, as a sum over the keys of each class, not a product with one-hot L.

    Args:
        affinity: A, cosines ``(..., N, n)`` between N images and n keys.
        key_labels: class of each key, int64 ``(n,)``.
        n_classes: C.
        sharpness: β.
        weights: w ``(n,)``; None: 1.

    Returns:
        ``(..., N, C)``; a class without keys has 0 votes.
    """
    kernel = cache_kernel(affinity, sharpness)
    if weights is not None:
        kernel = kernel * weights
    votes = kernel.new_zeros((*kernel.shape[:-1], n_classes))
    return votes.index_add_(-1, key_labels, kernel)
