"""The images that "none of these" is learnt from: what is compared, and with what."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from handful.evaluation.class_likeness import Images, Seen
from handful.evaluation.evidence import Evidence
from handful.functional.normalise import unit, unit_parts
from handful.methods.head import Head
from handful.task import FewShotTask

__all__ = ["HeldOutBy", "held_out_images", "images_of", "seen_of", "support_of"]

HeldOutBy = Literal["validation", "leave-one-out", "names"]

Integers = npt.NDArray[np.int64]

_MOST = 2000  # held-out images; more would only change the third digit of a threshold


def support_of(head: Head, task: FewShotTask) -> tuple[Seen, Integers]:
    """Return the support images that are kept as evidence, and their rows."""
    n_classes = len(head.classes_)
    evidence = Evidence.of(task, [str(row) for row in range(len(task.X))], n_classes)
    rows = np.array([int(name) for name in evidence.names])
    groups = np.arange(len(task.X)) if task.groups is None else task.groups
    _, numbers = np.unique(groups[rows], return_inverse=True)
    return seen_of(evidence, numbers, n_classes), rows


def held_out_images(
    head: Head, task: FewShotTask, seen: Seen, rows: Integers, seed: int
) -> tuple[Images, HeldOutBy] | None:
    """Return the images to judge by, and how they were held out.

    Args:
        head: fitted on ``task``.
        task: the task.
        seen, rows: of ``support_of``.
        seed: of the draw where there are more than are needed.

    Returns:
        None where no image can be held out and there are no names to ask.
    """
    source: HeldOutBy = "leave-one-out"
    X, labels, groups = task.X[rows], seen.labels.numpy(), seen.groups.numpy()
    if task.X_val is not None and task.y_val is not None:
        source = "validation"
        column = {label: c for c, label in enumerate(head.classes_.tolist())}
        own = np.array([column[label] for label in task.y_val.tolist()])
        usable = np.isin(own, labels)
        X, labels, groups = task.X_val, own, np.full(len(own), -1)
    else:
        usable = _can_be_left_out(labels, groups)
    if not usable.any():
        if task.class_embeddings is None:
            return None
        source, usable = "names", np.ones(len(X), dtype=bool)
    some = np.flatnonzero(usable)
    if len(some) > _MOST:
        some = np.sort(np.random.default_rng(seed).choice(some, _MOST, replace=False))
    named = head if task.class_embeddings is not None else None
    told = (labels[some], groups[some])
    return images_of(named, X[some], task.widths, *told, corrected=task.corrected), source


def _can_be_left_out(labels: Integers, groups: Integers) -> npt.NDArray[np.bool_]:
    """Say which images have others of their class, and no near duplicate in another class."""
    pairs = np.unique(np.stack([groups, labels]), axis=1)
    alone = np.bincount(pairs[0]) == 1
    distinct = np.bincount(pairs[1][alone[pairs[0]]], minlength=labels.max() + 1)
    return np.asarray(alone[groups] & (distinct[labels] > 1))


def seen_of(evidence: Evidence, groups: Integers, n_classes: int) -> Seen:
    """Return support images to compare with."""
    features = unit(torch.from_numpy(evidence.features.astype(np.float64)))
    return Seen(features, torch.from_numpy(evidence.labels), torch.from_numpy(groups), n_classes)


def images_of(
    head: Head | None,
    X: npt.ArrayLike,
    widths: tuple[int, ...] | None,
    labels: Integers,
    groups: Integers,
    *,
    corrected: bool = False,
) -> Images:
    """Return images to compare.

    Args:
        head: what is asked about the names; None: nothing.
        X: features as it takes them ``(N, D)`` or ``(N, 2·D)``.
        widths: of several encoders the width of each.
        labels, groups: see :class:`Images`.
        corrected: whether features are ``[original | corrected]``. The names are asked about the
            original ones; with images the corrected ones are compared, as in the evidence.
    """
    raw = np.asarray(X, dtype=np.float64)
    cosines = None
    if head is not None:
        cosines = torch.from_numpy(head.zero_shot_logits(raw) / head.logit_scale)
    if corrected:
        raw = raw[:, raw.shape[1] // 2 :]
    # Of several encoders each one's part counts the same, as in the evidence.
    features = unit(torch.cat(unit_parts(torch.from_numpy(raw), widths or raw.shape[1:]), dim=1))
    return Images(features, cosines, torch.from_numpy(labels), torch.from_numpy(groups))
