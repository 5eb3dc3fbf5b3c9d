"""What a classifier knows of its own answers: calibration, sets, strangers, and the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from handful.evaluation.calibrate import Calibration, calibrate
from handful.evaluation.evidence import Evidence
from handful.evaluation.none_of_these import NoneOfThese
from handful.evaluation.prediction_sets import PredictionSets
from handful.methods.head import Head
from handful.selection.select import held_out, task_for
from handful.task import FewShotTask

__all__ = ["Trust"]

_PARTS: dict[str, Any] = {
    "sets": PredictionSets,
    "strangers": NoneOfThese,
    "evidence": Evidence,
}


@dataclass(frozen=True)
class Trust:
    """Learnt after the head, from images that it was not fitted on.

    Attributes:
        calibration: from logits to probabilities.
        sets: for prediction sets; None where no image could be held out.
        strangers: what tells images of none of the classes; None likewise.
        evidence: the support images, to name the nearest.
    """

    calibration: Calibration
    sets: PredictionSets | None
    strangers: NoneOfThese | None
    evidence: Evidence

    @classmethod
    def learn(
        cls,
        head: Head,
        task: FewShotTask,
        names: Sequence[str],
        *,
        random_state: int,
        seen_before: bool = False,
    ) -> Self:
        """Learn it for a head that ``select`` has fitted on ``task``.

        Args:
            head: the head.
            task: the same task.
            names: of the support images, paths for instance.
            random_state: the same seed.
            seen_before: the encoder was trained on the support images, so that only validation
                images are as good as new.
        """
        task = task_for(head, task)
        evidence = Evidence.of(task, names, len(head.classes_))
        if seen_before and task.X_val is None:
            return cls(Calibration(), None, None, evidence)
        held = held_out(head, task, random_state=random_state)
        calibration = calibrate(held, head=head, task=task)
        sets = None
        if held is not None:
            judged = calibration.cross_fitted(held)
            sets = PredictionSets.learn(judged, held.labels, held.groups, held.source)
        return cls(
            calibration,
            sets,
            NoneOfThese.learn(head, task, random_state=random_state),
            evidence,
        )

    def to_json(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {
            "calibration": self.calibration.to_json(),
            "sets": None if self.sets is None else self.sets.to_json(),
            "strangers": None if self.strangers is None else self.strangers.to_json(),
            "evidence": self.evidence.to_json(),
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays, each under the name of its part."""
        return {
            f"{part}.{name}": np.ascontiguousarray(array)
            for part in _PARTS
            if (owner := getattr(self, part)) is not None
            for name, array in owner.arrays().items()
        }

    @classmethod
    def from_saved(cls, told: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild it from what ``to_json`` and ``arrays`` gave.

        Raises:
            ValueError, LookupError, TypeError: it is damaged.
        """
        parts: dict[str, Any] = {}
        for part, kind in _PARTS.items():
            own = {
                name.removeprefix(f"{part}."): array
                for name, array in arrays.items()
                if name.startswith(f"{part}.")
            }
            parts[part] = None if told[part] is None else kind.from_saved(told[part], own)
        return cls(Calibration.from_json(told["calibration"]), **parts)

    def check(self, dim: int, n_classes: int) -> None:
        """Refuse what does not belong to a classifier of this width and number of classes.

        Raises:
            ValueError: naming it.
        """
        labels = self.evidence.labels
        if self.evidence.dim != dim or labels.max(initial=0) >= n_classes:
            raise ValueError("its support images are of other classes or another encoder")
        if not len(labels):
            raise ValueError("it has no support images")
        if self.sets is not None and self.sets.n_classes != n_classes:
            raise ValueError("its prediction sets are of another number of classes")
        if self.strangers is not None and self.strangers.n_classes not in (None, n_classes):
            raise ValueError("it tells strangers from another number of classes")
        parts = (self.calibration.scale, self.calibration.bias)
        if any(part is not None and len(part) != n_classes for part in parts):
            raise ValueError("its calibration is of another number of classes")
