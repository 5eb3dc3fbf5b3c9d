"""A run of a method that trains inside the encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from handful.benchmark.cost import Cost, cost_of, timed
from handful.benchmark.protocols import Draw
from handful.benchmark.source import Source
from handful.features.store import FeatureStore
from handful.selection.select import Selection
from handful.selection.select_tuning import select_tuning
from handful.tuning.images import TrainingImages
from handful.tuning.tuned_encoder import TunedEncoder

__all__ = ["Inside", "run_inside"]


@dataclass(frozen=True, eq=False)
class Inside:
    """An encoder that has learnt a draw, with what a head has for the line of a run.

    Attributes:
        encoder: with its trained part.
        selection_: how its settings came about.
    """

    encoder: TunedEncoder
    selection_: Selection

    def settings(self) -> dict[str, Any]:
        """Return all settings of the method."""
        return self.encoder.tuning.settings()

    def trained_parameters(self) -> int:
        """Return how many numbers an optimiser set."""
        return self.encoder.trained_parameters()

    def predict_proba(self, images: TrainingImages) -> npt.NDArray[np.float64]:
        """Return probabilities ``(M, C)``."""
        logits = self.encoder.logits(images, FeatureStore()).astype(np.float64)
        found: npt.NDArray[np.float64] = softmax(logits, axis=1)
        return found

    def answer(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Return the class of each picture ``(M, S, S, 3)``; class embeddings are known."""
        features = self.encoder.sees_as.encode_images(pixels)
        found: npt.NDArray[np.int64] = (features @ self.encoder.class_embeddings.T).argmax(1)
        return found


def run_inside(
    method: str, source: Source, drawn: Draw, *, judge: bool, seed: int, **given: Any
) -> tuple[Inside, Cost, npt.NDArray[np.float64], float]:
    """Choose settings, train, and answer for the test images.

    Args:
        method: a name of :func:`handful.tuning.names`.
        source: with its pictures.
        drawn: which of them are what.
        judge: whether validation images may be looked at.
        seed: of everything random.
        **given: settings.

    Returns:
        What was trained, its cost, probabilities of the test images and the seconds they took.
    """
    pictures, labels = source.pictures, source.labels
    assert pictures is not None
    judged = drawn.validation if judge else None
    support = pictures.of(drawn.support, labels)
    validation = None if judged is None else pictures.of(judged, labels)
    pixels = pictures.shown(drawn.test)

    def fit() -> Inside:
        found = select_tuning(
            method,
            pictures.encoder,
            support,
            pictures.prompts,
            "fixed" if validation is None else "val",
            validation=validation,
            random_state=seed,
            store=FeatureStore(),
            **given,
        )
        return Inside(*found)

    learnt, cost = cost_of(fit, lambda found: found.answer(pixels), len(pixels))
    probabilities, seconds = timed(lambda: learnt.predict_proba(pictures.of(drawn.test, labels)))
    return learnt, cost, probabilities, seconds.passed
