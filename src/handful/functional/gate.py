"""How much of an adapter is let through where the blend itself is learned.

CLIP-Adapter's paper says that the residual ratio may be learned, and that a hypernetwork may
predict it from the feature or from the classifier's weight; it gives no form. Here a ratio is a
sigmoid, so that it stays between 0 and 1: of one number a, or of q·v + a for each vector v.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["gate_start", "gated_blend"]


def gated_blend(vectors: Tensor, gate: Tensor) -> Tensor:
    """α = sigmoid(v·q + a) for each vector, or sigmoid(a) for all.

    Args:
        vectors: v, ``(..., N, D)``.
        gate: q and then a, ``(..., D + 1)``; or a alone, ``(..., 1)``.

    Returns:
        ``(..., N, 1)``, or ``(..., 1, 1)`` for all vectors alike.
    """
    weights, offset = gate[..., :-1], gate[..., -1:, None]
    if not weights.shape[-1]:
        return torch.sigmoid(offset)
    return torch.sigmoid(vectors @ weights[..., None] + offset)


def gate_start(blend: float, weights: int) -> Tensor:
    """Return the gate that gives ``blend`` to every vector: q = 0, a = log(α / (1 − α)).

    Args:
        blend: α, above 0 and below 1.
        weights: length of q; 0 for a gate that is one number.
    """
    return torch.tensor([0.0] * weights + [math.log(blend / (1 - blend))])
