"""Features for methods that need those of a correction, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from handful import FewShotTask, methods

__all__ = ["as_taken", "side_by_side", "task_as_taken", "with_correction"]


def side_by_side(features: np.ndarray) -> np.ndarray:
    """``[original | corrected]``, the correction being the channels in reverse: cosines between
    images are as they were, those between images and text would not be."""
    return np.concatenate([features, features[..., ::-1]], axis=-1)


def as_taken(name: str, features: np.ndarray) -> np.ndarray:
    """Features of one space as a method takes them."""
    return side_by_side(features) if methods.get(name).needs_correction else features


def with_correction(task: FewShotTask) -> FewShotTask:
    """A task of one space with that correction."""
    return replace(
        task,
        X=side_by_side(task.X),
        X_val=None if task.X_val is None else side_by_side(task.X_val),
        views=None if task.views is None else side_by_side(task.views),
        corrected=True,
    )


def task_as_taken(name: str, task: FewShotTask) -> FewShotTask:
    """A task of one space as a method takes it."""
    return with_correction(task) if methods.get(name).needs_correction else task
