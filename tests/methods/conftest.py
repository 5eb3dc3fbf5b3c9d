"""Real CLIP features of satellite images, split as in the protocol of the published figures."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from handful import FewShotTask, load_features

Draw = tuple[FewShotTask, np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def whu(shared: Path) -> Callable[..., Draw]:
    """Return ``draw(backbone, shots, seed) → (task with validation images, X_test, y_test)``."""

    @cache
    def features(backbone: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = load_features(shared / "data/whu-rs19/features" / f"clip-{backbone}.safetensors")
        X = found.image_features / np.linalg.norm(found.image_features, axis=1, keepdims=True)
        assert found.labels is not None and found.class_embeddings is not None
        return X, found.labels, found.class_embeddings

    def draw(backbone: str, shots: int, seed: int) -> Draw:
        X, y, text = features(backbone)
        rng = np.random.RandomState(seed)
        drawn = [rng.permutation(np.flatnonzero(y == c)) for c in range(19)]
        support = np.concatenate([rows[:shots] for rows in drawn])
        validation = np.concatenate([rows[16 : 16 + min(shots, 4)] for rows in drawn])
        test = np.setdiff1d(np.arange(len(y)), np.concatenate([rows[:20] for rows in drawn]))
        assert len(test) == 625
        task = FewShotTask(
            X[support], y[support], X[validation], y[validation], class_embeddings=text
        )
        return task, X[test], y[test]

    return draw
