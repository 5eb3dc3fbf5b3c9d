"""Real CLIP features of satellite images, split as in the protocol of the published figures, and
what the published code returns on some of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from oracles import Oracle, OracleInputs
from safetensors.torch import load_file
from torch import Tensor

from handful import FewShotTask, load_features
from handful.functional.normalise import unit

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


@pytest.fixture(scope="session")
def oracle(shared: Path) -> Oracle:
    """Return ``oracle(name) → tensors``: what the published code of a method returns."""

    @cache
    def tensors(name: str) -> dict[str, Tensor]:
        return load_file(shared / "data/oracles" / f"{name}.safetensors")

    return tensors


@pytest.fixture(scope="session")
def oracle_inputs(shared: Path, oracle: Oracle) -> OracleInputs:
    """Built afresh from the rule that the oracles state, and compared with their row numbers."""
    data = load_file(shared / "data/whu-rs19/features/clip-vit-b-32.safetensors")
    x, y = unit(data["image_features"].float()), data["labels"]
    rng = np.random.RandomState(1)
    drawn = [rng.permutation(np.flatnonzero(y.numpy() == c)) for c in range(19)]
    support = np.concatenate([rows[:4] for rows in drawn])
    test = np.setdiff1d(np.arange(len(y)), np.concatenate([rows[:20] for rows in drawn]))
    for name in ("tip_adapter", "clip_adapter"):
        np.testing.assert_array_equal(oracle(name)["support_index"], support)
        np.testing.assert_array_equal(oracle(name)["query_index"], test[:40])
    prompts = unit(data["text_features"][:16].float()).swapaxes(0, 1).contiguous()
    text = unit(data["text_features_average"].float())
    return OracleInputs(x[support], y[support], x[test[:40]], text, prompts)
