"""What prediction sets are worth on labelled images: how often they hold the truth, how small."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SetQuality", "measured"]


@dataclass(frozen=True)
class SetQuality:
    """Of sets of classes, one per image.

    Attributes:
        coverage: share of the images whose set holds the true class.
        size: mean number of classes in a set.
        empty: share of the images with no class in the set.
        single: share of the images with one class in the set.
        worst_class: smallest coverage of the images of one class.
        n: number of images.
    """

    coverage: float
    size: float
    empty: float
    single: float
    worst_class: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)


def measured(sets: npt.NDArray[np.bool_], labels: npt.NDArray[np.int64]) -> SetQuality:
    """Compare sets ``(N, C)`` with the columns of the true classes ``(N,)``.

    Raises:
        ValueError: there are no rows.
    """
    if len(labels) == 0:
        raise ValueError("there are no images to measure sets on")
    covered = sets[np.arange(len(labels)), labels]
    sizes = sets.sum(axis=1)
    return SetQuality(
        coverage=float(covered.mean()),
        size=float(sizes.mean()),
        empty=float((sizes == 0).mean()),
        single=float((sizes == 1).mean()),
        worst_class=min(float(covered[labels == c].mean()) for c in np.unique(labels)),
        n=len(labels),
    )
