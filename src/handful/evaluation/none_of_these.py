"""The right to say "none of these", at a stated rate of false alarms.

A classifier gives every image one of its classes. Here is learnt how like their own class images of
the classes are when nothing was learnt from them; an image that is less like any class than nearly
all of those is called unsure.

*The score* looks at names and support images, not at the head. For each class it adds two cosines,
with the name, and with the mean of the support images, where the mean of all classes is taken away
first. Each is measured by what is usual for the class; the class where the sum is largest gives the
score. Other scores (:data:`handful.evaluation.open_set_score.KINDS`) are tried on classes that are
left out, and one that is clearly better is taken. Energy and largest logit of the head were tried,
too, on pool rows of WHU-RS19 (RN50, ViT-B/32), Stanford Cars and the example photographs. Those of
``best`` part classes left out as well as the score here (area under the receiver operating
characteristic 91.8 %, both; together 92.6 %), those of ``gda`` and ``tip-adapter`` added nothing.
Leaving classes out of a head means fitting it ten times more; here it means taking columns away.

*Held-out images* are the validation images or, where there are none, each image of the support in
turn beside all others but its near duplicates. With one image per class only names can be asked.

*The threshold* is the finite-sample quantile of split conformal prediction, see
:mod:`handful.functional.conformal`: of new images of the classes, as frequent as among those held
out, at most the stated share is called unsure, in the mean over draws. An image of the support
meets one image fewer of its class than a new one does, so its score is a little lower, and fewer
new ones are called unsure than may be: clearly so at two images per class, hardly at eight. How
many images of none of the classes are found depends on what they are; nothing is promised of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args

import numpy as np
import numpy.typing as npt
import torch

from handful.errors import InputError
from handful.evaluation.class_likeness import Likeness
from handful.evaluation.evidence import Evidence
from handful.evaluation.left_out import (
    HeldOutBy,
    held_out_images,
    images_of,
    seen_of,
    support_of,
)
from handful.evaluation.open_set_score import (
    KINDS,
    WITHOUT_LEVELS,
    Levels,
    Score,
    choose,
    separation_by_fold,
)
from handful.functional.conformal import finite_sample_quantile, images_needed
from handful.methods.head import Head
from handful.selection.select import task_for
from handful.task import FewShotTask

__all__ = ["NoneOfThese"]


@dataclass(frozen=True, eq=False)
class NoneOfThese:
    """What tells images of none of the classes.

    Attributes:
        chosen: the score, one of ``KINDS``.
        scores: of held-out images of the classes, of near duplicates the lowest, ``(M,)`` float64.
        source: how they were held out; ``names``: support images that only names were asked about.
        separations: of each score that was tried, the area under the receiver operating
            characteristic for classes left out; empty with fewer than three classes.
    """

    chosen: Score
    scores: npt.NDArray[np.float64]
    source: HeldOutBy
    separations: Mapping[str, float]

    @classmethod
    def learn(cls, head: Head, task: FewShotTask, *, random_state: int = 0) -> Self | None:
        """Learn from the images of a task.

        Args:
            head: fitted on it; only what it makes of the names is used.
            task: the task.
            random_state: seed of the classes left out together, and of the images where they are
                more than are needed.

        Returns:
            None where no image can be held out and there are no names to ask.
        """
        task = task_for(head, task)
        seen, rows = support_of(head, task)
        found = held_out_images(head, task, seen, rows, random_state)
        if found is None:
            return None
        images, source = found
        parts = {"names"} if task.class_embeddings is not None else set()
        parts |= set() if source == "names" else {"means", "nearest", "cache"}
        kinds = [kind for kind, needed in KINDS.items() if parts.issuperset(needed)]
        held, scale = Likeness.of(images, seen, parts), head.logit_scale
        separation = separation_by_fold(kinds, held, scale, random_state)
        kind = choose(kinds, separation)
        likeness = {part: held.part(part) for part in KINDS[kind]}
        score, scores = Score.learn(kind, likeness, images.labels, scale)
        folds = separation.shape[1]
        return cls(
            score,
            _lowest(scores.numpy(), images.groups.numpy()),
            source,
            dict(zip(kinds, separation.mean(axis=1).tolist(), strict=True)) if folds else {},
        )

    @property
    def kind(self) -> str:
        """Which score."""
        return self.chosen.kind

    @property
    def images(self) -> int:
        """Number of held-out images, near duplicates counted once."""
        return len(self.scores)

    @property
    def n_classes(self) -> int | None:
        """C, or None where the score does not hold it."""
        return len(self.chosen.levels[0].level) if self.chosen.levels else None

    @property
    def auroc(self) -> float | None:
        """Area under the receiver operating characteristic for classes left out, if known."""
        return self.separations.get(self.kind)

    def score(self, X: npt.ArrayLike, head: Head, evidence: Evidence) -> npt.NDArray[np.float64]:
        """Return how like any class images are ``(N,)``: higher for images of the classes.

        Args:
            X: features as the head takes them ``(N, D)``.
            head: the head.
            evidence: the support images that were kept.
        """
        groups = np.arange(len(evidence.labels))
        seen = seen_of(evidence, groups, len(head.classes_))
        nobody = np.full(len(np.asarray(X)), -1)
        parts = KINDS[self.kind]
        named = head if "names" in parts else None
        images = images_of(named, X, evidence.widths, nobody, nobody, corrected=evidence.corrected)
        return self.chosen.of(Likeness.of(images, seen, parts)).numpy()

    def threshold(self, false_alarms: float) -> float:
        """Return the score below which an image is unsure.

        Args:
            false_alarms: share of the images of the classes that may be called unsure.

        Raises:
            InputError: it is no share, or too small for the number of held-out images.
        """
        if not 0 < false_alarms < 1:
            meant = ""
            if 1 < false_alarms < 100:
                meant = f" Did you mean {false_alarms / 100:g}?"
            raise InputError(
                f"the share of false alarms is {false_alarms:g}: expected a share between 0 and 1, "
                f"such as 0.05.{meant}"
            )
        sure = round(1 - false_alarms, 12)  # 1 − 0.07 is 0.93
        needed = images_needed(sure)
        if self.images < needed:
            least = math.ceil(100 / (self.images + 1)) / 100
            raise InputError(
                f"a share of false alarms of {false_alarms:g} needs {needed} held-out images, near "
                f"duplicates counted once, and there are {self.images}: allow {least:g} or more, "
                "or give more images and fit again."
            )
        return -finite_sample_quantile(-self.scores, sure)

    def reason(self, score: float) -> str:
        """Say why an image with a low score is unsure."""
        share = math.floor(100 * float((self.scores > score).mean()))
        told = {"validation": "validation", "leave-one-out": "held-out", "names": "training"}
        return (
            f"it is less like any class than {share}% of the {self.images} {told[self.source]} "
            "images of the classes"
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what is saved as arrays; float64, so that answers stay the same to the bit."""
        levels = {f"level{i}": level.level.numpy() for i, level in enumerate(self.chosen.levels)}
        spreads = np.array([level.spread for level in self.chosen.levels], dtype=np.float64)
        return {"scores": self.scores, "spreads": spreads, **levels}

    def to_json(self) -> dict[str, Any]:
        """Return the rest."""
        return {
            "kind": self.kind,
            "logit_scale": self.chosen.logit_scale,
            "source": self.source,
            "separations": dict(self.separations),
        }

    @classmethod
    def from_saved(cls, told: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild it from what ``to_json`` and ``arrays`` gave.

        Raises:
            ValueError, LookupError, TypeError: it is damaged.
        """
        kind, source, spreads = told["kind"], told["source"], arrays["spreads"]
        if kind not in KINDS or source not in get_args(HeldOutBy):
            raise ValueError(f"it tells strangers by '{kind}' from '{source}'")
        levels = [arrays[f"level{i}"] for i in range(len(spreads))]
        numbers = [arrays["scores"], spreads, *levels]
        if any(a.ndim != 1 or a.dtype != np.float64 or np.isnan(a).any() for a in numbers):
            raise ValueError("its scores of held-out images are damaged")
        expected = 0 if kind in WITHOUT_LEVELS else len(KINDS[kind])
        if len(spreads) != expected or len({len(level) for level in levels}) > 1:
            raise ValueError(f"its levels are not those of '{kind}'")
        logit_scale = float(told["logit_scale"])
        if not len(arrays["scores"]) or not (spreads > 0).all() or not 0 < logit_scale < math.inf:
            raise ValueError("it has no scores of held-out images, or a scale that is not positive")
        learnt = tuple(
            Levels(torch.from_numpy(level), float(spread))
            for level, spread in zip(levels, spreads, strict=True)
        )
        separations = {str(name): float(value) for name, value in told["separations"].items()}
        score = Score(kind, learnt, logit_scale)
        return cls(score, arrays["scores"], source, separations)


def _lowest(
    scores: npt.NDArray[np.float64], groups: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return one score for each group, the lowest; which one a new image is like is not known."""
    own = groups < 0
    _, place = np.unique(groups[~own], return_inverse=True)
    lowest = np.full(place.max(initial=-1) + 1, np.inf)
    np.minimum.at(lowest, place, scores[~own])
    return np.concatenate([scores[own], lowest])
