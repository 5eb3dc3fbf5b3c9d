"""What a method makes of images: features where it changes them, class scores where it does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from handful.benchmark.grouping import label_of
from handful.benchmark.inside import run_inside
from handful.benchmark.one_run import Run, learn, task_of
from handful.benchmark.protocols import Draw
from handful.benchmark.source import Source
from handful.classifier.tuned import is_tuning
from handful.features.extract import encode_images
from handful.features.store import FeatureStore
from handful.functional.normalise import unit
from handful.methods.clip_adapter import ClipAdapter
from handful.methods.zero_shot import ZeroShot

__all__ = ["FEATURES", "SCORES", "Adapted", "adapted"]

FEATURES, SCORES = "features", "scores"


@dataclass(frozen=True, eq=False)
class Adapted:
    """Some test images as a method sees them.

    Attributes:
        label: the method with the settings that were given.
        space: ``features``: of zero-shot the encoder's, of methods that change images what they
            make of these. ``scores``: the class scores of all others, of each image less their
            mean, which changes no probability.
        vectors: of unit length, float32 ``(n, D)`` or ``(n, C)``.
        accuracy: on all test images.
    """

    label: str
    space: str
    vectors: npt.NDArray[np.float32]
    accuracy: float


def adapted(run: Run, source: Source, drawn: Draw, shown: npt.NDArray[np.int64]) -> Adapted:
    """Let a method learn a draw, and return what it makes of some images.

    CLIP-Adapter changes images unless its branch is ``text``, and of the methods inside the encoder
    those do that train the image tower. Every other method leaves images where they are and learns
    texts, votes or weights for the classes.

    Args:
        run: method, settings, policy and seed.
        source: which the draw is of.
        drawn: which images are what.
        shown: rows of the images that are returned.
    """
    space, right, found = (_inside if is_tuning(run.method) else _head)(run, source, drawn, shown)
    vectors = torch.from_numpy(found.astype(np.float64))
    if space == SCORES:
        vectors = vectors - vectors.mean(dim=1, keepdim=True)
    label = label_of({"method": run.method, "given": dict(run.settings)})
    # In float32, which is what features were to begin with: vectors that differ by a rounding of
    # float64 alone are equal, and so are their pictures.
    return Adapted(label, space, unit(vectors).float().numpy(), float(right.mean()))


Found = tuple[str, npt.NDArray[np.bool_], npt.NDArray[np.floating]]


def _head(run: Run, source: Source, drawn: Draw, shown: npt.NDArray[np.int64]) -> Found:
    seen = source.seen_by(run.method, dict(run.settings))
    head = learn(run, task_of(seen, drawn, run.select))
    X = seen.image_features
    right = head.predict_proba(X[drawn.test]).argmax(1) == seen.labels[drawn.test]
    if isinstance(head, ZeroShot):
        return FEATURES, right, X[shown]
    if isinstance(head, ClipAdapter) and head.branch != "text":
        return FEATURES, right, head.transform(X[shown])
    return SCORES, right, head.logits(X[shown])


def _inside(run: Run, source: Source, drawn: Draw, shown: npt.NDArray[np.int64]) -> Found:
    judge = run.select == "val"
    learnt, _, probabilities, _ = run_inside(
        run.method, source, drawn, judge=judge, seed=run.seed, **dict(run.settings)
    )
    right = probabilities.argmax(1) == source.labels[drawn.test]
    assert source.pictures is not None
    images, encoder = source.pictures.of(shown, source.labels), learnt.encoder
    if encoder.sees_as is encoder.base:
        return SCORES, right, encoder.logits(images, FeatureStore())
    # Not the store: features of a trained encoder are of no use to anybody else.
    return FEATURES, right, encode_images(encoder, images.paths).features[:, 0]
