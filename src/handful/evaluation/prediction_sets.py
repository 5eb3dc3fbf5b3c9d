"""Prediction sets: all classes that an image may be of, at a coverage that the user states.

They are learnt from images that the head was not fitted on, by split conformal prediction, see
:mod:`handful.functional.conformal`. Three things are decided here.

*The score* is 1 − p, and the most probable class belongs to every set. On pool rows of WHU-RS19
(ViT-B/32 and RN50) and of Stanford Cars (98 classes), with zero-shot, tip-adapter, gda, best and
linear-probe at 2, 4 and 8 shots and a coverage of 0.9, the sets held 1.6 classes on average; with
the adaptive score 8.3, or 2.0 randomised. That score adds up what is before a class, and here one
class has nearly all the probability and the others share noise. By 1 − p alone 2 % of the sets were
empty there, 8 % at a coverage of 0.8: where a head is right more often than was asked for, the
coverage is kept by leaving the truth out. An empty set helps nobody; the most probable class in its
place can only cover more.

*Classes*: where every class has enough held-out images, each gets a limit of its own (Mondrian;
Vovk, "Conditional validity of inductive conformal predictors", 2012). Then the coverage holds for
every class by itself, and so whatever their frequencies. Else one limit stands for all, and the
coverage holds on average over images whose classes are as frequent as among those held out. Never
some classes this way and some that way.

*Near duplicates* count once, with the worst score of the group. Two copies of one photograph say no
more than one: counted twice they would narrow the sets for a certainty that is not there. Which of
them a new image resembles is not known, so the worst stands for all, which can only widen the sets.

What is promised:

- From validation images that took no part in choosing anything: the coverage, in the mean over
  draws of these images, for new images that come as they came. Where settings and temperature were
  chosen on the same images, that holds but for the choice of these few numbers.
- From images held out by cross-validation: no theorem. Their probabilities come from heads that
  were fitted on fewer images than the final one. That is the plain cross-validation of Barber,
  Candès, Ramdas and Tibshirani, "Predictive inference with the jackknife+", 2021, which can fail
  for heads that change a lot with a few images; their CV+, which would have to keep the heads of
  all folds and ask each, promises 2·coverage − 1 less √(2/M) at most. A head that learnt from more
  images gives the true class more probability, so that in practice the sets are rather too large.
- Nothing for a single image or for images of another kind; with one limit for all classes, nothing
  for a single class; and nothing once the probabilities were changed, by another prior for
  instance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from handful.errors import InputError
from handful.functional.conformal import finite_sample_quantile, images_needed, least_ambiguous

__all__ = ["PredictionSets"]

Floats = npt.NDArray[np.floating[Any]]
HeldOutBy = Literal["validation", "cross-validation"]


@dataclass(frozen=True, eq=False)
class PredictionSets:
    """What sets are made from: the scores of held-out images, near duplicates counted once.

    Attributes:
        scores: 1 − p of the true class, ``(M,)`` float64.
        labels: column of the true class, ``(M,)`` int64.
        n_classes: C.
        source: how the images were held out.
    """

    scores: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    n_classes: int
    source: HeldOutBy

    @classmethod
    def learn(
        cls,
        probabilities: Floats,
        labels: npt.NDArray[np.int64],
        groups: npt.NDArray[np.int64],
        source: HeldOutBy,
    ) -> Self:
        """Learn from probabilities of held-out images.

        Args:
            probabilities: ``(M, C)``, each calibrated without the image itself.
            labels: column of the true class ``(M,)``.
            groups: images with equal group are near duplicates, ``(M,)``.
            source: how the images were held out.
        """
        own = least_ambiguous(probabilities)[np.arange(len(labels)), labels]
        order = np.lexsort((own, groups))
        worst = np.sort(order[np.append(np.diff(groups[order]) != 0, True)])
        return cls(own[worst], labels[worst].astype(np.int64), probabilities.shape[1], source)

    @property
    def images(self) -> int:
        """Number of held-out images, near duplicates counted once."""
        return len(self.scores)

    @property
    def per_class(self) -> npt.NDArray[np.int64]:
        """The same of each class, ``(C,)``."""
        return np.bincount(self.labels, minlength=self.n_classes)

    def sets(
        self, probabilities: Floats, coverage: float, *, by_class: bool | None = None
    ) -> npt.NDArray[np.bool_]:
        """Return which classes belong to the set of each image, ``(N, C)``.

        Args:
            probabilities: calibrated, ``(N, C)``.
            coverage: share of the images whose set is to hold the true class.
            by_class: whether the coverage is to hold for every class by itself. None: where every
                class has enough held-out images for it; :meth:`how` says which.

        Raises:
            InputError: the held-out images cannot support it, or it is no share.
        """
        limit: float | Floats
        if self._by_class(coverage, by_class):
            parts = [self.scores[self.labels == c] for c in range(self.n_classes)]
            limit = np.array([finite_sample_quantile(part, coverage) for part in parts])
        else:
            limit = finite_sample_quantile(self.scores, coverage)
        found = least_ambiguous(probabilities) <= limit
        found[np.arange(len(found)), probabilities.argmax(axis=1)] = True
        return found

    def how(self, coverage: float, *, by_class: bool | None = None) -> str:
        """Say in words what the coverage holds for, and how many images that rests on.

        Raises:
            InputError: as for :meth:`sets`.
        """
        counts = self.per_class
        held = "validation" if self.source == "validation" else "held-out"
        if self._by_class(coverage, by_class):
            low, high = counts.min(), counts.max()
            number = f"{low}" if low == high else f"{low} to {high}"
            return f"in every class, from {number} {held} images of each"
        told = f"over all classes together, from {self.images} {held} images"
        never = int((counts == 0).sum())
        if never:
            told += f", none of them of {never} of the {self.n_classes} classes"
        return told

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what is saved as arrays; float64, so that the sets stay the same to the bit."""
        return {"scores": self.scores, "labels": self.labels}

    def to_json(self) -> dict[str, Any]:
        """Return the rest."""
        return {"n_classes": self.n_classes, "source": self.source}

    @classmethod
    def from_saved(cls, told: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild it from what ``to_json`` and ``arrays`` gave.

        Raises:
            ValueError, LookupError, TypeError: it is damaged.
        """
        scores, labels = arrays["scores"], arrays["labels"]
        n_classes, source = int(told["n_classes"]), told["source"]
        if source not in get_args(HeldOutBy):
            raise ValueError(f"its prediction sets are from '{source}'")
        if scores.ndim != 1 or labels.shape != scores.shape:
            raise ValueError("its prediction sets have not one label for each score")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("its prediction sets have scores beyond 0 to 1")
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError("its prediction sets have labels that are no whole numbers")
        if len(labels) and not 0 <= labels.min() <= labels.max() < n_classes:
            raise ValueError("its prediction sets have labels of other classes")
        return cls(scores.astype(np.float64), labels.astype(np.int64), n_classes, source)

    def _by_class(self, coverage: float, asked: bool | None) -> bool:
        """Decide whether each class gets its own limit.

        Raises:
            InputError: too few images for what is asked, or a coverage that is no share.
        """
        if not 0 < coverage < 1:
            meant = coverage / 100 if 1 < coverage < 100 else 0.9
            raise InputError(
                f"the coverage is {coverage:g}: expected a share above 0 and below 1, such as "
                f"{meant:g}."
            )
        needed, fewest = images_needed(coverage), int(self.per_class.min())
        if asked is None:
            asked = fewest >= needed
        have, of_each = (fewest, " of every class") if asked else (self.images, "")
        if have < needed:
            there = "the class with fewest" if asked else "this classifier"
            ways = ["give more images"]
            if have:
                ways.append(f"ask for {math.floor(100 * have / (have + 1)) / 100:g} at most")
            if asked and self.images >= needed:
                ways.append("ask for it over all classes together")
            raise InputError(
                f"coverage {coverage:g} needs {needed} held-out images{of_each}, near duplicates "
                f"counted once, and {there} has {have}: {', or '.join(ways)}."
            )
        return asked
