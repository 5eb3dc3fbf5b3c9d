"""How much images are like each class, by its name and its support images.

Nothing is fitted here: support images are looked at as they are. So an image of the support can be
left out of what it is compared with, and a class out of the others, without learning anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from handful.functional.open_set import cache_affinity, centred_cosines, nearest_support

__all__ = ["Images", "Likeness", "Seen"]

_SHARPNESS = 20.0
_AT_ONCE = 2**22  # cosines computed at once: 32 MiB


@dataclass(frozen=True)
class Images:
    """Images to compare.

    Attributes:
        features: unit, float64 ``(N, D)``.
        cosines: with the class embeddings, float64 ``(N, C)``, or None where there are none.
        labels: column of the class of each, int64 ``(N,)``; −1 where it is not known.
        groups: of near duplicates, int64 ``(N,)``; −1 for images that are not of the support.
    """

    features: Tensor
    cosines: Tensor | None
    labels: Tensor
    groups: Tensor


@dataclass(frozen=True)
class Seen:
    """Support images, to compare with.

    Attributes:
        features: unit, float64 ``(n, D)``.
        labels: column of the class of each, int64 ``(n,)``.
        groups: of near duplicates, numbered from 0, int64 ``(n,)``.
        n_classes: C.
    """

    features: Tensor
    labels: Tensor
    groups: Tensor
    n_classes: int

    def counts(self) -> Tensor:
        """Number of images of each class ``(C,)``."""
        return torch.bincount(self.labels, minlength=self.n_classes)


@dataclass(frozen=True)
class Likeness:
    """Images beside support images; no image sees itself or its near duplicates.

    Attributes:
        images: the images.
        seen: what they are compared with.
        fixed: the parts that stay the same when other classes are taken away, each ``(N, C)``.
    """

    images: Images
    seen: Seen
    fixed: Mapping[str, Tensor]

    @classmethod
    def of(cls, images: Images, seen: Seen, parts: Iterable[str]) -> Self:
        """Compare images in the ways of ``parts``: ``names``, ``nearest``, ``cache``, ``means``."""
        fixed = {}
        if "names" in parts:
            assert images.cosines is not None
            fixed["names"] = images.cosines
        if asked := {"nearest", "cache"}.intersection(parts):
            rows = max(1, _AT_ONCE // len(seen.labels))
            starts = range(0, max(1, len(images.labels)), rows)
            found = [_by_image(images, seen, slice(i, i + rows), asked) for i in starts]
            fixed |= {part: torch.cat([some[part] for some in found]) for part in asked}
        return cls(images, seen, fixed)

    def part(self, name: str, kept: Tensor | None = None) -> Tensor:
        """Return one part for the classes ``kept``, or all: ``(N, len(kept))``.

        A class without images has −∞, unless the part is ``names``.

        Args:
            name: which.
            kept: columns, ascending.
        """
        if kept is None:
            kept = torch.arange(self.seen.n_classes)
        return self._means(kept) if name == "means" else self.fixed[name][:, kept]

    def _means(self, kept: Tensor) -> Tensor:
        """Centred cosines with class means; the centre is the mean of the means.

        An image of the support is in neither the mean of its class nor the centre.
        """
        images, seen = self.images, self.seen
        sums = seen.features.new_zeros(seen.n_classes, seen.features.shape[1])
        sums.index_add_(0, seen.labels, seen.features)
        counts = seen.counts()
        means = sums / counts.clamp_min(1)[:, None]
        present = kept[counts[kept] > 0]
        centre = means[present].mean(dim=0).repeat(len(images.labels), 1)
        # Images of these classes that stand in the support: their class is another without them.
        inside = torch.isin(images.labels, present) & (images.groups >= 0)
        own = images.labels[inside]
        rest = self._rest_of_class(inside, sums[own], counts[own])
        centre[inside] += (rest - means[own]) / len(present)
        found = centred_cosines(images.features, means[kept], centre)
        away, side = images.features[inside] - centre[inside], rest - centre[inside]
        found[inside, torch.searchsorted(kept, own)] = torch.cosine_similarity(away, side, dim=1)
        return found.masked_fill(counts[kept] == 0, -math.inf)

    def _rest_of_class(self, inside: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        """Return the mean of each image's class without the image and its near duplicates."""
        seen, group = self.seen, self.images.groups[inside]
        n_groups = int(seen.groups.max()) + 1
        of_group = sums.new_zeros(n_groups, sums.shape[1])
        of_group.index_add_(0, seen.groups, seen.features)
        left = counts - torch.bincount(seen.groups, minlength=n_groups)[group]
        return (sums - of_group[group]) / left.clamp_min(1)[:, None]


def _by_image(images: Images, seen: Seen, some: slice, asked: set[str]) -> dict[str, Tensor]:
    """Compare some images with every support image, but themselves and their near duplicates."""
    cosines = images.features[some] @ seen.features.T
    cosines[images.groups[some, None] == seen.groups] = -math.inf
    labels, n_classes = seen.labels, seen.n_classes
    found = {}
    if "nearest" in asked:
        found["nearest"] = nearest_support(cosines, labels, n_classes)
    if "cache" in asked:
        found["cache"] = cache_affinity(cosines, labels, n_classes, _SHARPNESS)
    return found
