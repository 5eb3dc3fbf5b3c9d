"""Step sizes and starting values that LP++ takes from the data (Huang et al., 2024).

They follow from bounds on the curvature of the mean cross-entropy of logits xᵀu_c + b_c + α_c·s_c,
s = xᵀW: its Hessian in u is at most λ_max(XᵀX) / (2N), in one α_c at most Σᵢ s_ic² / (4N).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["blend_step", "first_blend", "largest_curvature", "weight_step"]


def largest_curvature(samples: Tensor) -> Tensor:
    """λ_max(XᵀX), from the smaller of XᵀX and XXᵀ, float64.

    Args:
        samples: X, ``(..., N, D)``.

    Returns:
        ``(...)``.
    """
    x = samples.double()
    gram = x @ x.mT if x.shape[-2] < x.shape[-1] else x.mT @ x
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values[..., -1]


def weight_step(samples: Tensor) -> Tensor:
    """4N / λ_max(XᵀX), ``(...)``: twice the inverse of the curvature, the edge of stability."""
    return 4 * samples.shape[-2] / largest_curvature(samples)


def blend_step(similarities: Tensor) -> Tensor:
    """N / (4·max_c Σᵢ s_ic²), ``(...)``.

    Args:
        similarities: s, ``(..., N, C)``.
    """
    return similarities.shape[-2] / (4 * (similarities**2).sum(dim=-2).amax(dim=-1))


def first_blend(similarities: Tensor, labels: Tensor) -> Tensor:
    """α₀ = 250 · mean over classes of the mean own-class similarity, ``(...)``.

    Args:
        similarities: s, ``(..., N, C)``.
        labels: int64 ``(..., N)``; classes that do not occur do not count.
    """
    own = torch.nn.functional.one_hot(labels, similarities.shape[-1]).to(similarities)
    counts = own.sum(dim=-2)
    means = (own * similarities).sum(dim=-2) / counts.clamp_min(1)
    return 250 * means.sum(dim=-1) / (counts > 0).sum(dim=-1)
