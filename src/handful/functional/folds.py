"""Cross-validation folds over the shots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Fold", "make_folds"]

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Rows to fit on and rows to judge on."""

    fit: Indices
    judge: Indices


def make_folds(
    labels: npt.NDArray[np.int64],
    groups: Indices | None = None,
    *,
    most: int = 4,
    seed: int = 0,
) -> list[Fold]:
    """Deal the images of each class to min(K, ``most``) folds, K being the largest class.

    Near duplicates (equal ``groups``) go to one fold together. A class with a single image, or
    whose images are all near duplicates of one another, is never judged: holding it out would
    leave no image of it to fit on. Nor is a class all of whose images would go to one fold, which
    happens where the same picture is found in two classes.

    Args:
        labels: class index of each image ``(N,)``.
        groups: group of each image ``(N,)``, or None where every image stands for itself.
        most: the largest number of folds.
        seed: of the dealing.

    Returns:
        The folds; an empty list where no class can be held out.
    """
    if groups is None:
        groups = np.arange(len(labels))
    generator = np.random.default_rng(seed)
    # A group may reach over two classes; it is dealt with the class it is met in first.
    home: dict[int, int] = {}
    for label, group in zip(labels.tolist(), groups.tolist(), strict=True):
        home.setdefault(group, label)
    by_class: dict[int, list[int]] = {}
    for group, label in home.items():
        by_class.setdefault(label, []).append(group)
    n_folds = min(most, max(len(members) for members in by_class.values()))
    if n_folds < 2:
        return []
    fold_of: dict[int, int] = {}
    start = 0  # the next class starts where the last one ended, which keeps the folds even
    for label in sorted(by_class):
        members = by_class[label]
        if len(members) < 2:
            continue
        for position, member in enumerate(generator.permutation(len(members)).tolist()):
            fold_of[members[member]] = (start + position) % n_folds
        start += len(members)
    for label in np.unique(labels):
        own = set(groups[labels == label].tolist())
        if len({fold_of.get(group, -1) for group in own}) == 1:
            fold_of = {group: f for group, f in fold_of.items() if group not in own}
    fold = np.array([fold_of.get(group, -1) for group in groups.tolist()])
    return [
        Fold(fit=np.flatnonzero(fold != f), judge=np.flatnonzero(fold == f))
        for f in range(n_folds)
        if (fold == f).any()
    ]
