"""Batch normalisation without affine parameters, and a linear classifier that has it inside."""

from __future__ import annotations

from torch import Tensor

__all__ = ["channel_moments", "fold"]

_EPS = 1e-5  # of batch normalisation in PyTorch


def channel_moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean μ and deviation σ = √(variance + 1e-5) of each channel, over ``(..., D)``.

    The variance divides by the number of vectors, as batch normalisation does.
    """
    rows = features.flatten(0, -2)
    return rows.mean(dim=0), (rows.var(dim=0, correction=0) + _EPS).sqrt()


def fold(weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Return U′, b′ with vᵀU′ + b′ = ((v − μ) / σ)ᵀU + b for every v.

    Args:
        weight: Uᵀ ``(C, D)``.
        bias: b ``(C,)``.
        mean, deviation: μ and σ ``(D,)``.
    """
    folded = weight / deviation
    return folded, bias - folded @ mean
