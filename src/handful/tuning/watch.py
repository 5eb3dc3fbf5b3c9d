"""Validation images that say, while a tower is trained, which pass was the best."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from handful.tuning.images import ImageStates
from handful.tuning.resume import Reached
from handful.tuning.tuning import Tuned

__all__ = ["Watch"]


class Watch:
    """Judges passes: more images right wins, then the surer of them; the first of equal ones.

    Args:
        states: of the M validation images.
        labels: their classes, ``(M,)``.
        patience: passes without a better one after which training is given up.
        trained_on: images in a pass. No more images are judged than are trained on: where there
            are more validation images, not every pass is judged.
    """

    def __init__(
        self, states: ImageStates, labels: npt.NDArray[np.int64], patience: int, trained_on: int
    ) -> None:
        self._states = states
        self._labels = torch.from_numpy(labels)
        self._patience = patience
        self._between = math.ceil(len(labels) / trained_on)

    def due(self, epoch: int, passes: int) -> bool:
        """Whether to judge after ``epoch`` of ``passes`` passes: also before all and after all."""
        return epoch % self._between == 0 or epoch == passes

    def judged(self, reached: Reached, tuned: Tuned, text: Tensor) -> Reached:
        """Return how far the run has come with the last pass judged.

        Args:
            reached: as it was before.
            tuned: the towers after that pass.
            text: unit class embeddings ``(C, D)``.
        """
        logits = self._states.logits(tuned, text)
        right = (logits.argmax(1) == self._labels).numpy()
        correct = int(right.sum())
        unsure = float(torch.nn.functional.cross_entropy(logits.double(), self._labels))
        judged = (*reached.judged, np.packbits(right).tobytes().hex())
        reached = replace(reached, judged=judged)
        if (correct, -unsure) > (reached.correct, -reached.unsure):
            return replace(reached, best=reached.epoch, correct=correct, unsure=unsure)
        return reached

    def tired(self, reached: Reached) -> bool:
        """Whether no pass was better for too long."""
        return reached.epoch - reached.best >= self._patience

    def right(self, reached: Reached) -> tuple[npt.NDArray[np.bool_], ...]:
        """Return which images were right ``(M,)``, each time they were judged."""
        packed = [np.frombuffer(bytes.fromhex(digits), np.uint8) for digits in reached.judged]
        return tuple(np.unpackbits(bits, count=len(self._labels)).astype(bool) for bits in packed)

    def identity(self) -> list[object]:
        """Return what the judgement depends on, for a digest."""
        return [self._states.digests, self._labels.tolist()]
