"""Judge every candidate setting of a method on images that it was not fitted on."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from handful.functional.exact_blend import best_of_intervals, right_intervals
from handful.functional.folds import Fold
from handful.methods.head import Head
from handful.task import FewShotTask

__all__ = ["Candidate", "HeldOut", "Judge", "Trial"]

Bools = npt.NDArray[np.bool_]

# Where a blend is searched exactly, the images right at these multiples of the best one stand for
# the continuum when the estimate of accuracy is corrected for the search.
_AROUND = np.array([0, 1 / 8, 1 / 4, 1 / 2, 1 / 2**0.5, 2**0.5, 2, 4, 8])


@dataclass(frozen=True)
class Trial:
    """One split: rows of the support to fit on, and features to judge on.

    ``groups``: judged images with equal group are near duplicates, and count as one. ``rows``:
    where the judged images stand in the support set, if they are of it.
    """

    fit: npt.NDArray[np.int64]
    X: npt.NDArray[Any]
    y: npt.NDArray[Any]
    groups: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64] | None = None

    @classmethod
    def validation(cls, task: FewShotTask) -> list[Trial]:
        """Fit on the whole support, judge on the validation images."""
        assert task.X_val is not None and task.y_val is not None
        rows = np.arange(len(task.X_val))
        return [cls(np.arange(len(task.X)), task.X_val, task.y_val, rows)]

    @classmethod
    def support(cls, task: FewShotTask) -> list[Trial]:
        """Fit on nothing, judge on the support: for heads that learn nothing from it."""
        return [cls(np.arange(0), task.X, task.y, _groups(task))]

    @classmethod
    def folds(cls, task: FewShotTask, folds: Sequence[Fold]) -> list[Trial]:
        """Fit on all folds but one, judge on that one."""
        groups = _groups(task)
        return [
            cls(f.fit, task.X[f.judge], task.y[f.judge], groups[f.judge], f.judge) for f in folds
        ]


@dataclass(frozen=True)
class Candidate:
    """One setting and how it did.

    Attributes:
        settings: values of the searched settings; of a blend, the middle of its plateau.
        right: which judged images were right ``(N,)``.
        around: the same at other blends ``(N, B)``, for the correction of the estimate.
    """

    settings: dict[str, float]
    right: Bools
    around: Bools

    @property
    def correct(self) -> int:
        """Number of images that were right."""
        return int(self.right.sum())


@dataclass(frozen=True)
class HeldOut:
    """What a head with its final settings says of images that it was not fitted on.

    Attributes:
        logits: ``(M, C)``, columns in the order of the head's ``classes_``; float64.
        labels: column of the true class of each ``(M,)``, int64.
        groups: images with equal group are near duplicates, and count as one; ``(M,)``, int64.
        rows: position of each image in the support set ``(M,)``, or None for validation images.
        fold: number of the trial in which each was judged ``(M,)``, int64.
        fitted: images that the heads were fitted on, on average; the final head has ``support``.
        support: images in the support set.
    """

    logits: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64] | None
    fold: npt.NDArray[np.int64]
    fitted: float
    support: int

    @property
    def source(self) -> Literal["validation", "cross-validation"]:
        """Where the images come from."""
        return "validation" if self.rows is None else "cross-validation"

    @property
    def right(self) -> Bools:
        """Which images were right ``(M,)``."""
        return np.asarray(self.logits.argmax(axis=1) == self.labels)

    @property
    def distinct(self) -> int:
        """Number of images, near duplicates counted once."""
        return len(np.unique(self.groups))


class Judge:
    """Fits one method on every trial of a task and judges its settings on all trials together.

    Heads are fitted together where the method trains in batches, and fitted heads are kept, so
    that asking twice for a setting fits once.
    """

    def __init__(
        self,
        method: type[Head],
        task: FewShotTask,
        trials: Sequence[Trial],
        given: Mapping[str, Any],
        random_state: int,
    ) -> None:
        self._method = method
        self._task = task
        self._trials = trials
        text = task.head_arguments(prompts=method.uses_prompts)
        self._arguments = {**text, **given, "random_state": random_state}
        self._fitted: dict[tuple[tuple[str, float], ...], list[Head]] = {}
        self.search = method.searched(given)

    def default(self, setting: str) -> float:
        """Return the documented default of a setting."""
        return float(getattr(self._method(), setting))

    def heads(self, settings: Sequence[Mapping[str, float]]) -> list[list[Head]]:
        """Return for each setting the heads fitted on the trials."""
        keys = [tuple(s.items()) for s in settings]
        new = [key for key in dict.fromkeys(keys) if key not in self._fitted]
        task = self._task
        views = task.views
        heads, data = [], []
        for key in new:
            for trial in self._trials:
                heads.append(self._method(**self._arguments, **dict(key)))
                rows = trial.fit
                data.append((task.X[rows], task.y[rows], None if views is None else views[rows]))
        self._method.fit_many(heads, data)
        for key in new:
            self._fitted[key] = heads[: len(self._trials)]
            heads = heads[len(self._trials) :]
        return [self._fitted[key] for key in keys]

    def remember(self, settings: Mapping[str, float], heads: list[Head]) -> None:
        """Take heads that were fitted on the trials elsewhere."""
        self._fitted[tuple(settings.items())] = heads

    def judge(self, train_settings: Sequence[Mapping[str, float]]) -> list[Candidate]:
        """Judge each training setting, with every value of the sweep and the best blend of each."""
        return [
            candidate
            for settings, heads in zip(train_settings, self.heads(train_settings), strict=True)
            for candidate in self._over_sweep(dict(settings), heads)
        ]

    def held_out(self, settings: Mapping[str, float]) -> HeldOut:
        """Return what heads with these settings say of the images that the trials judge.

        Nothing is fitted again that was fitted for :meth:`judge`.
        """
        train = {name: settings[name] for name in self.search.train}
        (heads,) = self.heads([train])
        trials = self._trials
        pairs = zip(heads, trials, strict=True)
        logits = [copy.copy(h).set_params(**settings).logits(t.X) for h, t in pairs]
        labels = [_positions(h.classes_, t.y).numpy() for h, t in zip(heads, trials, strict=True)]
        rows = [t.rows for t in trials if t.rows is not None]
        return HeldOut(
            logits=np.concatenate(logits),
            labels=np.concatenate(labels),
            groups=np.concatenate([t.groups for t in trials]),
            rows=np.concatenate(rows) if rows else None,
            fold=np.repeat(np.arange(len(trials)), [len(t.X) for t in trials]),
            fitted=float(np.mean([len(t.fit) for t in trials])),
            support=len(self._task.X),
        )

    def _over_sweep(self, settings: dict[str, float], heads: list[Head]) -> Iterator[Candidate]:
        labels = torch.cat(
            [_positions(h.classes_, t.y) for h, t in zip(heads, self._trials, strict=True)]
        )
        blend, points = self.search.blend, self.search.sweep_points()
        if blend is None:
            for point in points:
                pairs = zip(heads, self._trials, strict=True)
                found = [copy.copy(h).set_params(**point).logits(t.X) for h, t in pairs]
                right = (torch.from_numpy(np.concatenate(found)).argmax(dim=1) == labels).numpy()
                yield Candidate(settings | point, right, right[:, None])
            return
        sweeps = [h.sweep(t.X, points) for h, t in zip(heads, self._trials, strict=True)]
        for point, *parts in zip(points, *sweeps, strict=True):
            base = torch.cat([z for z, _ in parts])
            direction = torch.cat([q for _, q in parts])
            here = settings | point
            limit = self.search.blend_limit
            low, high = right_intervals(base, direction, labels)
            here[blend] = best_of_intervals(low, high, limit=limit).blend
            right = (low < here[blend]) & (here[blend] < high)
            blends = np.minimum(_AROUND * here[blend], limit)
            # Blend 0 is zero-shot itself, so its interval is closed there.
            around = ((low[:, None] < blends) | (low == 0)[:, None]) & (high[:, None] > blends)
            yield Candidate(here, right, around)


def _groups(task: FewShotTask) -> npt.NDArray[np.int64]:
    return np.arange(len(task.X)) if task.groups is None else task.groups


def _positions(classes: npt.NDArray[Any], y: npt.NDArray[Any]) -> torch.Tensor:
    position = {label: row for row, label in enumerate(classes.tolist())}
    return torch.tensor([position[label] for label in y.tolist()], dtype=torch.int64)
