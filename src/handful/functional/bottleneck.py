"""The two-layer bottleneck of CLIP-Adapter and its residual blend."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["bottleneck", "layer_start", "residual_blend"]


def bottleneck(
    features: Tensor, down: Tensor, up: Tensor, *, output_relu: bool = True, bias: bool = False
) -> Tensor:
    """A(v) = ReLU(ReLU(v·U₁ + b₁)·U₂ + b₂) (Gao et al., 2021; the published code has no biases).

    Args:
        features: v, ``(..., N, D)``.
        down: U₁, ``(..., D, H)``; with ``bias`` one row more, the last, which is b₁.
        up: U₂, ``(..., H, D)``; with ``bias`` one row more, the last, which is b₂.
        output_relu: the outer ReLU; it is in the published code.
        bias: whether the layers have biases. Without them A is positively homogeneous.

    Returns:
        ``(..., N, D)``. A leading dimension of runs is carried through.
    """
    adapted = _layer(torch.relu(_layer(features, down, bias)), up, bias)
    return torch.relu(adapted) if output_relu else adapted


def residual_blend(adapted: Tensor, original: Tensor, blend: float | Tensor) -> Tensor:
    """z* = α·A(z) + (1 − α)·z. The blend α is the share of *new* knowledge: 0 is zero-shot."""
    return blend * adapted + (1 - blend) * original


def layer_start(
    inputs: int, outputs: int, generator: torch.Generator, *, bias: bool = False
) -> Tensor:
    """Weights as a linear layer starts with: uniform within ±1/√inputs (Kaiming with a = √5).

    Returns:
        ``(inputs, outputs)``; with ``bias`` one row more, the last, which are the biases.
    """
    numbers = torch.rand(inputs + bias, outputs, generator=generator)
    return (numbers * 2 - 1) / math.sqrt(inputs)


def _layer(vectors: Tensor, weights: Tensor, bias: bool) -> Tensor:
    if bias:
        return vectors @ weights[..., :-1, :] + weights[..., -1:, :]
    return vectors @ weights
