"""Accuracy on real CLIP features of satellite images, against measurements of the published code.

The protocol and the figures are in reference/anchors.md of the shared data: 19 classes, k support
images and min(k, 4) validation images per class, 625 test images, seeds 1, 2, 3; settings are
chosen on the validation images alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from two_spaces import as_taken, task_as_taken

from handful import load_features, methods, select
from handful.methods.clip_adapter import ClipAdapter
from handful.methods.zero_shot import ZeroShot

Whu = Callable[..., Any]


@pytest.mark.parametrize(
    ("backbone", "published"), [("rn50", 70.7), ("vit-b-32", 80.9), ("vit-l-14", 85.0)]
)
def test_zero_shot_on_the_test_rows(whu: Whu, backbone: str, published: float) -> None:
    found = []
    for seed in (1, 2, 3):
        task, X_test, y_test = whu(backbone, 1, seed)
        head = ZeroShot(**task.head_arguments()).fit(task.X, task.y)
        found.append(100 * head.score(X_test, y_test))
    assert np.mean(found) == pytest.approx(published, abs=0.1)


@pytest.mark.parametrize(
    ("backbone", "published"), [("rn50", 71.5), ("vit-b-32", 81.3), ("vit-l-14", 85.5)]
)
def test_zero_shot_on_all_rows(shared: Path, backbone: str, published: float) -> None:
    """After normalising again, as the description of the features files states it."""
    f = load_features(shared / "data/whu-rs19/features" / f"clip-{backbone}.safetensors")
    head = ZeroShot(f.class_embeddings).fit(f.image_features, f.labels)
    found = 100 * head.score(f.image_features, f.labels)
    assert found == pytest.approx(published, abs=0.1)


# Test accuracy of the published code, ViT-B/32: Tip-Adapter (searched), linear probe (CoOp's
# search).
ANCHORS = {
    "tip-adapter": {1: 88.1, 4: 92.4, 16: 94.5},
    "linear-probe": {1: 81.2, 4: 93.6, 16: 96.4},
}


@pytest.mark.parametrize("shots", [1, 4, 16])
@pytest.mark.parametrize("name", ANCHORS)
def test_selected_heads_reach_the_published_accuracy(whu: Whu, name: str, shots: int) -> None:
    """Mean of three seeds, less one point of noise."""
    found = []
    for seed in (1, 2, 3):
        task, X_test, y_test = whu("vit-b-32", shots, seed)
        found.append(100 * select(name, task, "val").score(X_test, y_test))
    assert np.mean(found) >= ANCHORS[name][shots] - 1


def test_clip_adapter_as_it_comes_improves_on_zero_shot(whu: Whu) -> None:
    """Four shots, no selection. The published code with a chosen ratio reaches 95.0; at the fixed
    ratio of 0.2 more than 5 points over the 80.9 of zero-shot can be asked for."""
    task, X_test, y_test = whu("vit-b-32", 4, 1)
    head = ClipAdapter(**task.head_arguments()).fit(task.X, task.y)
    zero_shot = ZeroShot(**task.head_arguments()).fit(task.X, task.y)
    assert head.score(X_test, y_test) > zero_shot.score(X_test, y_test) + 0.05


@pytest.mark.parametrize("name", [n for n in methods.names() if n != "zero-shot"])
def test_every_method_gains_from_four_shots(whu: Whu, name: str) -> None:
    """Documented defaults, one seed; a method that does not beat zero-shot here is broken."""
    task, X_test, y_test = whu("vit-b-32", 4, 2)
    zero_shot = ZeroShot(**task.head_arguments()).fit(task.X, task.y)
    head = select(name, task_as_taken(name, task), "fixed")
    assert head.score(as_taken(name, X_test), y_test) > zero_shot.score(X_test, y_test)
