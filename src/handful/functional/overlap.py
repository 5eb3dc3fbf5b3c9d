"""Intra-modal overlap: how far cosines between images of one class and of two classes mix.

"CLIP Adaptation by Intra-modal Overlap Reduction" (BMVC 2024): CLIP was trained to compare images
with texts; cosines of image pairs of the same class (paired) and of different classes (unpaired)
overlap. The two distributions are counted on common bins, block by block, so that no n × n matrix
is ever held.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from handful.functional.normalise import unit

__all__ = ["PairCosines", "feature_variance", "modality_gap", "pair_cosines"]

_BLOCK = 2048  # rows of one product: 16 MB of float32
_BINS = 400  # of the cosines from −1 to 1


@dataclass(frozen=True)
class PairCosines:
    """Two distributions of cosines, counted on common bins.

    Attributes:
        edges: of the bins, ``(B + 1,)``, from −1 to 1.
        paired: number of pairs of images of one class in each bin, ``(B,)``, int64.
        unpaired: the same of images of two classes.
        means: of paired and unpaired cosines.
        deviations: their standard deviations.
    """

    edges: Tensor
    paired: Tensor
    unpaired: Tensor
    means: tuple[float, float]
    deviations: tuple[float, float]

    def merged(self, factor: int) -> PairCosines:
        """Return the same counts with ``factor`` neighbouring bins as one; it divides B."""
        if len(self.paired) % factor:
            raise ValueError(f"{len(self.paired)} bins cannot be merged by {factor}")
        return replace(
            self,
            edges=self.edges[::factor],
            paired=self.paired.reshape(-1, factor).sum(dim=1),
            unpaired=self.unpaired.reshape(-1, factor).sum(dim=1),
        )

    def _shares(self) -> tuple[Tensor, Tensor]:
        p, q = self.paired.double(), self.unpaired.double()
        return p / p.sum(), q / q.sum()

    @property
    def overlap(self) -> float:
        """∫ min(p, q): 1 for equal distributions, 0 for disjoint ones; 1 − total variation."""
        p, q = self._shares()
        return float(torch.minimum(p, q).sum())

    @property
    def divergence(self) -> float:
        """Jensen-Shannon divergence in bits, 0 for equal distributions, 1 for disjoint ones."""
        p, q = self._shares()
        m = (p + q) / 2

        def bits(a: Tensor) -> Tensor:
            return torch.where(a > 0, a * torch.log2(a / m.clamp_min(1e-300)), a).sum()

        return float((bits(p) + bits(q)) / 2)

    @property
    def separation(self) -> float:
        """d' = (μ₁ − μ₂) / √((σ₁² + σ₂²)/2) of paired and unpaired cosines."""
        (m1, m2), (s1, s2) = self.means, self.deviations
        return (m1 - m2) / max(math.sqrt((s1**2 + s2**2) / 2), 1e-12)

    @property
    def auroc(self) -> float:
        """Probability that a paired cosine is above an unpaired one; pairs in one bin count half.

        Exact up to the width of a bin.
        """
        p, q = self._shares()
        below = torch.cumsum(q, 0) - q
        return float((p * (below + q / 2)).sum())


def pair_cosines(features: Tensor, labels: Tensor, bins: int = _BINS) -> PairCosines:
    """Count the cosines of all pairs i < j.

    Args:
        features: ``(n, D)``, of any length.
        labels: class of each, int64 ``(n,)``; some class has two images, and there are two classes.
        bins: number of bins from −1 to 1.

    Returns:
        The counts, with means and standard deviations that are exact.
    """
    x = unit(features.float())
    counts = torch.zeros(2, bins, dtype=torch.int64)
    sums = torch.zeros(2, 3, dtype=torch.float64)  # number, sum and sum of squares
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, start + _BLOCK)
        for other in range(start, len(x), _BLOCK):
            columns = slice(other, other + _BLOCK)
            cosines = (x[rows] @ x[columns].T).clamp(-1, 1)
            same = labels[rows, None] == labels[None, columns]
            wanted = torch.ones_like(same)
            if start == other:
                wanted = torch.triu(wanted, diagonal=1)
            place = ((cosines + 1) / 2 * bins).long().clamp_max(bins - 1)
            for kind, mask in enumerate((same & wanted, ~same & wanted)):
                values = cosines[mask].double()
                counts[kind] += torch.bincount(place[mask], minlength=bins)
                sums[kind] += torch.stack(
                    [values.new_tensor(len(values)), values.sum(), values.square().sum()]
                )
    mean = sums[:, 1] / sums[:, 0]
    deviation = (sums[:, 2] / sums[:, 0] - mean.square()).clamp_min(0).sqrt()
    return PairCosines(
        torch.linspace(-1, 1, bins + 1),
        counts[0],
        counts[1],
        (float(mean[0]), float(mean[1])),
        (float(deviation[0]), float(deviation[1])),
    )


def feature_variance(features: Tensor) -> float:
    """Mean over the channels of the variance of unit features ``(n, D)``."""
    return float(unit(features.double()).var(dim=0, correction=0).mean())


def modality_gap(features: Tensor, text: Tensor) -> float:
    """Distance between the mean unit image feature and the mean unit class embedding.

    Liang et al., "Mind the Gap", 2022.

    Args:
        features: ``(n, D)``.
        text: ``(C, D)``.
    """
    means = [unit(part.double()).mean(dim=0) for part in (features, text)]
    return float(torch.linalg.vector_norm(means[0] - means[1]))
