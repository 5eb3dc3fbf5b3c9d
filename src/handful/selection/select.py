"""``select``: settings chosen on validation images, by cross-validation, or not at all."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from handful.errors import InputError, did_you_mean
from handful.functional.folds import make_folds
from handful.methods import registry
from handful.methods.head import Head
from handful.methods.settings import Settings
from handful.selection.candidates import Candidate, HeldOut, Judge, Trial
from handful.selection.choice import choose, on_border
from handful.selection.plateau import middle_of_plateau
from handful.task import FewShotTask

__all__ = [
    "POLICIES",
    "Policy",
    "Selection",
    "check_encoders",
    "check_known",
    "check_policy",
    "check_request",
    "choose_policy",
    "held_out",
    "select",
    "task_for",
    "trials_of",
]

Policy = Literal["val", "cv", "fixed"]
POLICIES: tuple[str, ...] = get_args(Policy)


@dataclass(frozen=True)
class Selection:
    """How the settings of a head came about.

    Attributes:
        policy: ``val``, ``cv`` or ``fixed``.
        settings: what was chosen; empty where nothing was searched.
        accuracy: of the chosen settings on the images they were chosen on, hence optimistic.
        images: number of those images.
        folds: number of folds for ``cv``, else 0.
        border: settings whose chosen value lies on the border of its grid.
        trace: every candidate with its number of images right.
        candidates: the same with the images that were right; kept in memory only.
        chosen: position of the choice among the candidates.
        held_out: what the chosen settings say of the images they were chosen on; in memory only.
    """

    policy: Policy
    settings: dict[str, float]
    accuracy: float | None = None
    images: int = 0
    folds: int = 0
    border: tuple[str, ...] = ()
    trace: tuple[dict[str, float], ...] = ()
    candidates: tuple[Candidate, ...] = ()
    chosen: int = 0
    held_out: HeldOut | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what is written into results and saved classifiers."""
        return {
            "policy": self.policy,
            "settings": self.settings,
            "accuracy_on_selection_images": self.accuracy,
            "images": self.images,
            "folds": self.folds,
            "border": list(self.border),
            "trace": list(self.trace),
        }


def check_request(method: str, policy: str | None, settings: Mapping[str, Any]) -> None:
    """Refuse a method, policy or setting that does not exist, before any work is done.

    Raises:
        InputError: with the nearest name that does exist.
    """
    check_known(registry.get(method), settings)
    check_policy(policy)


def check_encoders(method: str | type[Head], encoders: Sequence[str]) -> None:
    """Refuse several encoders where the method takes one.

    Args:
        method: a name, or a class.
        encoders: what the encoders are called.

    Raises:
        InputError: naming them and the methods that take several.
    """
    kind = registry.get(method) if isinstance(method, str) else method
    if len(encoders) > 1 and not kind.several_encoders:
        several = [name for name in registry.names() if registry.get(name).several_encoders]
        raise InputError(
            f"method '{kind.name}' takes one encoder, and there are {len(encoders)}: "
            f"{', '.join(encoders)}; keep one, or use method {' or '.join(several)}."
        )


def choose_policy(task: FewShotTask, policy: str | None) -> Policy:
    """Return ``policy``, or what it means when left out.

    ``val`` where there are validation images, else ``cv``, else (one shot) ``fixed``.

    Raises:
        InputError: the policy is unknown, or the task does not allow it.
    """
    check_policy(policy)
    if policy == "val" and task.X_val is None:
        raise InputError(
            "selection 'val' needs validation images, and there are none: give a validation "
            "split, or use 'cv' or 'fixed'."
        )
    if policy == "cv" and not _folds(task, 0):
        raise InputError(
            "selection 'cv' needs two distinct images of at least one class: give more images, or "
            "use 'fixed'."
        )
    if policy is not None:
        return policy  # type: ignore[return-value]
    if task.X_val is not None:
        return "val"
    return "cv" if _folds(task, 0) else "fixed"


def trials_of(task: FewShotTask, policy: Policy, random_state: int) -> list[Trial]:
    """Return the splits on which ``policy`` judges; empty for ``fixed``."""
    if policy == "val":
        return Trial.validation(task)
    return Trial.folds(task, _folds(task, random_state)) if policy == "cv" else []


def select(
    method: str | type[Head],
    task: FewShotTask,
    policy: str | None = None,
    *,
    random_state: int = 0,
    **given: Any,
) -> Head:
    """Choose the settings of a method and fit it on the whole support set.

    Args:
        method: a name of :func:`handful.methods.names`, or a class.
        task: support, validation and text. It holds no test data, so none can be used.
        policy: ``val``: validation images; ``cv``: up to four folds over the shots; ``fixed``:
            documented defaults; None: the best that the task allows.
        random_state: seed of folds and training.
        **given: settings that you fix; they are not searched.

    Returns:
        A fitted head; ``head.selection_`` is the :class:`Selection`.

    Raises:
        InputError: unknown method, setting or policy, or labels that have no row.
    """
    kind = registry.get(method) if isinstance(method, str) else method
    check_known(kind, given)
    check_encoders(kind, [f"features of width {width}" for width in task.widths or ()])
    _check_projection(kind, task)
    task = task_for(kind(**given), task)
    chosen_policy = choose_policy(task, policy)
    _check_labels(kind, task)
    text = task.head_arguments(prompts=kind.uses_prompts)
    arguments = {**text, **given, "random_state": random_state}
    if chosen_policy == "fixed" or not kind.searched(given).settings():
        head = kind(**arguments).fit(task.X, task.y, views=task.views)
        head.selection_ = Selection("fixed", {})
        return head
    trials = trials_of(task, chosen_policy, random_state)
    judge = Judge(kind, task, trials, given, random_state)
    candidates = _search(judge)
    chosen = choose(candidates, judge.search, judge.default)
    settings = candidates[chosen].settings
    train = {name: settings[name] for name in judge.search.train}
    if chosen_policy == "val":
        # Fitted on the whole support already; what is left are settings of prediction.
        head = copy.copy(judge.heads([train])[0][0]).set_params(**settings)
    else:
        head = kind(**arguments, **settings).fit(task.X, task.y, views=task.views)
    head.selection_ = Selection(
        policy=chosen_policy,
        settings=settings,
        accuracy=candidates[chosen].correct / len(candidates[chosen].right),
        images=len(candidates[chosen].right),
        folds=len(trials) if chosen_policy == "cv" else 0,
        border=on_border(settings, judge.search),
        trace=tuple({**c.settings, "correct": c.correct} for c in candidates),
        candidates=tuple(candidates),
        chosen=chosen,
        held_out=judge.held_out(settings),
    )
    return head


