"""Images compared by what the text says of them: the divergence term of Tip-X.

The profile of an image is p = softmax(xᵀW/T) over the classes, on cosines, near uniform. Two
images are alike where the Kullback–Leibler divergence of their profiles is small. It lies far
below a cosine in size, so it is stretched onto the range that the cosines between images have.

Everything is computed in float64: divergences of 1e-4 are differences of numbers near log C.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from handful.functional.normalise import unit

__all__ = [
    "Rescale",
    "class_profiles",
    "divergence",
    "log_profile",
    "profile_votes",
    "profile_votes_by_key",
]

_ROUNDING = 1e-12  # of a divergence in float64
_BLOCK = 1024  # images compared with all others at a time: n² numbers may be too many to hold


@dataclass(frozen=True)
class Rescale:
    """ρ(M) = r·(M − min M) + min A with r = (max A − min A) / (max M − min M).

    Attributes:
        lowest: min M, sent to min A.
        highest: max M, sent to max A.
        start: min A.
        end: max A.
    """

    lowest: float
    highest: float
    start: float
    end: float

    @classmethod
    def between(cls, divergences: Tensor, affinity: Tensor) -> Rescale:
        """Send the range of ``divergences`` to that of ``affinity``, both of any shape."""
        return cls(
            float(divergences.min()),
            float(divergences.max()),
            float(affinity.min()),
            float(affinity.max()),
        )

    @classmethod
    def of_support(cls, keys: Tensor, log_q: Tensor) -> Rescale:
        """The ranges among support images, an image not being compared with itself.

        Two images have one cosine, no range: there, and for a single image, an image's comparison
        with itself (M = 0, A = 1) counts too.

        Args:
            keys: unit features ``(n, D)``, float64.
            log_q: their profiles ``(n, C)``, as :func:`log_profile` gives them.
        """
        n, found = len(keys), []
        for first in range(0, n, _BLOCK):
            rows = torch.arange(first, min(first + _BLOCK, n))
            others = torch.ones(len(rows), n, dtype=torch.bool)
            if n > 2:
                others[rows - first, rows] = False
            divergences, affinity = divergence(log_q[rows], log_q), keys[rows] @ keys.T
            found.append(cls.between(divergences[others], affinity[others]))
        return cls(
            min(part.lowest for part in found),
            max(part.highest for part in found),
            min(part.start for part in found),
            max(part.end for part in found),
        )

    @property
    def slope(self) -> float:
        """r; 0 where all divergences are equal up to rounding, as those of a single image are."""
        span = self.highest - self.lowest
        return (self.end - self.start) / span if span > _ROUNDING else 0.0

    def __call__(self, divergences: Tensor) -> Tensor:
        """Return ρ(M)."""
        return self.slope * (divergences - self.lowest) + self.start


def log_profile(features: Tensor, text: Tensor, temperature: float = 0.5) -> Tensor:
    """Return log p + log C, float64 ``(..., N, C)``, p = softmax(xᵀW/T) on cosines.

    Log C is added to keep the numbers small; a divergence does not change.

    Args:
        features: ``(..., N, D)``, any length.
        text: W as rows, ``(..., C, D)``, any length.
        temperature: T.
    """
    cosines = unit(features.double()) @ unit(text.double()).mT
    return torch.log_softmax(cosines / temperature, dim=-1) + math.log(cosines.shape[-1])


def _negative_entropy(log_p: Tensor) -> Tensor:
    """Σ_c p_c (log p_c + log C), ``(..., N, 1)``."""
    return (_probability(log_p) * log_p).sum(dim=-1, keepdim=True)


def _probability(log_p: Tensor) -> Tensor:
    return log_p.exp() / log_p.shape[-1]


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """M_ik = KL(p_i‖q_k) = Σ_c p_ic log p_ic − (P·log Qᵀ)_ik, for any number of rows.

    The published code fills M in blocks of 100 rows and leaves the rest at 0.

    Args:
        log_p: of images ``(..., N, C)``, as :func:`log_profile` gives it.
        log_q: of keys ``(..., n, C)``.

    Returns:
        ``(..., N, n)``, never negative.
    """
    return (_negative_entropy(log_p) - _probability(log_p) @ log_q.mT).clamp_min(0)


def class_profiles(log_q: Tensor, key_labels: Tensor, n_classes: int) -> Tensor:
    """ḡ_c = mean over the keys of class c of log q, ``(C, C)``.

    A class without keys gets the mean of the others, so that the term neither speaks for nor
    against it.
    """
    counts = torch.bincount(key_labels, minlength=n_classes).to(log_q.dtype)
    sums = log_q.new_zeros(n_classes, log_q.shape[-1]).index_add_(0, key_labels, log_q)
    means = sums / counts.clamp_min(1)[:, None]
    filled = counts > 0
    means[~filled] = means[filled].mean(dim=0)
    return means


def profile_votes(
    log_p: Tensor, profiles: Tensor, keys_per_class: float, rescale: Rescale
) -> Tensor:
    """The term for all keys at once: −K·ρ(Σ p log p − pᵀḡ_c), from C numbers a class.

    ρ is affine, so the sum over the keys of a class is K times ρ at the mean divergence, which is
    linear in the mean of log q: O(N·C²) instead of O(N·n·C). With K keys in every class it equals
    :func:`profile_votes_by_key`. With unequal counts that sum would fall by about one for every
    further image of a class; the mean does not.

    Args:
        log_p: ``(N, C)``.
        profiles: ḡ, from :func:`class_profiles`.
        keys_per_class: K, the mean number of keys of the classes that have any.
        rescale: ρ.

    Returns:
        ``(N, C)``.
    """
    mean_divergence = _negative_entropy(log_p) - _probability(log_p) @ profiles.mT
    return -keys_per_class * rescale(mean_divergence)


def profile_votes_by_key(
    divergences: Tensor, key_labels: Tensor, n_classes: int, rescale: Rescale
) -> Tensor:
    """−ρ(M)·L, ``(N, C)``: the equation of the paper, a sum over the keys ``(N, n)``."""
    votes = divergences.new_zeros(len(divergences), n_classes)
    return votes.index_add_(1, key_labels, -rescale(divergences))
