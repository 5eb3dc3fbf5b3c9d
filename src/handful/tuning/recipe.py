"""How a tuning method is trained: the recipes of heads, in steps as well as in epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from handful.methods.training import Recipe

__all__ = ["TuningRecipe"]


@dataclass(frozen=True)
class TuningRecipe(Recipe):
    """How to train inside an encoder; what :class:`~handful.methods.training.Recipe` has, and more.

    Attributes:
        epochs: passes over the images, one view of each image in a pass; not read where ``steps``
            are given.
        steps: in all, such as 500 per shot; the last pass may end early. None: ``epochs`` say.
        views: different random views of each image; pass e shows view e modulo ``views``.
        scale: smallest and largest part of the area that such a view covers.
        warm_up: share of the steps in which the rate climbs to ``lr`` in equal parts, before the
            schedule begins.
        lowest: the learning rate that the cosine ends at.
        gradient_norm: gradients longer than this, all taken together, are cut to it.
        patience: keep the pass that was best on the validation images, and stop after so many
            passes without a better one; None, or no validation images: keep the last step.
    """

    lr: float = 1e-3
    batch: int = 32
    schedule: Literal["step", "epoch", "constant"] = "step"
    steps: int | None = None
    views: int = 10
    scale: tuple[float, float] = (0.08, 1.0)
    warm_up: float = 0.0
    lowest: float = 0.0
    gradient_norm: float | None = None
    patience: int | None = None

    def steps_in_all(self, images: int) -> int:
        """Return the number of steps with so many training images."""
        return self.epochs * self.steps_per_epoch(images) if self.steps is None else self.steps

    def steps_per_epoch(self, images: int) -> int:
        """Return the number of steps of one pass."""
        return -(-images // self.batch)

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """Learning rate at ``step`` of ``steps`` in all, which lies in ``epoch``."""
        climbing = round(self.warm_up * steps)
        if step < climbing:
            return self.lr * (step + 1) / climbing
        part = super().rate(epoch, step - climbing, steps - climbing) / self.lr if self.lr else 0.0
        return self.lowest + (self.lr - self.lowest) * part
