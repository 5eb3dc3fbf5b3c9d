"""Why: the support images nearest to an image, and how much names and images have to do with its
answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from handful.functional.normalise import unit_parts
from handful.methods.head import Head
from handful.methods.zero_shot import ZeroShot
from handful.task import FewShotTask

__all__ = ["Evidence", "Shares", "shares"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_MOST = 2**24  # numbers kept: 32 MiB
_AT_ONCE = 2**22  # cosines computed at once: 32 MiB


@dataclass(frozen=True)
class Evidence:
    """The support images, to name those that are nearest to an image.

    At most 2²⁴ numbers are kept, 32,768 images of width 512, but one image of each class in any
    case. Of more images the first of each class are kept, equally many of each class that has as
    many.

    Attributes:
        features: float16 ``(n, D)``, of unit length but for rounding. Of M encoders each one's part
            has length 1/√M, so that a cosine is the mean of theirs. Features before a projection
            stay before it, as the heads that learn there see them. Of corrected features those in
            the corrected space, where such a head compares images.
        labels: column of each image's class, int64 ``(n,)``.
        names: of the images: paths, or row numbers.
        widths: of several encoders the width of each, else None.
        named: whether class embeddings came from names; else class means stand in for them.
        corrected: whether the head takes ``[original | corrected]``, 2·D wide.
    """

    features: npt.NDArray[np.float16]
    labels: Integers
    names: tuple[str, ...]
    widths: tuple[int, ...] | None = None
    named: bool = True
    corrected: bool = False

    def __post_init__(self) -> None:
        n = len(self.names)
        if self.features.ndim != 2 or self.features.dtype != np.float16:
            raise ValueError("the features of its support images are no float16 matrix")
        if len(self.features) != n or self.labels.shape != (n,):
            raise ValueError(f"it names {n} support images, but has features or labels of others")
        if not np.isfinite(self.features).all() or (self.labels < 0).any():
            raise ValueError("the features or labels of its support images are damaged")
        widths = self.widths
        if widths is not None and (min(widths) < 1 or sum(widths) != self.features.shape[1]):
            raise ValueError("the widths of its encoders are not those of its support images")

    @classmethod
    def of(cls, task: FewShotTask, names: Sequence[str], n_classes: int) -> Self:
        """Keep the support images of a task.

        Args:
            task: the task.
            names: of its support images ``(N,)``.
            n_classes: C.
        """
        classes = ZeroShot(task.class_embeddings, class_names=task.class_names)
        labels = classes._set_classes(task.y).numpy()
        width = task.X.shape[1] // (2 if task.corrected else 1)
        rows = _first_of_each(labels, n_classes, _MOST // width)
        return cls(
            features=_short(task.X[rows, -width:], task.widths).astype(np.float16),
            labels=labels[rows],
            names=tuple(str(names[row]) for row in rows),
            widths=task.widths,
            named=task.class_embeddings is not None,
            corrected=task.corrected,
        )

    @property
    def dim(self) -> int:
        """Width of features as the head takes them."""
        width: int = self.features.shape[1]
        return 2 * width if self.corrected else width

    def nearest(self, X: npt.ArrayLike, k: int) -> tuple[Integers, Floats]:
        """Return the support images nearest to each image, the nearest first.

        Cosines are compared to six digits; of equal ones the first image comes first, so that the
        answer does not depend on the batch.

        Args:
            X: features as the head takes them, ``(N, D)`` or ``(N, 2·D)``, of any length.
            k: how many; where there are fewer, all.

        Returns:
            Positions ``(N, k)`` and cosines ``(N, k)``.
        """
        queries, n = np.asarray(X)[:, -self.features.shape[1] :], len(self.labels)
        k = min(k, n)
        found, cosines = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
        keys = _short(self.features, self.widths)  # once more, after rounding
        for first in range(0, len(queries), max(1, _AT_ONCE // n)):
            part = slice(first, first + max(1, _AT_ONCE // n))
            affinity = _short(queries[part], self.widths) @ keys.T
            # What is subtracted is below the seventh digit: it only puts equal ones in order.
            ranked = affinity.round(6) - np.arange(n) * 1e-14
            near = np.argpartition(-ranked, k - 1, axis=1)[:, :k]
            order = np.argsort(-np.take_along_axis(ranked, near, axis=1), axis=1)
            found[part] = np.take_along_axis(near, order, axis=1)
            cosines[part] = np.take_along_axis(affinity, found[part], axis=1)
        return found, cosines

    def to_json(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {
            "names": list(self.names),
            "widths": None if self.widths is None else list(self.widths),
            "named": self.named,
            "corrected": self.corrected,
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays, for saving."""
        return {"features": self.features, "labels": self.labels}

    @classmethod
    def from_saved(cls, told: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild it from what ``to_json`` and ``arrays`` gave.

        Raises:
            ValueError, LookupError, TypeError: it is damaged.
        """
        names, widths = told["names"], told["widths"]
        corrected = told.get("corrected", False)  # not told before there were corrections
        if not isinstance(widths, list | None):
            raise ValueError("the widths of its encoders are no list")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("the names of its support images are no texts")
        if not isinstance(told["named"], bool) or arrays["labels"].dtype != np.int64:
            raise ValueError("the labels of its support images are damaged")
        if not isinstance(corrected, bool):
            raise ValueError("it does not say whether its support images are corrected")
        return cls(
            features=arrays["features"],
            labels=arrays["labels"],
            names=tuple(names),
            widths=None if widths is None else tuple(map(int, widths)),
            named=told["named"],
            corrected=corrected,
        )


@dataclass(frozen=True)
class Shares:
    """How much names and images have to do with each answer; see :func:`shares`.

    Attributes:
        names_alone: column that the names alone say ``(N,)``.
        names_margin: margin of the answer over the runner-up that comes from the names ``(N,)``.
        images_margin: the rest of it, from the images ``(N,)``.
        names: share of the names in what speaks for the answer ``(N,)``, from 0 to 1; that of the
            images is what is missing to 1.
    """

    names_alone: Integers
    names_margin: Floats
    images_margin: Floats
    names: Floats


def shares(head: Head, X: npt.ArrayLike, *, named: bool = True) -> Shares:
    """Split the margin of each answer over the runner-up between names and images.

    Logits are T + R, T being what the head makes of the names
    (:meth:`~handful.methods.head.Head.names_logits`) and R what the images taught it. For the
    answer p and the runner-up r of the logits, t = T_p − T_r and q = R_p − R_r; t + q is the margin
    and never negative. What is negative of the two speaks against the answer. The share of the
    names is that of what speaks for it, max(t, 0) / (max(t, 0) + max(q, 0)); where nothing does (a
    tie), ½. So it is 1 for zero-shot and 0 for a head that ignores the text.

    Args:
        head: a fitted head.
        X: features as it takes them ``(N, D)``.
        named: false where class means stand in for class embeddings, so that all is from images.
    """
    logits = head.logits(X)
    names = head.names_logits(X) if named else np.zeros_like(logits)
    rows, answer = np.arange(len(logits)), logits.argmax(axis=1)
    others = logits.copy()
    others[rows, answer] = -np.inf
    runner_up = others.argmax(axis=1)
    margin = logits[rows, answer] - logits[rows, runner_up]
    t = names[rows, answer] - names[rows, runner_up]
    q = margin - t
    for_names, for_images = np.maximum(t, 0), np.maximum(q, 0)
    total = for_names + for_images
    share = np.divide(for_names, total, out=np.full(len(total), 0.5), where=total > 0)
    return Shares(head.zero_shot_logits(X).argmax(axis=1), t, q, share)


def _first_of_each(labels: Integers, n_classes: int, room: int) -> Integers:
    """Return the rows of the first images of each class, at most ``room``, in their order."""
    counts = np.bincount(labels, minlength=n_classes)
    most = int(counts.max())
    while most > 1 and np.minimum(counts, most).sum() > room:
        most -= 1
    place = np.empty(len(labels), np.int64)
    order = np.argsort(labels, kind="stable")
    place[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.flatnonzero(place < most)


def _short(vectors: npt.NDArray[Any], widths: tuple[int, ...] | None) -> Floats:
    """Bring rows to length 1; of several encoders each one's part to the same length."""
    parts = unit_parts(torch.from_numpy(vectors.astype(np.float64)), widths or vectors.shape[1:])
    short: Floats = torch.cat(parts, dim=1).numpy()
    return short / math.sqrt(len(parts))
