"""How good a second image space is: overlap, and few-shot accuracy with it and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from handful import FewShotTask
from handful.functional.overlap import pair_cosines
from handful.selection.select import select

SHOTS, SEEDS = (1, 2, 4, 8, 16), (1, 2, 3)
# Name: method, and settings that are given; the others are chosen.
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "zero_shot": ("zero-shot", {}),
    "tip": ("tip-adapter", {}),
    "tip++": ("tip-adapter++", {}),
    "mean": ("nearest-class-mean", {}),
    "mean++": ("nearest-class-mean", {"similarity": "corrected"}),
}


def judge(
    both: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    text: npt.NDArray[np.float32],
    logit_scale: float,
    *,
    shots: Sequence[int] = SHOTS,
    seeds: Sequence[int] = SEEDS,
    largest: int = 20,
    validated: bool = True,
) -> dict[str, Any]:
    """Return overlap and mean accuracies (%) in the two spaces, over all shots and seeds.

    Of every class, ``largest`` images are the pool of support and validation images, the rest are
    tested on; which, the seed decides.

    Args:
        both: ``[original | corrected]``, ``(n, 2·D)``.
        labels: ``(n,)``.
        text: class embeddings ``(C, D)``.
        logit_scale: s.
        shots: K.
        seeds: of the draws.
        largest: images of each class that are not tested on.
        validated: settings are chosen on min(K, 4) validation images of each class; else by
            cross-validation over the shots, or, with one, left at their defaults.
    """
    dim = both.shape[1] // 2
    found: dict[str, Any] = {}
    for name, half in (("before", both[:, :dim]), ("after", both[:, dim:])):
        pairs = pair_cosines(torch.tensor(half), torch.tensor(labels))
        found[f"overlap_{name}"] = pairs.overlap
        found[f"separation_{name}"] = pairs.separation
    rows: dict[str, list[list[float]]] = {}
    for k in shots:
        of_k: dict[str, list[float]] = {}
        for seed in seeds:
            draw = _draw(labels, k, seed, largest)
            for name, value in _one(both, labels, text, logit_scale, *draw, validated).items():
                of_k.setdefault(name, []).append(100 * value)
        for name, values in of_k.items():
            rows.setdefault(name, []).append(values)
    for name, table in rows.items():
        found[name] = float(np.mean(table))
        found[f"{name}_by_shots"] = [round(float(np.mean(values)), 2) for values in table]
    return found


def _draw(
    labels: npt.NDArray[np.int64], k: int, seed: int, largest: int
) -> tuple[npt.NDArray[np.bool_], ...]:
    """Return which images are support, validation and test."""
    order = np.random.default_rng(seed).permutation(len(labels))
    place = np.zeros(len(labels), np.int64)  # of each image among those of its class
    for c in np.unique(labels):
        own = order[labels[order] == c]
        place[own] = np.arange(len(own))
    judged = (place >= max(SHOTS)) & (place < max(SHOTS) + min(k, 4))
    return place < k, judged, place >= largest


def _one(
    both: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    text: npt.NDArray[np.float32],
    logit_scale: float,
    support: npt.NDArray[np.bool_],
    judged: npt.NDArray[np.bool_],
    tested: npt.NDArray[np.bool_],
    validated: bool,
) -> dict[str, float]:
    task = FewShotTask(
        both[support],
        labels[support],
        both[judged] if validated else None,
        labels[judged] if validated else None,
        class_embeddings=text,
        logit_scale=logit_scale,
        corrected=True,
    )
    found = {}
    for name, (method, settings) in ARMS.items():
        head = select(method, task, **settings)
        X = both if head.similarity == "corrected" else both[:, : both.shape[1] // 2]
        found[name] = float((head.predict(X[tested]) == labels[tested]).mean())
    return found
