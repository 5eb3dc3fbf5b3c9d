"""Calibration errors and scoring rules against implementations of their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from handful.evaluation.calibration import (
    adaptive_calibration_error,
    brier_score,
    calibration_error,
    classwise_calibration_error,
    negative_log_likelihood,
    reliability,
)


def reference(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Bin by bin, as the sum in the paper is written: bin b is ((b − 1)/bins, b/bins]."""
    confidence = probabilities.max(axis=1)
    right = np.array([row.tolist().index(row.max()) for row in probabilities]) == labels
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rows, classes = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    weights = draw(
        st.lists(
            st.lists(st.integers(1, 1000), min_size=classes, max_size=classes),
            min_size=rows,
            max_size=rows,
        )
    )
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    probabilities = np.array(weights, dtype=float)
    return probabilities / probabilities.sum(axis=1, keepdims=True), np.array(labels)


@settings(deadline=None)
@given(predictions(), st.integers(1, 20))
def test_equals_the_sum_over_bins(prediction: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    probabilities, labels = prediction
    # A confidence on the edge of a bin may be rounded into either.
    place = probabilities.max(axis=1) * bins
    assume((np.abs(place - np.round(place)) > 1e-9).all())
    found = calibration_error(probabilities, labels, bins)
    assert found == pytest.approx(reference(probabilities, labels, bins), abs=1e-12)
    assert 0 <= found <= 1


def test_certain_and_right_is_perfect_certain_and_wrong_is_worst() -> None:
    certain = np.eye(3)[[0, 1, 2, 0]]
    assert calibration_error(certain, np.array([0, 1, 2, 0])) == 0
    assert calibration_error(certain, np.array([1, 2, 0, 1])) == 1


def test_frequencies_that_match_are_calibrated() -> None:
    """80 % confident, and right 8 times in 10."""
    probabilities = np.tile([0.8, 0.2], (10, 1))
    assert calibration_error(probabilities, np.array([0] * 8 + [1] * 2)) == pytest.approx(0)
    assert calibration_error(probabilities, np.array([0] * 5 + [1] * 5)) == pytest.approx(0.3)


def test_bins_include_their_right_ends() -> None:
    """0.6 and 0.75 share the bin (0.5, 0.75], so that one right and one wrong even out there."""
    mixed = np.array([[0.6, 0.4], [0.75, 0.25]])
    assert calibration_error(mixed, np.array([0, 1]), 4) == pytest.approx(0.675 - 0.5)


def test_certainty_lies_in_the_last_bin() -> None:
    mixed = np.array([[1.0, 0.0], [0.97, 0.03]])
    assert calibration_error(mixed, np.array([0, 1]), 10) == pytest.approx(abs(0.5 - 1.97 / 2))


@settings(deadline=None)
@given(predictions(), st.integers(1, 20))
def test_adaptive_equals_the_sum_over_runs_of_equal_length(prediction, bins: int) -> None:
    """Nixon et al.: image i of the sorted ones lies in bin ⌊i · bins / n⌋."""
    probabilities, labels = prediction
    n = len(labels)
    rows = sorted(range(n), key=lambda i: probabilities[i].max())
    total, sizes = 0.0, []
    for b in range(bins):
        inside = [row for i, row in enumerate(rows) if b <= i * bins / n < b + 1]
        sizes.append(len(inside))
        sure = sum(probabilities[row].max() for row in inside)
        right = sum(probabilities[row].argmax() == labels[row] for row in inside)
        total += abs(right - sure) / n
    assert max(sizes) - min(sizes) <= 1
    found = adaptive_calibration_error(probabilities, labels, bins)
    assert found == pytest.approx(total, abs=1e-12)


@settings(deadline=None)
@given(predictions(), st.integers(1, 20))
def test_classwise_equals_the_mean_over_classes(prediction, bins: int) -> None:
    """Kull et al.: each column is the forecast of a yes or no."""
    probabilities, labels = prediction
    place = probabilities * bins
    assume((np.abs(place - np.round(place)) > 1e-9).all())
    total = 0.0
    for c in range(probabilities.shape[1]):
        for b in range(bins):
            inside = (probabilities[:, c] > b / bins) & (probabilities[:, c] <= (b + 1) / bins)
            if inside.any():
                off = (labels[inside] == c).mean() - probabilities[inside, c].mean()
                total += inside.mean() * abs(off)
    found = classwise_calibration_error(probabilities, labels, bins)
    assert found == pytest.approx(total / probabilities.shape[1], abs=1e-12)


@settings(deadline=None)
@given(predictions())
def test_scores_are_those_of_scikit_learn(prediction) -> None:
    from sklearn.metrics import brier_score_loss, log_loss

    probabilities, labels = prediction
    classes = list(range(probabilities.shape[1]))
    theirs = log_loss(labels, probabilities, labels=classes)
    assert negative_log_likelihood(probabilities, labels) == pytest.approx(theirs)
    written_out = np.mean(
        [
            sum((p - (c == y)) ** 2 for c, p in enumerate(row))
            for row, y in zip(probabilities, labels, strict=True)
        ]
    )
    assert brier_score(probabilities, labels) == pytest.approx(written_out)
    if len(classes) == 2:
        one = brier_score_loss(labels, probabilities[:, 1], pos_label=1, labels=[0, 1])
        assert brier_score(probabilities, labels) == pytest.approx(2 * one)


def test_scores_at_their_ends() -> None:
    certain = np.eye(3)[[0, 1, 2, 0]]
    right, wrong = np.array([0, 1, 2, 0]), np.array([1, 2, 0, 1])
    for error in (adaptive_calibration_error, classwise_calibration_error, brier_score):
        assert error(certain, right) == 0
    assert negative_log_likelihood(certain, right) == 0
    assert adaptive_calibration_error(certain, wrong) == 1
    assert classwise_calibration_error(certain, wrong) == pytest.approx(8 / 4 / 3)
    assert brier_score(certain, wrong) == 2
    assert negative_log_likelihood(certain, wrong) == pytest.approx(12 * np.log(10))


@settings(deadline=None)
@given(predictions(), st.integers(1, 20))
def test_the_bins_of_the_diagram_add_up_to_the_error(prediction, bins: int) -> None:
    probabilities, labels = prediction
    found = reliability(probabilities, labels, bins)
    assert sum(one.n for one in found) == len(labels)
    assert all(one.n > 0 for one in found)
    assert [one.confidence for one in found] == sorted(one.confidence for one in found)
    total = sum(one.n * abs(one.confidence - one.accuracy) for one in found) / len(labels)
    assert total == pytest.approx(calibration_error(probabilities, labels, bins))
    right = sum(one.n * one.accuracy for one in found)
    assert right == pytest.approx((probabilities.argmax(axis=1) == labels).sum())
