"""Temperature and vector scaling against scikit-learn, scipy, and what must hold."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax as scipy_log_softmax

from handful.functional.temperature import (
    fit_temperature,
    fit_vector_scaling,
    log_softmax,
    rescale,
)


def drawn(seed: int, images: int = 60, classes: int = 5, sharp: float = 3.0):
    """Logits whose softmax at temperature ``sharp`` gives the labels."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(images, classes)) * 2
    gumbel = rng.gumbel(size=true.shape)
    return true * sharp, (true + gumbel).argmax(axis=1)


def mean_loss(logits, labels, weights=None) -> float:
    each = -scipy_log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return float(np.average(each, weights=weights))


def by_scipy(logits, labels, weights=None) -> float:
    """The same minimum, searched on log T without derivatives."""
    found = minimize_scalar(
        lambda t: mean_loss(logits / np.exp(t), labels, weights),
        bounds=(-6, 6),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(np.exp(found.x))


seeds = st.integers(0, 10_000)


@settings(deadline=None, max_examples=30)
@given(seeds, st.booleans())
def test_is_the_minimum(seed: int, weighted: bool) -> None:
    logits, labels = drawn(seed)
    weights = np.random.default_rng(seed).uniform(0.1, 3, len(labels)) if weighted else None
    found = fit_temperature(logits, labels, weights)
    assert found == pytest.approx(by_scipy(logits, labels, weights), rel=1e-5)


def test_is_that_of_scikit_learn() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    if not hasattr(calibration, "_TemperatureScaling"):
        pytest.skip("this scikit-learn has no temperature scaling")
    for seed in range(5):
        logits, labels = drawn(seed, images=200, sharp=0.5 + seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = calibration._TemperatureScaling().fit(logits, labels)
        assert fit_temperature(logits, labels) == pytest.approx(1 / theirs.beta_, rel=1e-4)


def test_finds_the_temperature_that_the_labels_were_drawn_at() -> None:
    logits, labels = drawn(0, images=20_000, sharp=3.0)
    assert fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.03)


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(1e-3, 1e3), st.floats(-50, 50))
def test_scales_with_the_logits_and_does_not_see_a_shift(seed, factor, shift) -> None:
    logits, labels = drawn(seed)
    found = fit_temperature(logits, labels, None, 0.5)
    assert fit_temperature(logits * factor, labels, None, 0.5) == pytest.approx(found * factor)
    shifted = logits + shift * np.arange(len(labels))[:, None]
    assert fit_temperature(shifted, labels, None, 0.5) == pytest.approx(found, rel=1e-5)


def test_a_weight_of_two_is_the_image_twice() -> None:
    logits, labels = drawn(1)
    weights = np.where(np.arange(len(labels)) < 20, 2.0, 1.0)
    twice = np.concatenate([np.arange(len(labels)), np.arange(20)])
    for pseudo in (0.0, 0.5):
        assert fit_temperature(logits, labels, weights, pseudo) == pytest.approx(
            fit_temperature(logits[twice], labels[twice], None, pseudo)
        )


def test_pseudo_errors_are_images_labelled_with_the_runner_up() -> None:
    """Images written out: one and a half, spread over all, labelled with the best other class."""
    logits, labels = drawn(2)
    n = len(labels)
    others = np.array(
        [
            max((z, c) for c, z in enumerate(row) if c != y)[1]
            for row, y in zip(logits, labels, strict=True)
        ]
    )
    weights = np.concatenate([np.full(n, 1 - 1.5 / (n + 1.5)), np.full(n, 1.5 / (n + 1.5))])
    both = np.concatenate([logits, logits]), np.concatenate([labels, others])
    assert fit_temperature(logits, labels, None, 1.5) == pytest.approx(
        by_scipy(*both, weights), rel=1e-5
    )


