"""Expected calibration error against an implementation of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from handful.evaluation.calibration import calibration_error


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
