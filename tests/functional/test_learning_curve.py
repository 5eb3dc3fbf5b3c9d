"""Accuracy and discriminability, and the curve that carries an accuracy to more shots."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from handful.functional.learning_curve import accuracy_at, accuracy_of, discriminability

CLASSES = st.integers(2, 1000)


@settings(deadline=None)
@given(CLASSES)
def test_without_discriminability_accuracy_is_chance(n_classes: int) -> None:
    assert accuracy_of(0, n_classes) == pytest.approx(1 / n_classes, rel=1e-6)


@settings(deadline=None)
@given(st.floats(0, 6), st.floats(0.01, 1), CLASSES)
def test_accuracy_grows_with_discriminability(d: float, more: float, n_classes: int) -> None:
    assert accuracy_of(d, n_classes) < accuracy_of(d + more, n_classes) <= 1 + 1e-12


@settings(deadline=None)
@given(st.floats(0.01, 6), CLASSES)
def test_discriminability_is_the_inverse(d: float, n_classes: int) -> None:
    assert discriminability(accuracy_of(d, n_classes), n_classes) == pytest.approx(d, abs=1e-4)


def test_chance_and_below_have_no_discriminability() -> None:
    assert discriminability(0.25, 4) == pytest.approx(0, abs=1e-6)
    assert discriminability(0.1, 4) == 0


@pytest.mark.parametrize(("d", "n_classes"), [(0.5, 2), (1.5, 9), (2.5, 19), (3.0, 196)])
def test_accuracy_is_that_of_a_forced_choice(d: float, n_classes: int) -> None:
    """200,000 trials: 4 standard errors are at most 0.45 points."""
    scores = np.random.default_rng(0).standard_normal((200_000, n_classes), dtype=np.float32)
    scores[:, 0] += d
    simulated = float((scores.argmax(axis=1) == 0).mean())
    error = math.sqrt(simulated * (1 - simulated) / len(scores))
    assert accuracy_of(d, n_classes) == pytest.approx(simulated, abs=4 * error)


SHOTS = st.floats(0.5, 16)


@settings(deadline=None)
@given(SHOTS, st.floats(0.01, 0.999), st.floats(0, 0.99), CLASSES)
def test_equal_shots_change_nothing(
    shots: float, measured: float, at_zero: float, n_classes: int
) -> None:
    found = accuracy_at(shots, measured, shots, at_zero, n_classes)
    assert found == pytest.approx(measured, abs=1e-6)


@settings(deadline=None)
@given(SHOTS, st.floats(0, 16), st.floats(0, 16), *[st.floats(0, 1)] * 2, CLASSES)
def test_more_shots_are_never_worse(
    shots: float, more: float, still_more: float, measured: float, at_zero: float, n_classes: int
) -> None:
    fewer = accuracy_at(shots + more, measured, shots, at_zero, n_classes)
    found = accuracy_at(shots + more + still_more, measured, shots, at_zero, n_classes)
    assert measured - 1e-6 <= fewer <= found + 1e-6 <= 1 + 2e-6


@settings(deadline=None)
@given(
    limit=st.floats(1.5, 4),
    text_shots=st.floats(0.05, 20),
    shots=st.integers(1, 8),
    more=st.integers(1, 8),
    n_classes=st.integers(2, 200),
)
def test_text_that_is_worth_some_shots_is_found_again(
    limit: float, text_shots: float, shots: int, more: int, n_classes: int
) -> None:
    """The curve is put in and must come out: d'² = limit² · (m + m₀) / (m + m₀ + 1)."""

    def truth(m: float) -> float:
        return accuracy_of(limit * math.sqrt((m + text_shots) / (m + text_shots + 1)), n_classes)

    found = accuracy_at(shots + more, truth(shots), shots, truth(0), n_classes)
    assert found == pytest.approx(truth(shots + more), abs=1e-4)


def test_images_that_do_not_help_promise_nothing() -> None:
    assert accuracy_at(16, 0.6, 2, at_zero=0.7, n_classes=10) == 0.6
    assert accuracy_at(16, 1.0, 2, at_zero=0.7, n_classes=10) == 1.0
    assert accuracy_at(16, 0.1, 2, at_zero=0.1, n_classes=10) == 0.1


def nearest_mean_accuracy(
    classes: int, width: int, noise: float, shots: int, rng: np.random.Generator, draws: int
) -> float:
    """Accuracy of the nearest class mean on Gaussian classes with centres of spread 1."""
    right = []
    truth = np.repeat(np.arange(classes), 20)
    for _ in range(draws):
        centres = rng.normal(0, 1, (classes, width))
        means = centres + rng.normal(0, noise / math.sqrt(shots), centres.shape)
        images = centres[truth] + rng.normal(0, noise, (len(truth), width))
        distance = (means**2).sum(axis=1) - 2 * images @ means.T
        right.append(float((distance.argmin(axis=1) == truth).mean()))
    return float(np.mean(right))


@pytest.mark.parametrize(("classes", "width"), [(10, 4), (20, 8)])
def test_carries_two_shots_to_sixteen_where_the_noise_has_few_directions(
    classes: int, width: int
) -> None:
    """Within 3 points: the standard error of each simulated figure is below 0.7, and the curve
    leaves out that the noise of an image and that of a mean multiply, and that classes differ."""
    rng = np.random.default_rng(0)
    two = nearest_mean_accuracy(classes, width, 0.5, 2, rng, 300)
    for shots in (4, 8, 16):
        truth = nearest_mean_accuracy(classes, width, 0.5, shots, rng, 300)
        assert accuracy_at(shots, two, 2, 1 / classes, classes) == pytest.approx(truth, abs=0.03)


def test_is_cautious_where_the_noise_fills_a_high_dimension() -> None:
    """There the product of the two noises dominates and images help more than the curve says:
    the promise lies between what was measured and the truth."""
    rng = np.random.default_rng(0)
    two = nearest_mean_accuracy(20, 512, 4.0, 2, rng, 20)
    four = nearest_mean_accuracy(20, 512, 4.0, 4, rng, 20)
    assert two < accuracy_at(4, two, 2, 1 / 20, 20) < four


@pytest.mark.parametrize("backbone", ["rn50", "vit-b-32", "vit-l-14"])
def test_carries_real_features_of_satellite_images(shared: Path, backbone: str) -> None:
    """Doubling the shots of the nearest class mean: within 3 points, 5 draws.

    Of 625 test images one standard error is up to 1.5 points at 85 %, and both ends are drawn.
    """
    data = load_file(shared / "data/whu-rs19/features" / f"clip-{backbone}.safetensors")
    features, labels = data["image_features"].astype(np.float64), data["labels"]
    accuracy: dict[int, list[float]] = {shots: [] for shots in (1, 2, 4, 8, 16)}
    for seed in range(1, 6):
        rng = np.random.RandomState(seed)
        drawn = [rng.permutation(np.flatnonzero(labels == c)) for c in range(19)]
        test = np.setdiff1d(np.arange(len(labels)), np.concatenate([d[:20] for d in drawn]))
        for shots, found in accuracy.items():
            means = np.stack([features[d[:shots]].mean(axis=0) for d in drawn])
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            found.append(float(((features[test] @ means.T).argmax(1) == labels[test]).mean()))
    for shots in (1, 2, 4, 8):
        measured, truth = np.mean(accuracy[shots]), np.mean(accuracy[2 * shots])
        found = accuracy_at(2 * shots, float(measured), shots, 1 / 19, 19)
        assert found == pytest.approx(truth, abs=0.03), (shots, measured, truth)