def test_all_right_ends_far_out_and_a_pseudo_error_keeps_it_sensible() -> None:
    logits = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.5, 4.0]])
    labels = np.array([0, 1, 2])
    plain = fit_temperature(logits, labels)
    assert np.isfinite(plain) and 0 < plain < 0.05
    kept = fit_temperature(logits, labels, None, 0.5)
    confidence = np.exp(log_softmax(logits / kept)).max(axis=1).mean()
    assert 3 / 4 < confidence < 1  # (n + ½) / (n + 1) is 0.875
    assert fit_temperature(logits, (labels + 2) % 3) > 100  # worse than chance


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_equal_logits_have_no_temperature(value: float) -> None:
    assert fit_temperature(np.full((4, 3), value), np.array([0, 1, 2, 0])) == 1


def test_refuses_what_has_no_answer() -> None:
    with pytest.raises(ValueError, match="images"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int))
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.array([[np.inf, 0.0]]), np.array([0]))
    with pytest.raises(ValueError, match="penalty"):
        fit_vector_scaling(*drawn(0), penalty=0)


# -- vector scaling --------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [0.3, 1.0, 20.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_vector_scaling_is_the_minimum_of_what_it_says(penalty: float, weighted: bool) -> None:
    logits, labels = drawn(3, images=40, classes=4)
    logits[:, 1] += 2  # a class that is answered too often
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2, len(labels)) if weighted else np.ones(len(labels))
    temperature = fit_temperature(logits, labels, weights)
    centred = logits - logits.mean(axis=1, keepdims=True)

    def loss(parameters: np.ndarray) -> float:
        scale, bias = parameters[:4], parameters[4:]
        each = -scipy_log_softmax(centred * scale + bias, axis=1)[np.arange(len(labels)), labels]
        prior = ((temperature * scale - 1) ** 2).sum() + (bias**2).sum()
        return float((weights * each).sum() + penalty / 2 * prior)

    start = np.concatenate([np.full(4, 1 / temperature), np.zeros(4)])
    theirs = minimize(loss, start, method="Powell", options={"xtol": 1e-8, "ftol": 1e-12}).x
    scale, bias = fit_vector_scaling(logits, labels, weights if weighted else None, penalty)
    assert loss(np.concatenate([scale, bias])) == pytest.approx(loss(theirs), rel=1e-4)
    assert loss(theirs) < loss(start) - 0.05
    assert bias == pytest.approx(theirs[4:], abs=0.05)


def test_a_large_penalty_leaves_temperature_scaling() -> None:
    logits, labels = drawn(4)
    scale, bias = fit_vector_scaling(logits, labels, penalty=1e7)
    assert scale == pytest.approx(1 / fit_temperature(logits, labels), rel=1e-3)
    assert bias == pytest.approx(0, abs=1e-3)


def test_vector_scaling_undoes_a_bias_of_one_class() -> None:
    logits, labels = drawn(5, images=2000, sharp=1.0)
    logits[:, 2] += 1.5
    scale, bias = fit_vector_scaling(logits, labels)
    mended = rescale(logits, scale, bias)
    before = (np.exp(log_softmax(logits))[:, 2].mean(), (labels == 2).mean())
    assert before[0] > before[1] + 0.1
    assert np.exp(log_softmax(mended))[:, 2].mean() == pytest.approx(before[1], abs=0.01)


@settings(deadline=None, max_examples=20)
@given(seeds, st.floats(0.01, 100))
def test_vector_scaling_scales_with_the_logits(seed: int, factor: float) -> None:
    logits, labels = drawn(seed, images=30)
    scale, bias = fit_vector_scaling(logits, labels)
    other_scale, other_bias = fit_vector_scaling(
        logits * factor + 3 * np.arange(len(labels))[:, None], labels
    )
    assert other_scale * factor == pytest.approx(scale, rel=1e-2, abs=1e-2 * np.abs(scale).max())
    assert other_bias == pytest.approx(bias, abs=1e-2)


def test_log_softmax_is_that_of_scipy_even_for_large_logits() -> None:
    logits = np.array([[1e4, 0.0, -1e4], [0.1, 0.2, 0.3]])
    assert log_softmax(logits) == pytest.approx(scipy_log_softmax(logits, axis=1))
