"""Held-out accuracy of several methods over shots and seeds, from features encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from handful.datasets.sampling import few_shot
from handful.progress import progress
from handful.selection.select import select
from handful.task import FewShotTask

__all__ = ["Cell", "held_out_accuracy"]


@dataclass(frozen=True)
class Cell:
    """Test accuracies of one method at one number of shots, one per seed, 0 to 1."""

    method: str
    shots: int
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.accuracies))

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds (divided by n − 1); 0 for one seed."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0


def held_out_accuracy(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    class_embeddings: npt.NDArray[np.float32],
    *,
    logit_scale: float,
    methods: Sequence[str],
    shots: Sequence[int],
    seeds: Sequence[int],
) -> list[Cell]:
    """Draw K images per class, fit on them, test on all others; for each method, K and seed.

    Settings are chosen by cross-validation over the K shots, or fixed at one shot.

    Args:
        features: ``(N, D)``.
        labels: ``(N,)``.
        class_embeddings: ``(C, D)``.
        logit_scale: of the encoder.
        methods, shots, seeds: what to run.
    """
    found: dict[tuple[int, str], list[float]] = {(k, m): [] for k in shots for m in methods}
    with progress("comparing", len(found) * len(seeds), "runs") as advance:
        for k in shots:
            for seed in seeds:
                support = few_shot(labels, k, seed).support
                rest = np.setdiff1d(np.arange(len(labels)), support)
                task = FewShotTask(
                    features[support],
                    labels[support],
                    class_embeddings=class_embeddings,
                    logit_scale=logit_scale,
                )
                for method in methods:
                    head = select(method, task, random_state=seed)
                    right = head.predict(features[rest]) == labels[rest]
                    found[k, method].append(float(right.mean()))
                    advance(1)
    return [Cell(method, k, tuple(values)) for (k, method), values in found.items()]
