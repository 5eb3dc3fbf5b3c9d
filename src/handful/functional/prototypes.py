"""Prototypes: a few vectors that stand for many, and how images are compared with them.

From Cluster-Adapter (TPAMI 2024), where a class has several trained centres on the image side and
several prototypes on the text side; spherical k-means for fewer centres than images is ours.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from handful.functional.kernel import cache_votes
from handful.functional.normalise import unit

__all__ = [
    "centre_cosines",
    "centre_votes",
    "mix_prototypes",
    "spherical_kmeans",
    "text_prototypes",
    "weigh_channels",
]


# -- images and centres ----------------------------------------------------------------------------


def weigh_channels(features: Tensor, weights: Tensor, power: float) -> Tensor:
    """x̃ = unit(x ⊙ relu(v)^iw): a soft choice of channels.

    Args:
        features: x, ``(..., N, D)``.
        weights: v, ``(..., D)``.
        power: iw.
    """
    return unit(features * torch.relu(weights)[..., None, :] ** power)


def centre_cosines(
    features: Tensor,
    centres: Tensor,
    scales: Tensor,
    power: float,
    *,
    kept: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """q_p = (xᵀc_p)·drop(relu(u_p)^power), ``(..., N, P)``.

    Dropout is over centres: one left out has q = 0, for all images, and still votes exp(−β).

    Args:
        features: x, unit rows ``(..., N, D)``.
        centres: c, unit rows ``(..., P, D)``.
        scales: u, ``(..., P)``.
        power: 3 in the published code.
        kept: which centres are not left out ``(..., P)``; None: no dropout.
        dropout: share of the centres that are left out, by which the others are made up for.
    """
    factors = torch.relu(scales) ** power
    if kept is not None:
        factors = factors * (kept / (1 - dropout))
    return features @ centres.mT * factors[..., None, :]


def centre_votes(
    cosines: Tensor, labels: Tensor, n_classes: int, sharpness: float, *, balance: bool
) -> Tensor:
    """Q = φ_β(q)·L: every centre votes for its class.

    A class without centres gets the mean of the votes of the others, so that there only its text
    speaks for or against it.

    Args:
        cosines: q, ``(..., N, P)``.
        labels: class of each centre, int64 ``(P,)``.
        n_classes: C.
        sharpness: β.
        balance: multiply the votes for a class of M_c centres by mean(M) / M_c.

    Returns:
        ``(..., N, C)``.
    """
    votes = cache_votes(cosines, labels, n_classes, sharpness)
    counts = torch.bincount(labels, minlength=n_classes)
    seen = counts > 0
    if balance:
        votes = votes * (counts[seen].double().mean() / counts.clamp_min(1)).to(votes)
    if not seen.all():
        votes = torch.where(seen, votes, votes[..., seen].mean(dim=-1, keepdim=True))
    return votes


# -- fewer centres than images ---------------------------------------------------------------------


def spherical_kmeans(
    points: Tensor, n_centres: int, *, restarts: int = 10, iterations: int = 100, seed: int = 0
) -> Tensor:
    """Centres m of the clusters with the largest sum of cosines between points and their centre.

    Starts are drawn as in k-means++ (Arthur and Vassilvitskii, 2007), where 1 − cosine is half the
    squared distance; of several starts, which run side by side, the best is kept. A centre that is
    nearest to no point takes the point that is farthest from its own.

    Args:
        points: unit rows ``(N, D)``, N ≥ ``n_centres``.
        n_centres: M.
        restarts: S, the number of starts.
        iterations: at most so many.
        seed: of the starts; PyTorch's own generator is left alone.

    Returns:
        unit rows ``(M, D)``.
    """
    generator = torch.Generator().manual_seed(seed)
    centres = points[_starts(points, n_centres, restarts, generator)]  # (S, M, D)
    before = None
    for _ in range(iterations):
        nearest = _nearest(points @ centres.mT)
        if before is not None and torch.equal(nearest, before):
            break
        before = nearest
        members = torch.nn.functional.one_hot(nearest, n_centres).to(points)
        centres = unit(members.mT @ points)
    score = (points @ centres.mT).amax(dim=2).sum(dim=1)
    return centres[score.argmax()]


def _starts(points: Tensor, n_centres: int, restarts: int, generator: torch.Generator) -> Tensor:
    """Rows of the points to start from ``(S, M)``, each drawn in proportion to its distance."""
    chosen = torch.randint(len(points), (restarts, 1), generator=generator)
    cosines = points @ points.T
    nearest = cosines[chosen[:, 0]]
    for _ in range(n_centres - 1):
        far = (1 - nearest).clamp_min(1e-9)  # equal points: any of them will do
        far = far.scatter(1, chosen, 0)
        new = torch.multinomial(far, 1, generator=generator)
        chosen = torch.cat([chosen, new], dim=1)
        nearest = torch.maximum(nearest, cosines[new[:, 0]])
    return chosen


def _nearest(cosines: Tensor) -> Tensor:
    """Centre of each point ``(S, N)``, so that no centre is left without a point."""
    best, nearest = cosines.max(dim=2)
    counts = torch.nn.functional.one_hot(nearest, cosines.shape[2]).sum(dim=1)
    for start, empty in (counts == 0).nonzero().tolist():
        own = nearest[start]
        movable = counts[start][own] > 1
        point = best[start].where(movable, torch.inf).argmin()
        counts[start, own[point]] -= 1
        counts[start, empty] = 1
        own[point] = empty
    return nearest


# -- text ------------------------------------------------------------------------------------------


def text_prototypes(prompts: Tensor, n_prototypes: int) -> Tensor:
    """Cut the prompts of one class, in order, into chunks, and make the mean of each unit.

    Each chunk has ⌊m / J⌋ of the m prompts, the last one takes the rest; with fewer prompts than
    chunks every prompt is a prototype.

    Args:
        prompts: unit rows ``(T, D)``; rows of zeros are no prompts, and m are left.
        n_prototypes: J, at least 1.

    Returns:
        unit rows ``(min(J, m), D)``.
    """
    prompts = prompts[prompts.any(dim=1)]
    n = min(n_prototypes, len(prompts))
    if n == 0:
        return prompts
    length = len(prompts) // n
    cuts = [*range(0, length * n, length), len(prompts)]
    return torch.stack([unit(prompts[a:b].mean(dim=0)) for a, b in pairwise(cuts)])


def mix_prototypes(prototypes: Tensor, share: float) -> Tensor:
    """t = ta·mean of all but the last + (1 − ta)·the last, not unit; a single one is itself.

    Args:
        prototypes: T, ``(J, D)``, J at least 1.
        share: ta.

    Returns:
        ``(D,)``.
    """
    if len(prototypes) == 1:
        return prototypes[0]
    return share * prototypes[:-1].mean(dim=0) + (1 - share) * prototypes[-1]
