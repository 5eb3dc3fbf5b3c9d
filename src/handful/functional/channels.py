"""Channels that tell classes apart, and how much each key says: the priors of APE."""

from __future__ import annotations

import torch
from torch import Tensor

from handful.functional.kernel import cache_kernel
from handful.functional.normalise import unit

__all__ = [
    "best_channels",
    "between_class_similarity",
    "channel_criterion",
    "key_divergence",
    "shifted_cache",
    "weighted_votes",
]

_TINY = 1e-6  # as in the published code


def between_class_similarity(sums: Tensor, counts: Tensor) -> Tensor:
    """S_d, the mean over ordered pairs of members of different classes of their product at d.

    S = ((Σ_i s_i)² − Σ_i s_i²) / ((Σ_i m_i)² − Σ_i m_i²), elementwise: O(C·D) where the loops over
    pairs take O(n²·D).

    Args:
        sums: s_i, sum of the members of class i, ``(..., C, D)``.
        counts: m_i, number of members of class i, ``(..., C)``.

    Returns:
        ``(..., D)``, float64.
    """
    sums, counts = sums.double(), counts.double()
    products = sums.sum(dim=-2).square() - sums.square().sum(dim=-2)
    pairs = counts.sum(dim=-1).square() - counts.square().sum(dim=-1)
    return products / pairs[..., None]


def channel_criterion(
    text: Tensor,
    similarity_share: float,
    keys: Tensor | None = None,
    key_labels: Tensor | None = None,
) -> Tensor:
    """J_d = −λ·S_d + (1 − λ)·U_d: high where classes differ.

    S is the similarity between classes, whose members are the text embedding and the keys of the
    class, any number of them; U the variance of the text embeddings over classes (over C − 1).

    Args:
        text: unit class embeddings ``(C, D)``.
        similarity_share: λ. Only the ratio of the two published weights counts.
        keys: unit keys ``(n, D)``; left out, the text alone is compared.
        key_labels: class of each key ``(n,)``.

    Returns:
        ``(D,)``, float64.
    """
    sums, counts = text.double(), torch.ones(len(text), dtype=torch.float64)
    if keys is not None and key_labels is not None:
        sums = sums.index_add(0, key_labels, keys.double())
        counts = counts + torch.bincount(key_labels, minlength=len(text))
    similarity = between_class_similarity(sums, counts)
    return (1 - similarity_share) * text.double().var(dim=0) - similarity_share * similarity


def best_channels(criterion: Tensor, keep: float) -> Tensor:
    """Return the share ``keep`` of channels with the largest criterion.

    At least two: a vector of one channel, brought to length 1, is nothing but its sign.

    Returns:
        int64 ``(Q,)``, increasing, Q = keep·D to the nearest.
    """
    n_kept = max(2, round(keep * len(criterion)))
    return criterion.argsort(descending=True, stable=True)[:n_kept].sort().values


def key_divergence(keys: Tensor, key_labels: Tensor, text: Tensor) -> Tensor:
    """R_k = log₂((1 + 1e-6) / (softmax(f_kᵀW)_{y_k} + 1e-6)): larger for untypical keys.

    This is the divergence of the prediction, a softmax of the cosines themselves, from the
    one-hot label, of which only the key's own class is left.

    Args:
        keys: ``(n, D)``, any length.
        key_labels: ``(n,)``.
        text: ``(C, D)``, any length.

    Returns:
        ``(n,)``.
    """
    predicted = torch.softmax(unit(keys) @ unit(text).mT, dim=-1)
    own = predicted.gather(-1, key_labels[:, None]).squeeze(-1)
    return torch.log2((1 + _TINY) / (own + _TINY))


def weighted_votes(kernel: Tensor, weights: Tensor, key_labels: Tensor, n_classes: int) -> Tensor:
    """φ_β(A)·diag(w)·L: votes of the keys by weight.

    Args:
        kernel: φ_β(A)ᵀ, ``(n, N)``: keys first, since adding up rows is 30 times faster than
            adding up columns.
        weights: w ``(n,)``.
        key_labels: int64 ``(n,)``.
        n_classes: C.

    Returns:
        ``(N, C)``; a class without keys has 0 votes.
    """
    votes = kernel.new_zeros(n_classes, kernel.shape[1])
    return votes.index_add_(0, key_labels, kernel * weights[:, None]).mT


def shifted_cache(
    x: Tensor,
    residual: Tensor,
    weights: Tensor,
    *,
    channels: Tensor,
    text: Tensor,
    keys: Tensor,
    values: Tensor,
    sharpness: float,
    compared: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """xᵀW_E and φ_β(xF_Eᵀ)·diag(r)·L of APE-T: every class moved, its text and its keys alike.

    Row c of E is added to w_c and to the keys of class c, on the chosen channels. As
    φ_β(xᵀ(f_k + e_c)) = φ_β(xᵀf_k)·exp(β·xᵀe_c), neither W_E nor F_E is formed.

    Args:
        x: unit features ``(..., N, D)``.
        residual: E ``(..., C, Q)``.
        weights: r ``(..., n)``.
        channels: int64 ``(..., Q)``.
        text: W as rows ``(..., C, D)``.
        keys: F ``(..., n, D)``.
        values: L, one-hot ``(..., n, C)``.
        sharpness: β.
        compared: features to compare with the keys, where these lie in another space than the text.

    Returns:
        two ``(..., N, C)``.
    """
    index = channels[..., None, :].expand(*x.shape[:-1], channels.shape[-1])
    cosines = x @ text.mT + x.gather(-1, index) @ residual.mT
    x = x if compared is None else compared
    moved = x.gather(-1, index) @ residual.mT
    votes = cache_kernel(x @ keys.mT, sharpness) @ (weights[..., None] * values)
    return cosines, votes * torch.exp(sharpness * moved)
