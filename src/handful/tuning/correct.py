"""Train a correction of what a user named: images or features, either form, either objective."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handful.datasets.source import is_features_file, open_images, open_unlabelled
from handful.encoders.joint import refuse_several
from handful.encoders.protocol import Encoder
from handful.errors import InputError, did_you_mean
from handful.features.file import load_features
from handful.features.store import FeatureStore
from handful.tuning.correction import FORMS, OBJECTIVES, Correction, default_form

__all__ = ["check_words", "train_correction"]


def check_words(objective: str, form: str | None) -> None:
    """Refuse an objective or a form that does not exist, before any work is done.

    Raises:
        InputError: with the nearest that does.
    """
    for what, value, known in (("objective", objective, OBJECTIVES), ("form", form, FORMS)):
        if value is not None and value not in known:
            raise InputError(
                f"there is no {what} '{value}'.{did_you_mean(value, known)} Use "
                f"{' or '.join(known)}."
            )


def train_correction(
    images: str,
    encoder: Encoder | None,
    *,
    objective: str = "supervised",
    form: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    store: FeatureStore | None = None,
    checkpoint: Path | None = None,
) -> Correction:
    """Train a correction on the training split of a generic image set.

    Args:
        images: what ``handful fit`` takes; for ``dino`` also a folder without class folders.
        encoder: to be corrected; None for a features file.
        objective: ``supervised`` or ``dino``.
        form: ``blocks`` or ``projection``; None: ``blocks`` where the encoder has some.
        settings: of the training; the defaults where not given.
        seed: of everything random.
        store: where features are kept.
        checkpoint: folder in which the run is kept, to go on when the same is asked for again.

    Raises:
        InputError: a word, a setting, the images or the encoder cannot be used.
    """
    check_words(objective, form)
    if encoder is not None:
        refuse_several(encoder, "a correction")
    source: Any
    if is_features_file(images):
        source, encoder = load_features(images), None
    elif objective == "dino":
        source = open_unlabelled(images)
    else:
        source = open_images(images).train
    given: dict[str, Any] = {
        "form": form or default_form(encoder),
        "settings": dict(settings or {}),
        "seed": seed,
        "store": store,
        "checkpoint": checkpoint,
    }
    if objective == "dino":
        from handful.tuning.dino import train_dino

        return train_dino(encoder, source, **given)
    from handful.tuning.correct_supervised import train_supervised

    return train_supervised(encoder, source, **given)
