"""The head that people get who name none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from handful.methods.best import Best
from handful.methods.nearest_class_mean import NearestClassMean
from handful.methods.zero_shot import ZeroShot

Whu = Callable[..., Any]
BACKBONES = ("rn50", "vit-b-32", "vit-l-14")


def test_it_is_one_linear_classifier_of_unit_features(whu: Whu) -> None:
    task, X, _ = whu("vit-b-32", 4, 1)
    head = Best(task.class_embeddings).fit(task.X, task.y)
    assert head.weight_.shape == (19, 512)
    expected = X.astype(np.float64) @ head.weight_.astype(np.float64).T + head.bias_
    np.testing.assert_allclose(head.logits(X), expected, rtol=1e-5, atol=1e-4)


def test_at_one_shot_the_third_opinion_speaks_alone(whu: Whu) -> None:
    task, _, _ = whu("vit-b-32", 1, 1)
    head = Best(task.class_embeddings).fit(task.X, task.y)
    np.testing.assert_array_equal(head.mixture_, [0, 0, 1, 0])


def test_a_large_penalty_at_one_shot_is_zero_shot(whu: Whu) -> None:
    """Nothing is added to the names then, whatever their scale."""
    task, X, _ = whu("vit-b-32", 1, 1)
    head = Best(task.class_embeddings, penalty=1e9).fit(task.X, task.y)
    names = ZeroShot(task.class_embeddings).fit(task.X, task.y)
    scale = head.text_scale_ / names.logit_scale
    np.testing.assert_allclose(head.logits(X), scale * names.logits(X), atol=1e-3)


@pytest.mark.parametrize("shots", [1, 4])
def test_names_that_say_nothing_are_not_listened_to(whu: Whu, shots: int) -> None:
    """The names of other classes: what product codes are to a text tower."""
    for backbone in BACKBONES:
        task, X, y = whu(backbone, shots, 1)
        codes = np.roll(task.class_embeddings, 7, axis=0)
        head = Best(codes).fit(task.X, task.y)
        images = NearestClassMean().fit(task.X, task.y)
        assert head.text_scale_ < 0.1 * head.logit_scale
        # Two standard errors of a difference between two classifiers of 625 images.
        assert head.score(X, y) > images.score(X, y) - 0.03


def test_good_names_are(whu: Whu) -> None:
    task, _, _ = whu("vit-l-14", 4, 1)
    assert Best(task.class_embeddings).fit(task.X, task.y).text_scale_ > 50


@pytest.mark.parametrize("backbone", BACKBONES)
def test_never_below_zero_shot_or_the_class_means(whu: Whu, backbone: str) -> None:
    """In no cell by more than two standard errors, over three draws of the shots."""
    for shots in (1, 2, 4, 8, 16):
        gains = []
        for seed in (1, 2, 3):
            task, X, y = whu(backbone, shots, seed)
            ours = Best(task.class_embeddings).fit(task.X, task.y).predict(X) == y
            for rival in (ZeroShot(task.class_embeddings), NearestClassMean()):
                theirs = rival.fit(task.X, task.y).predict(X) == y
                difference = ours.astype(float) - theirs
                gains.append(difference.mean() / max(difference.std(), 1e-9) * 25)
        assert min(gains) > -2, (shots, gains)


def test_mean_of_the_protocol(whu: Whu) -> None:
    """The goal set for the default: 95.0 on average over encoders and shots, without validation.

    The best published method reaches 95.1 there with its ratio chosen on validation images.
    """
    found = []
    for backbone in BACKBONES:
        for shots in (1, 2, 4, 8, 16):
            for seed in (1, 2, 3):
                task, X, y = whu(backbone, shots, seed)
                found.append(Best(task.class_embeddings).fit(task.X, task.y).score(X, y))
    assert 100 * np.mean(found) >= 95.0


def test_one_image_in_one_class_and_many_in_another(whu: Whu) -> None:
    task, X, y = whu("vit-b-32", 16, 1)
    rows = np.concatenate([np.flatnonzero(task.y == c)[: 1 if c % 2 else 16] for c in range(19)])
    head = Best(task.class_embeddings).fit(task.X[rows], task.y[rows])
    names = ZeroShot(task.class_embeddings).fit(task.X[rows], task.y[rows])
    assert head.score(X, y) > names.score(X, y)
