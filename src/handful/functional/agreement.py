"""Several caches fused by how far each agrees with the text (CaFo: Zhang et al., "Prompt, Generate,
then Cache", CVPR 2023)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["AGREEMENTS", "Agreement", "agreement_weights", "fuse", "standardise"]

Agreement = Literal["sum", "mean"]
AGREEMENTS: tuple[str, ...] = get_args(Agreement)


def standardise(votes: Tensor) -> Tensor:
    """Bring each row to mean 0 and unbiased standard deviation 1 over its classes.

    Rows whose numbers are all equal, but for rounding, say nothing and become 0.

    Args:
        votes: ``(..., C)``.
    """
    centred = votes - votes.mean(dim=-1, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    spread = length / (votes.shape[-1] - 1) ** 0.5
    rounding = torch.finfo(votes.dtype).eps * votes.abs().amax(dim=-1, keepdim=True)
    return centred / torch.where(spread > rounding, spread, torch.inf)


def agreement_weights(base: Tensor, votes: Tensor, agreement: Agreement = "sum") -> Tensor:
    """ω = softmax over the caches of Ẑ·Q̂ₘᵀ.

    Args:
        base: Ẑ, standardised logits of the text ``(..., N, C)``.
        votes: Q̂, standardised votes of M caches ``(..., M, N, C)``.
        agreement: ``sum`` over the classes as published, which is (C − 1) times their correlation
            and grows with C; ``mean`` divides it by C.

    Returns:
        ``(..., M, N)``, 1 in sum over the caches.
    """
    alike = (base.unsqueeze(-3) * votes).sum(dim=-1)
    if agreement == "mean":
        alike = alike / votes.shape[-1]
    return torch.softmax(alike, dim=-2)


def fuse(base: Tensor, votes: Tensor, agreement: Agreement = "sum") -> Tensor:
    """Σₘ ωₘ·Q̂ₘ, the standardised votes of M caches as one.

    Args:
        base: Z, logits of the text ``(..., N, C)``, standardised here.
        votes: Q, votes of M caches ``(..., M, N, C)``, standardised here.
        agreement: see :func:`agreement_weights`.

    Returns:
        ``(..., N, C)``.
    """
    scaled = standardise(votes)
    weights = agreement_weights(standardise(base), scaled, agreement)
    return (weights.unsqueeze(-1) * scaled).sum(dim=-3)
