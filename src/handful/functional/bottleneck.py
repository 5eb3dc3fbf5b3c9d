"""The two-layer bottleneck of CLIP-Adapter and its residual blend."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["bottleneck", "residual_blend"]


def bottleneck(features: Tensor, down: Tensor, up: Tensor, *, output_relu: bool = True) -> Tensor:
    """A(v) = ReLU(ReLU(v·U₁)·U₂), without biases (Gao et al., 2021; the published code).

    Args:
        features: v, ``(..., N, D)``.
        down: U₁, ``(..., D, H)``.
        up: U₂, ``(..., H, D)``.
        output_relu: the outer ReLU; it is in the published code.

    Returns:
        ``(..., N, D)``. A leading dimension of runs is carried through.
    """
    adapted = torch.relu(features @ down) @ up
    return torch.relu(adapted) if output_relu else adapted


def residual_blend(adapted: Tensor, original: Tensor, blend: float | Tensor) -> Tensor:
    """z* = α·A(z) + (1 − α)·z. The blend α is the share of *new* knowledge: 0 is zero-shot."""
    return blend * adapted + (1 - blend) * original
