"""Which settings a tuning method gets: chosen on validation images, or the documented ones.

Every value trains inside the encoder, so that cross-validation, which trains once more for every
fold, is not offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.features.store import FeatureStore
from handful.methods.search import Search
from handful.selection.candidates import Candidate, HeldOut
from handful.selection.choice import choose, on_border
from handful.selection.select import Selection, check_known, check_policy
from handful.tuning import registry
from handful.tuning.images import TrainingImages
from handful.tuning.trained import Trained
from handful.tuning.training import train
from handful.tuning.tuned_encoder import TunedEncoder
from handful.tuning.tuning import Prompts, Tuning

__all__ = ["check_tuning_request", "select_tuning"]


def check_tuning_request(
    method: str | type[Tuning], policy: str | None, settings: Mapping[str, Any]
) -> None:
    """Refuse a method, policy or setting that does not exist, before any work is done.

    Raises:
        InputError: with the nearest name that does exist; or the policy is ``cv``.
    """
    kind = registry.get(method) if isinstance(method, str) else method
    check_known(kind, settings)
    check_policy(policy)
    if policy == "cv":
        raise InputError(
            f"method '{kind.name}' trains inside the encoder, once more for every fold of "
            "selection 'cv': give validation images, or use 'fixed'."
        )


def select_tuning(
    method: str | type[Tuning],
    encoder: Encoder,
    images: TrainingImages,
    prompts: Prompts,
    policy: str | None = None,
    *,
    validation: TrainingImages | None = None,
    random_state: int = 0,
    store: FeatureStore | None = None,
    checkpoint: Path | None = None,
    **given: Any,
) -> tuple[TunedEncoder, Selection]:
    """Choose the settings of a tuning method and train it.

    Args:
        method: a name of :func:`handful.tuning.names`, or a class.
        encoder: the base, which is not changed.
        images: the support set; labels are rows of the prompts.
        prompts: of the classes.
        policy: ``val``: the validation images choose the settings, and the best pass where a
            method asks that; ``fixed``: documented defaults and the last pass; None: ``val`` where
            there are validation images.
        validation: labels are rows of the prompts.
        random_state: seed of the training.
        store: where features of the base are kept between calls.
        checkpoint: folder from which a run that was stopped is gone on with.
        **given: settings that you fix; they are not searched.

    Returns:
        The tuned encoder, and how its settings came about. What ``held_out`` holds are validation
        images; there is nothing honest to say without them.

    Raises:
        InputError: unknown method, setting or policy; ``cv``; ``val`` without validation images;
            and what training raises.
    """
    kind = registry.get(method) if isinstance(method, str) else method
    check_tuning_request(kind, policy, given)
    if policy == "val" and validation is None:
        raise InputError(
            "selection 'val' needs validation images, and there are none: give a validation "
            "split, or use 'fixed'."
        )
    # Validation images that choose nothing still say how good the result is.
    fixed = policy == "fixed" or validation is None
    search = Search() if fixed else kind.searched(given)

    def run(tuning: Tuning) -> Trained:
        return train(
            tuning,
            encoder,
            images,
            prompts,
            validation=None if fixed else validation,
            seed=random_state,
            store=store,
            checkpoint=checkpoint,
        )

    if validation is None:
        trained = run(kind(**given))
        tuned = trained.finished(encoder)
        trained.forget()
        return tuned, Selection("fixed", {})
    candidates: list[Candidate] = []
    sources: list[tuple[Trained, Tuning]] = []  # of the candidates
    for settings in search.train_points():
        trained = run(kind(**given, **settings))
        for point in search.sweep_points():
            tuning = kind(**given, **settings, **point)
            found = trained.finished(encoder, tuning).logits(validation, store)
            right = found.argmax(1) == validation.labels
            candidates.append(Candidate(settings | point, right, _alternatives(trained, right)))
            sources.append((trained, tuning))
    chosen = choose(candidates, search, lambda name: float(getattr(kind(), name)))
    settings = candidates[chosen].settings
    trained, tuning = sources[chosen]
    tuned = trained.finished(encoder, tuning)
    for source, _ in sources:
        source.forget()
    return tuned, Selection(
        policy="val" if search.settings() or trained.judged else "fixed",
        settings=settings,
        accuracy=candidates[chosen].correct / len(validation),
        images=len(validation),
        border=on_border(settings, search),
        trace=tuple({**c.settings, "correct": c.correct} for c in candidates),
        candidates=tuple(candidates),
        chosen=chosen,
        held_out=_held_out(tuned, validation, len(images), store),
    )


def _alternatives(trained: Trained, right: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return what else could have been taken ``(M, A)``: other passes, where the best was kept."""
    return np.column_stack([right, *trained.judged])


def _held_out(
    tuned: TunedEncoder, validation: TrainingImages, support: int, store: FeatureStore | None
) -> HeldOut:
    rows = np.arange(len(validation))
    return HeldOut(
        logits=tuned.logits(validation, store).astype(np.float64),
        labels=validation.labels,
        groups=rows,
        rows=None,
        fold=np.zeros_like(rows),
        fitted=float(support),
        support=support,
    )
