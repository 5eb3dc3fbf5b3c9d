"""The best blend over all real values at once, instead of a grid.

Where logits are Z + α·Q, image i with label y is right exactly when for every other class c
``ΔZ_c + α·ΔQ_c > 0`` with ΔZ_c = Z_y − Z_c and ΔQ_c = Q_y − Q_c: an open interval of α. Sorting
the 2N end points and sweeping them finds every α with the most images right, in
O(N·C + N log N).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["BestBlend", "best_blend", "best_of_intervals", "right_intervals"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BestBlend:
    """The plateau of best blends.

    Attributes:
        blend: its middle.
        correct: number of images that are right there.
        low, high: its ends.
    """

    blend: float
    correct: int
    low: float
    high: float


def right_intervals(base: Tensor, direction: Tensor, labels: Tensor) -> tuple[Array, Array]:
    """Return for each image the open interval of α ≥ 0 in which its class has the top logit.

    Args:
        base: Z, ``(N, C)``.
        direction: Q, ``(N, C)``.
        labels: int64 ``(N,)``.

    Returns:
        lower and upper ends, float64 ``(N,)``; empty intervals have lower ≥ upper.
    """
    own = labels[:, None]
    base_gap = base.gather(1, own) - base
    slope = direction.gather(1, own) - direction
    crossing = -base_gap / slope
    nothing = torch.full_like(crossing, torch.inf)
    lower = torch.where(slope > 0, crossing, -nothing)
    upper = torch.where(slope < 0, crossing, nothing)
    never = (slope == 0) & (base_gap <= 0)
    never.scatter_(1, own, False)
    lower = lower.amax(dim=1).clamp_min(0)
    upper = upper.amin(dim=1)
    upper = torch.where(never.any(dim=1), lower, upper)
    return lower.double().cpu().numpy(), upper.double().cpu().numpy()


def best_blend(
    base: Tensor, direction: Tensor, labels: Tensor, *, limit: float = 100.0
) -> BestBlend:
    """Return the middle of the best plateau of blends in [0, ``limit``].

    Args:
        base, direction, labels: as in :func:`right_intervals`.
        limit: the largest blend considered.
    """
    return best_of_intervals(*right_intervals(base, direction, labels), limit=limit)


def best_of_intervals(lower: Array, upper: Array, *, limit: float = 100.0) -> BestBlend:
    """Return the middle of the plateau in [0, ``limit``] that lies in the most intervals.

    Of several plateaus with equally many images right, the longest is taken. Length and middle
    are measured on α/(1 + α), the share of the second term: on α itself a plateau that is open
    towards infinity would always be the longest, and its middle would depend on ``limit``.

    Args:
        lower, upper: ends of open intervals ``(N,)``, as :func:`right_intervals` gives them.
        limit: the largest blend considered.
    """
    upper = np.minimum(upper, limit)
    open_ = lower < upper
    lower, upper = lower[open_], upper[open_]
    ends = np.unique(np.concatenate([[0.0, limit], lower, upper]))
    # Images right on the segment between ends[j] and ends[j + 1].
    started = np.searchsorted(np.sort(lower), ends[:-1], side="right")
    finished = np.searchsorted(np.sort(upper), ends[:-1], side="right")
    right = started - finished
    share = ends / (1 + ends)
    best = np.flatnonzero(right == right.max())
    longest = best[np.argmax(np.diff(share)[best])]
    middle = (share[longest] + share[longest + 1]) / 2
    return BestBlend(
        blend=float(middle / (1 - middle)),
        correct=int(right[longest]),
        low=float(ends[longest]),
        high=float(ends[longest + 1]),
    )
