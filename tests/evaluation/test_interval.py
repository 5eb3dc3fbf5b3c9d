"""The interval around an accuracy: its equation, its ends, its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from handful.evaluation.interval import accuracy_interval


@settings(deadline=None)
@given(st.integers(2, 500), st.data(), st.sampled_from([0.5, 0.9, 0.95]))
def test_is_jeffreys_between_the_ends(images: int, data: st.DataObject, level: float) -> None:
    right = data.draw(st.integers(1, images - 1))
    low, high = accuracy_interval(right / images, images, level)
    expected = beta(right + 0.5, images - right + 0.5).interval(level)
    assert (low, high) == pytest.approx(expected)
    assert 0 < low < right / images < high < 1


@pytest.mark.parametrize("images", [1, 5, 100])
def test_all_wrong_and_all_right_reach_the_end(images: int) -> None:
    low, high = accuracy_interval(0.0, images)
    assert low == 0 and high == pytest.approx(beta.ppf(0.95, 0.5, images + 0.5))
    low, high = accuracy_interval(1.0, images)
    assert high == 1 and low == pytest.approx(beta.ppf(0.05, images + 0.5, 0.5))


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0.5, 300), st.floats(1.1, 5))
def test_more_images_make_it_narrower_and_more_certainty_wider(
    accuracy: float, images: float, factor: float
) -> None:
    """Also for counts that are not whole."""
    low, high = accuracy_interval(accuracy, images, 0.9)
    assert 0 <= low <= high <= 1
    narrow_low, narrow_high = accuracy_interval(accuracy, images * factor, 0.9)
    wide_low, wide_high = accuracy_interval(accuracy, images, 0.99)
    assert narrow_high - narrow_low < high - low + 1e-9
    assert wide_low <= low + 1e-9 and wide_high >= high - 1e-9


@pytest.mark.parametrize("images", [10, 20, 40, 76, 150])
def test_holds_the_truth_about_as_often_as_it_says(images: int) -> None:
    """Exact coverage of the 90 % interval, summed over all outcomes.

    Jeffreys' prior is the one under which it is 90 % on average; closing the interval at 0 and 1
    adds a little. At single accuracies it swings about that, because counts are whole.
    """
    low, high = np.array([accuracy_interval(k / images, images) for k in range(images + 1)]).T

    def coverage(truth: float) -> float:
        held = (low <= truth) & (truth <= high)
        return float(binom.pmf(np.arange(images + 1), images, truth)[held].sum())

    by_prior = beta.ppf((np.arange(2000) + 0.5) / 2000, 0.5, 0.5)
    assert 0.895 < np.mean([coverage(p) for p in by_prior]) < 0.95
    usual = [coverage(p) for p in np.linspace(0.5, 0.98, 97)]
    assert min(usual) > 0.75
    assert np.mean(usual) == pytest.approx(0.9, abs=0.02)
