"""Spreading losses: vectors on the sphere push one another apart (Cluster-Adapter, TPAMI 2024).

Each is R = mean over rows p of CE((m_p ⊙ (sg(y_p)ᵀY)) / τ, target p) on unit rows Y, where sg stops
the gradient and m_p is 1 for the rows that p is pushed from, and for p itself. The own term has no
gradient along the sphere, so all three are repulsion only.

What the mask m does to an entry is an option:

- ``exclude``: the entry is left out of the sum (a logit of −∞);
- ``zero``: its logit becomes 0, so that it still adds e⁰ = 1 to the sum, as in the published code.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["MASKS", "Mask", "spread", "spread_between", "spread_within"]

Mask = Literal["exclude", "zero"]
MASKS: tuple[str, ...] = get_args(Mask)


def spread(vectors: Tensor, temperature: float) -> Tensor:
    """R without a mask: every row is pushed from every other (R_text, on the class embeddings).

    Args:
        vectors: Y, unit rows ``(..., C, D)``.
        temperature: τ.

    Returns:
        ``(...)``. A leading dimension of runs is carried through, here and below.
    """
    cosines = vectors.detach() @ vectors.mT
    return _loss(cosines / temperature, cosines.diagonal(dim1=-2, dim2=-1) / temperature)


def spread_between(
    centres: Tensor,
    labels: Tensor,
    temperature: float,
    *,
    mask: Mask = "exclude",
    rows: slice = slice(None),
) -> Tensor:
    """R_inter: centres are pushed from those of other classes.

    Args:
        centres: Y, unit rows ``(..., P, D)``.
        labels: class of each centre, int64 ``(P,)``.
        temperature: τ.
        mask: see the module.
        rows: the p that the mean goes over. Memory is their number times P; the mean over slices
            of equal length that cover all rows is the whole.

    Returns:
        ``(...)``.
    """
    # Temperature and own terms where there is least to compute: here P is large.
    queries = centres.detach()[..., rows, :] / temperature
    own = (queries * centres[..., rows, :]).sum(dim=-1)
    place = torch.arange(len(labels))
    masked = (labels[rows, None] == labels) & (place[rows, None] != place)
    logits = (queries @ centres.mT).masked_fill(masked, 0 if mask == "zero" else -torch.inf)
    return _loss(logits, own)


def spread_within(
    centres: Tensor,
    labels: Tensor,
    temperature: float,
    *,
    margin: float = 0.0,
    mask: Mask = "exclude",
) -> Tensor:
    """R_intra: the centres of one class are pushed apart, those at a cosine from ``margin`` on.

    Only the M × M cosines within each class are computed, for both masks: what ``zero`` masks
    elsewhere is a known number of ones. Which pairs the margin masks is asked anew at each call;
    in the published code a pair once masked stays so.

    Args:
        centres: Y, unit rows ``(..., P, D)``.
        labels: class of each centre, increasing, int64 ``(P,)``.
        temperature: τ.
        margin: pairs at a lower cosine are masked; a centre and itself never are.
        mask: see the module.

    Returns:
        ``(...)``.
    """
    counts = torch.unique_consecutive(labels, return_counts=True)[1]
    place = torch.arange(int(counts.max()))
    real = place < counts[:, None]  # (classes, M): places beyond a class's own are empty
    index = torch.where(real, counts.cumsum(0)[:, None] - counts[:, None] + place, 0)
    classes = centres.index_select(-2, index.flatten())
    classes = classes.reshape(*centres.shape[:-2], *index.shape, -1)
    cosines = classes.detach() @ classes.mT
    itself = torch.eye(len(place), dtype=torch.bool)
    far = (cosines.detach() < margin) & ~itself
    logits = cosines.masked_fill(far, 0 if mask == "zero" else -torch.inf) / temperature
    logits = logits.masked_fill(~real[:, None, :] & ~itself, -torch.inf)
    if mask == "zero" and len(counts) > 1:
        others = (len(labels) - counts).to(cosines).log()[:, None, None]
        logits = torch.cat([logits, others.expand(*cosines.shape[:-1], 1)], dim=-1)
    own = cosines.diagonal(dim1=-2, dim2=-1) / temperature
    return _loss(logits[..., real, :], own[..., real])


def _loss(logits: Tensor, own: Tensor) -> Tensor:
    """Mean over rows of the cross-entropy of ``logits (..., P, N)`` with ``own (..., P)``."""
    return (logits.logsumexp(dim=-1) - own).mean(dim=-1)
