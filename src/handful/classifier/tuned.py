"""Methods inside the encoder: the encoder is trained, zero-shot classification does the rest."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from handful.classifier.gather import Gathered
from handful.classifier.trust import Trust
from handful.datasets.names import readable
from handful.datasets.sentences import ClassSentences
from handful.encoders.protocol import Encoder
from handful.errors import InputError, did_you_mean
from handful.evaluation.estimate import Estimate, estimate_accuracy, without_search_bias
from handful.features.extract import encode_images
from handful.features.store import FeatureStore
from handful.methods import registry as heads
from handful.methods.head import Head
from handful.methods.zero_shot import ZeroShot
from handful.paths import cache_folder
from handful.selection.select import Selection, check_encoders, check_request
from handful.selection.select_tuning import check_tuning_request, select_tuning
from handful.tuning import registry as tunings
from handful.tuning.images import TrainingImages
from handful.tuning.prompts import Prompts
from handful.tuning.saved import PEFT, WEIGHTS, load_tuned
from handful.tuning.tuned_encoder import TunedEncoder

__all__ = ["SavedTuning", "TunedFit", "check_method", "fit_tuned", "head_kind", "is_tuning"]


def is_tuning(method: str) -> bool:
    """Whether a method trains inside the encoder."""
    return method in tunings.names()


def head_kind(method: str) -> type[Head]:
    """Return the class of the head that answers: zero-shot where the encoder was trained."""
    return ZeroShot if is_tuning(method) else heads.get(method)


def check_method(
    method: str, select: str | None, settings: Mapping[str, Any], encoders: Sequence[str]
) -> None:
    """Refuse a method, policy, setting or number of encoders, before any work is done.

    Raises:
        InputError: with the nearest name that does exist.
    """
    if is_tuning(method):
        check_tuning_request(method, select, settings)
        if len(encoders) > 1:
            raise InputError(
                f"method '{method}' trains inside one encoder, and {len(encoders)} are given: name "
                "one of them."
            )
        return
    known = [*heads.names(), *tunings.names()]
    if method not in known:
        raise InputError(
            f"there is no method '{method}'.{did_you_mean(method, known)} The command 'handful "
            "methods' lists all of them."
        )
    check_request(method, select, settings)
    check_encoders(method, encoders)


@dataclass(frozen=True)
class TunedFit:
    """What a fit inside the encoder gives.

    Attributes:
        encoder: the trained one.
        head: zero-shot with the class embeddings that belong to it.
        selection: how the settings came about.
        task: the images as the trained encoder sees them.
        estimate: of the accuracy, from validation images; None without.
        zero_shot: the same of the encoder before training.
        trust: learnt from validation images alone: the encoder has seen all others.
    """

    encoder: TunedEncoder
    head: ZeroShot
    selection: Selection
    task: Any
    estimate: Estimate | None
    zero_shot: Estimate | None
    trust: Trust


def fit_tuned(
    method: str,
    encoder: Encoder,
    gathered: Gathered,
    templates: Sequence[str],
    sentences: ClassSentences | None,
    *,
    select: str | None,
    seed: int,
    store: FeatureStore,
    settings: Mapping[str, Any],
) -> TunedFit:
    """Train inside an encoder.

    A run that was stopped goes on from its last pass when the same is asked for again.

    Args:
        method: a name of :func:`handful.tuning.registry.names`.
        encoder: the base.
        gathered: the images as the base sees them.
        templates, sentences: what is read of each class.
        select: policy.
        seed: of the training.
        store: where features are kept.
        settings: given ones.

    Raises:
        InputError: the encoder cannot be trained by this method, or the loss is no number.
    """
    base = gathered.task
    prompts = Prompts(
        tuple(readable(name) for name in gathered.class_names),
        tuple(templates),
        () if sentences is None else sentences.of_class,
    )
    images = TrainingImages(gathered.names, base.y)
    validation = None
    if base.y_val is not None:
        validation = TrainingImages(gathered.validation_names, base.y_val)
    tuned, selection = select_tuning(
        method,
        encoder,
        images,
        prompts,
        select,
        validation=validation,
        random_state=seed,
        store=store,
        checkpoint=cache_folder() / "training",
        **settings,
    )
    # Not the store: features of a trained encoder are of no use to anybody else.
    own = store if tuned.sees_as is encoder else None
    seen = encode_images(tuned.sees_as, images.paths, store=own).features[:, 0]
    judged = None
    if validation is not None:
        judged = encode_images(tuned.sees_as, validation.paths, store=own).features[:, 0]
    task = replace(
        base, X=seen, X_val=judged, class_embeddings=tuned.class_embeddings, views=None,
        prompts=None, logit_scale=tuned.logit_scale,
    )  # fmt: skip
    head = ZeroShot(**task.head_arguments(), random_state=seed).fit(task.X, task.y)
    head.selection_ = selection
    names_only = ZeroShot(**base.head_arguments()).fit(base.X, base.y)
    names_only.selection_ = Selection("fixed", {})
    _, zero_shot = estimate_accuracy(names_only, base, random_state=seed)
    return TunedFit(
        tuned,
        head,
        selection,
        task,
        _estimate(selection, seed),
        zero_shot,
        Trust.learn(head, task, gathered.names, random_state=seed, seen_before=True),
    )


def _estimate(selection: Selection, seed: int) -> Estimate | None:
    """Return the accuracy on validation images, corrected for what was chosen on them."""
    if selection.held_out is None:
        return None
    accuracy = without_search_bias(selection.candidates, seed)
    images = selection.held_out.distinct
    return Estimate.of(float(np.clip(accuracy, 0, 1)), images, "validation")


@dataclass(frozen=True)
class SavedTuning:
    """What was trained, as it lies in the folder of a classifier, until an encoder is needed.

    Attributes:
        folder: where it lies.
        told: what ``config.json`` says of it.
    """

    folder: Path
    told: Mapping[str, Any]

    @property
    def base_fingerprint(self) -> str:
        """Fingerprint of the encoder that it was trained in."""
        return str(self.told["encoder"])

    def opened(self, base: Encoder) -> TunedEncoder:
        """Put it into the encoder that it was trained in.

        Raises:
            InputError: it is damaged, or ``base`` is another encoder.
        """
        return load_tuned(self.folder, self.told, base)

    def copied(self, folder: Path) -> dict[str, Any]:
        """Copy it to another folder, and return what is to be told of it there."""
        shutil.copyfile(self.folder / WEIGHTS, folder / WEIGHTS)
        if (self.folder / PEFT).is_dir():
            shutil.copytree(self.folder / PEFT, folder / PEFT)
        return dict(self.told)
