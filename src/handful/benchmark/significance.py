"""Paired tests between methods on the same draws, exact where scipy's are approximate."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "LEVEL",
    "McNemar",
    "PairedTest",
    "compare",
    "half_interval",
    "holm",
    "mcnemar",
    "signed_rank",
]

LEVEL = 0.05


@dataclass(frozen=True)
class PairedTest:
    """A method against another one on the draws that both have.

    Attributes:
        against: label of the other method.
        pairs: draws that both have.
        needed: pairs from which on p can fall below ``LEVEL`` at all.
        comparisons: number of methods that were tested against that one; Holm's correction is for
            these.
        p: two-sided, of Wilcoxon's signed-rank test; None where there are fewer pairs than needed.
        corrected: the same after Holm's correction.
    """

    against: str
    pairs: int
    needed: int
    comparisons: int
    p: float | None = None
    corrected: float | None = None

    @property
    def different(self) -> bool | None:
        """Whether they differ significantly; None where there are too few pairs."""
        return None if self.corrected is None else self.corrected < LEVEL


def half_interval(values: Sequence[float]) -> float | None:
    """Return half the 95 % interval of a mean, by Student's t; None for one value."""
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return None
    return float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(n)


def compare(accuracies: Mapping[str, Mapping[Any, float]], against: str) -> dict[str, PairedTest]:
    """Test every method against one of them.

    Args:
        accuracies: by label and draw.
        against: a label.

    Returns:
        A test for each other label, corrected for their number.
    """
    of_one = accuracies[against]
    others = {
        label: [value - of_one[draw] for draw, value in found.items() if draw in of_one]
        for label, found in accuracies.items()
        if label != against
    }
    # With n pairs that all go one way p is 2 / 2ⁿ, and Holm's first step multiplies it.
    needed = 1 + math.ceil(math.log2(max(1, len(others)) / LEVEL))
    raw = {label: signed_rank(d) for label, d in others.items() if len(d) >= needed}
    corrected = dict(zip(raw, holm(list(raw.values())), strict=True))
    return {
        label: PairedTest(against, len(d), needed, len(raw), raw.get(label), corrected.get(label))
        for label, d in others.items()
    }


def signed_rank(differences: Sequence[float]) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test (1945); 1 where nothing differs.

    Pairs without a difference are left out. The distribution is the exact one given the ties, over
    all signs: accuracies are multiples of one test image, so that ties are the rule, for which
    scipy takes the normal approximation above 13 pairs.

    Args:
        differences: one per pair.
    """
    # Rounded: equal differences of fractions differ in their last bits.
    found = np.round(np.asarray(differences, dtype=np.float64), 9)
    found = found[found != 0]
    _, which, counts = np.unique(np.abs(found), return_inverse=True, return_counts=True)
    doubled = (2 * np.cumsum(counts) - counts + 1)[which]  # ranks times two are whole numbers
    total = int(doubled.sum())
    ways = np.zeros(total + 1)
    ways[0] = 1
    for rank in doubled.tolist():
        ways[rank:] = (ways[rank:] + ways[: total + 1 - rank]) / 2
        ways[:rank] /= 2
    positive = int(doubled[found > 0].sum())
    return float(min(1.0, 2 * min(ways[: positive + 1].sum(), ways[positive:].sum())))


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979), in the same order."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    corrected = [0.0] * len(p)
    largest = 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, p[i] * (len(p) - place)))
        corrected[i] = largest
    return corrected


@dataclass(frozen=True)
class McNemar:
    """Two classifiers on the same test images.

    Attributes:
        only_first, only_second: images that one has right and the other wrong.
        p: two-sided, of McNemar's exact test: whether both kinds of images are equally likely.
    """

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Mapping[str, Any], second: Mapping[str, Any]) -> McNemar:
    """Compare two runs on the same draw image by image (McNemar, 1947; exact binomial).

    It is about these two classifiers on these images, not about the methods that made them.

    Args:
        first, second: lines of a results file, of one source, protocol, shots and seed.
    """
    from scipy.special import bdtr

    a, b = _right(first), _right(second)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} test images beside {len(b)}: not the same draw")
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    p = min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))
    return McNemar(only_first, only_second, p)


def _right(row: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    packed = np.frombuffer(base64.b64decode(row["right"]), dtype=np.uint8)
    return np.unpackbits(packed, count=row["test_images"]).astype(bool)