def held_out(head: Head, task: FewShotTask, *, random_state: int = 0) -> HeldOut | None:
    """Return what a head made by :func:`select` would say of images it had not been fitted on.

    From its selection where it made one; else it judges the validation images, or heads with the
    same settings are fitted on the folds.

    Args:
        head: fitted by :func:`select` on ``task``.
        task: the same task.
        random_state: the same seed.

    Returns:
        None where no image can be held out: one image per class and no validation images.
    """
    if head.selection_.held_out is None:
        task = task_for(head, task)
        policy: Policy = "cv" if task.X_val is None else "val"
        trials = trials_of(task, policy, random_state)
        if not trials:
            return None
        judge = Judge(type(head), task, trials, head.settings(), random_state)
        if policy == "val":
            judge.remember({}, [head])
        head.selection_ = replace(head.selection_, held_out=judge.held_out({}))
    found: HeldOut | None = head.selection_.held_out
    return found


def _folds(task: FewShotTask, seed: int) -> list[Any]:
    _, labels = np.unique(task.y, return_inverse=True)
    return make_folds(labels, task.groups, seed=seed)


def check_policy(policy: str | None) -> None:
    """Refuse a policy that does not exist.

    Raises:
        InputError: with the nearest name that does exist.
    """
    if policy is not None and policy not in POLICIES:
        raise InputError(
            f"there is no selection policy '{policy}'.{did_you_mean(policy, POLICIES)} "
            f"Use one of {', '.join(POLICIES)}."
        )


def check_known(kind: type[Settings], given: Mapping[str, Any]) -> None:
    """Refuse settings that a method does not have, or values that they cannot have.

    Raises:
        InputError: with the nearest name that does exist.
    """
    known = set(kind().settings())
    for name in given:
        if name not in known:
            raise InputError(
                f"method '{kind.name}' has no setting '{name}'.{did_you_mean(name, known)} "
                f"Its settings are {', '.join(sorted(known)) or 'none'}."
            )
    kind(**given).check_settings()


def _check_projection(kind: type[Head], task: FewShotTask) -> None:
    if task.projection is not None and not kind.before_projection:
        raise InputError(
            f"method '{kind.name}' works on features behind the projection, and those of this task "
            "are before it: give task.projected(), or use method elevater-l1p."
        )


def task_for(head: Head, task: FewShotTask) -> FewShotTask:
    """Return what a head sees of a task: corrected features only if it compares images in them.

    Args:
        head: with its settings, fitted or not.
        task: the task.

    Raises:
        InputError: the head wants corrected features, and there are none.
    """
    if head.similarity != "corrected":
        return task.original()
    if not task.corrected:
        wanted = "" if head.needs_correction else " with similarity 'corrected'"
        raise InputError(
            f"method '{head.name}'{wanted} needs a correction of the encoder: train one with "
            "'handful correct train' and give it with --correction."
        )
    return task


def _check_labels(kind: type[Head], task: FewShotTask) -> None:
    """Refuse validation labels that the support and the text do not know."""
    if task.y_val is None:
        return
    probe = kind(**task.head_arguments())
    probe._set_classes(task.y)
    known = set(probe.classes_.tolist())
    for label in task.y_val.tolist():
        if label not in known:
            raise InputError(
                f"validation label {label!r} is none of the classes of the support set: "
                "remove those images or add some of that class to the support."
            )


def _search(judge: Judge) -> list[Candidate]:
    candidates = judge.judge(judge.search.train_points())
    if judge.search.halvings and judge.search.train:
        (name,) = judge.search.train
        candidates = _halve(judge, name, candidates)
    return candidates


def _halve(judge: Judge, name: str, candidates: list[Candidate]) -> list[Candidate]:
    """CoOp's refinement: from one decade each side of the best, keep the better end, halve.

    Of tied best values the middle one; CoOp takes the largest.
    """
    found = {c.settings[name]: c for c in candidates}
    values = sorted(found)
    scores = [found[value].correct for value in values]
    best = values[middle_of_plateau(values, scores, judge.default(name))]
    left, right = np.log10(best) - 1, np.log10(best) + 1
    for _ in range(judge.search.halvings):
        ends = [float(f"{10**end:.6g}") for end in (left, right)]
        new = [{name: value} for value in ends if value not in found]
        found.update({c.settings[name]: c for c in judge.judge(new)})
        middle = (left + right) / 2
        if found[ends[0]].correct < found[ends[1]].correct:
            left = middle
        else:
            right = middle
    return [found[value] for value in sorted(found)]
