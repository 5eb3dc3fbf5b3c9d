"""A test on images of other sources or other classes than those that were learnt."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.benchmark.inside import Inside
from handful.benchmark.new_classes import new_class_logits, reaches_new_classes
from handful.benchmark.source import Source
from handful.features.store import FeatureStore
from handful.methods.head import Head

__all__ = ["Elsewhere", "harmonic_mean", "judge"]

_AT_ONCE = 4096  # images


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """Images to be tested on.

    Attributes:
        name: in results and tables.
        source: theirs.
        rows: which of it.
        columns: of each of its classes among those that were learnt, ``(C,)``: the answer is one
            of these. None: its classes are others, known by their names.
    """

    name: str
    source: Source
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64] | None


def judge(
    learnt: Head | Inside, method: str, settings: Mapping[str, Any], test: Elsewhere
) -> dict[str, Any]:
    """Return what a results line holds of one such test.

    Args:
        learnt: a fitted head, or a trained encoder.
        method, settings: what it is, and what it was given.
        test: images and classes.
    """
    seen = test.source.seen_by(method, settings)
    right = np.concatenate(
        [
            _logits(learnt, seen, rows, test.columns).argmax(axis=1) == seen.labels[rows]
            for rows in np.split(test.rows, range(_AT_ONCE, len(test.rows), _AT_ONCE))
        ]
    )
    by_names = test.columns is None and not reaches_new_classes(method, learnt.settings())
    return {
        "name": test.name,
        "source": seen.digest,
        "by": "zero-shot" if by_names else method,
        "accuracy": float(right.mean()),
        "test_images": len(right),
        "right": base64.b64encode(np.packbits(right).tobytes()).decode(),
    }


def _logits(
    learnt: Head | Inside,
    source: Source,
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.floating[Any]]:
    if columns is None:
        return new_class_logits(learnt, source, rows)
    if isinstance(learnt, Head):
        return learnt.logits(source.image_features[rows])[:, columns]
    assert source.pictures is not None
    images = source.pictures.of(rows, source.labels)
    return learnt.encoder.logits(images, FeatureStore())[:, columns]


def harmonic_mean(base: float, new: float) -> float:
    """Return 2·b·n / (b + n); 0 where both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0
