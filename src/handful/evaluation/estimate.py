"""The accuracy that ``fit`` prints: one that a user may trust, from the support set alone.

Three things make the plain cross-validated accuracy of the chosen settings wrong, and each is
mended without training anything more:

1. *The settings were chosen on the same images*, so their accuracy there is too high. Bootstrap
   bias corrected cross-validation (Tsamardinos, Greasidou and Borboudakis, "Bootstrapping the
   out-of-sample predictions for efficient and accurate cross-validation", Machine Learning 2018):
   draw images with replacement, choose the best setting on those drawn, take its accuracy on those
   not drawn. A draw holds 63 % of the images only, so with few images that alone is too low; it is
   weighed against the accuracy on all images by the .632+ rule (Efron and Tibshirani,
   "Improvements on Cross-Validation: The .632+ Bootstrap Method", 1997).
2. *A fold is fitted on fewer images than the final head*, so its accuracy is too low. It is carried
   to the full number of shots along the learning curve of
   :mod:`handful.functional.learning_curve`, which starts at the zero-shot accuracy for heads that
   start from text and at 1/C for the others, and has no constant to fit.
3. *Few images were judged*, by heads that other draws of the shots would have made better or worse:
   the interval is Jeffreys' for the number of images, widened as if the step along the learning
   curve were uncertain by its own length. That matters at two shots and hardly at sixteen.

With one image per class nothing can be held out; then there is no estimate, and ``fit`` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from handful.evaluation.interval import accuracy_interval
from handful.functional.learning_curve import accuracy_at
from handful.methods.head import Head
from handful.methods.zero_shot import ZeroShot
from handful.selection.candidates import Candidate, Trial
from handful.selection.select import Policy, held_out, task_for, trials_of
from handful.task import FewShotTask

__all__ = ["Estimate", "estimate_accuracy", "without_search_bias"]

Floats = npt.NDArray[np.floating[Any]]

_LEVEL = 0.9


@dataclass(frozen=True)
class Estimate:
    """An accuracy and the interval that holds the true one with probability ``level``.

    Attributes:
        accuracy, low, high: 0 to 1.
        images: number of images it rests on, near duplicates counted once.
        source: ``validation``, ``cross-validation`` or, for zero-shot, ``support``.
        level: 0.9.
    """

    accuracy: float
    low: float
    high: float
    images: int
    source: Literal["validation", "cross-validation", "support"]
    level: float = _LEVEL

    @classmethod
    def of(cls, accuracy: float, images: int, source: Any, uncertain: float = 0.0) -> Estimate:
        """Put the interval around an accuracy; ``uncertain``: a further standard deviation."""
        variance = accuracy * (1 - accuracy) / images
        worth = images if variance == 0 else images * variance / (variance + uncertain**2)
        low, high = accuracy_interval(accuracy, worth, _LEVEL)
        return cls(accuracy, min(low, accuracy), max(high, accuracy), images, source)


def estimate_accuracy(
    head: Head, task: FewShotTask, *, random_state: int = 0
) -> tuple[Estimate | None, Estimate | None]:
    """Estimate how often a head made by ``select`` is right on new images of the same kind.

    Args:
        head: fitted by :func:`handful.selection.select` on ``task``.
        task: the same task.
        random_state: the same seed.

    Returns:
        The estimate of the head, and that of zero-shot for comparison. None for the head where no
        image can be held out, None for zero-shot where there is no text.
    """
    task = task_for(head, task)
    # With fixed settings, validation images are as good as new, and need no learning curve.
    policy: Policy = head.selection_.policy
    if policy == "fixed":
        policy = "cv" if task.X_val is None else "val"
    trials = trials_of(task, policy, random_state)
    source = "validation" if policy == "val" else "cross-validation"
    zero_shot = None
    if task.class_embeddings is not None:
        first = task.in_text_space()
        read = trials_of(first, policy, random_state)
        judged = read if policy == "val" else Trial.support(first)
        names_only = ZeroShot(**first.head_arguments()).fit(first.X, first.y)
        zero_shot = Estimate.of(
            _accuracy(names_only, judged),
            _distinct(judged),
            source if policy == "val" else "support",
        )
        if isinstance(head, ZeroShot):
            return zero_shot, zero_shot
    if not trials:
        return None, zero_shot
    candidates = head.selection_.candidates
    if not candidates:
        found = held_out(head, task, random_state=random_state)
        assert found is not None
        candidates = (Candidate({}, found.right, found.right[:, None]),)
    groups = np.concatenate([t.groups for t in trials])
    accuracy = without_search_bias(candidates, random_state, groups)
    uncertain = 0.0
    if source == "cross-validation":
        n_classes = len(head.classes_)
        at_zero = 1 / n_classes
        if head.starts_from_text and zero_shot is not None:
            at_zero = _accuracy(names_only, read)
        shots = len(task.X) / len(np.unique(task.y))
        in_fold = shots * float(np.mean([len(t.fit) for t in trials])) / len(task.X)
        in_folds = accuracy
        accuracy = accuracy_at(shots, in_folds, in_fold, at_zero, n_classes)
        uncertain = accuracy - in_folds
    return Estimate.of(accuracy, _distinct(trials), source, uncertain), zero_shot


def without_search_bias(
    candidates: tuple[Candidate, ...] | list[Candidate],
    seed: int,
    groups: npt.NDArray[np.int64] | None = None,
    draws: int = 300,
) -> float:
    """Return the accuracy of the best candidate, corrected for having been chosen as the best.

    Args:
        candidates: with the images that were right under each.
        seed: of the bootstrap.
        groups: images with equal group are drawn together; None where each stands for itself.
        draws: number of bootstrap samples.
    """
    right = np.concatenate([np.column_stack([c.right, c.around]) for c in candidates], axis=1)
    right = np.unique(right, axis=1).astype(np.float32)
    if right.shape[1] == 1:
        return float(right.mean())
    _, place = np.unique(np.arange(len(right)) if groups is None else groups, return_inverse=True)
    n = int(place.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)[:, place]
    drawn = drawn[(drawn == 0).any(axis=1)].astype(np.float32)
    left_out = (drawn == 0).astype(np.float32)
    on_drawn = drawn @ right
    best = (on_drawn > on_drawn.max(axis=1, keepdims=True) - 0.5).astype(np.float32)
    # Tied settings share the draw: which of them would be taken is not known here.
    on_left_out = (left_out @ right * best).sum(axis=1) / best.sum(axis=1)
    apparent = 1 - float(right.mean(axis=0).max())
    honest = 1 - float(on_left_out.sum() / left_out.sum())
    # How much choosing overfits: 0 not at all, 1 as if a setting were taken blindly. Their rule has
    # the error of guessing the label in its place; here the settings are what is chosen.
    blind = 1 - float(right.mean())
    overfitting = (honest - apparent) / (blind - apparent) if blind > apparent else 0.0
    weight = 0.632 / (1 - 0.368 * min(1.0, max(0.0, overfitting)))
    return 1 - ((1 - weight) * apparent + weight * honest)


def _distinct(trials: list[Trial]) -> int:
    """Number of judged images, near duplicates counted once."""
    return sum(len(np.unique(t.groups)) for t in trials)


def _accuracy(head: Head, trials: list[Trial]) -> float:
    """Share of the judged images that a fitted head has right."""
    return float(np.mean(np.concatenate([head.predict(t.X) == t.y for t in trials])))
