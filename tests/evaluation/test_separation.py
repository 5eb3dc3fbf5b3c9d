"""AUROC and false positive rate against scikit-learn and the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score, roc_curve

from handful.evaluation.separation import auroc, false_positive_rate

# Few different values, so that many are equal.
SCORES = st.integers(1, 25).flatmap(lambda n: arrays(np.float64, n, elements=st.integers(-3, 3)))


@given(SCORES, SCORES)
def test_auroc_is_that_of_scikit_learn_and_of_the_pairs(
    known: np.ndarray, unknown: np.ndarray
) -> None:
    truth = np.repeat([1, 0], [len(known), len(unknown)])
    found = auroc(known, unknown)
    assert found == pytest.approx(roc_auc_score(truth, np.concatenate([known, unknown])))
    pairs = [(k > u) + (k == u) / 2 for k in known for u in unknown]
    assert found == pytest.approx(np.mean(pairs))


@given(SCORES, SCORES, st.sampled_from([0.07, 0.5, 0.8, 0.95, 1.0]))
def test_false_positive_rate_is_the_least_that_a_threshold_allows(
    known: np.ndarray, unknown: np.ndarray, at: float
) -> None:
    rates = [
        (unknown >= threshold).mean()
        for threshold in known
        if (known >= threshold).mean() >= at - 1e-12
    ]
    assert false_positive_rate(known, unknown, at) == min(rates)


def test_false_positive_rate_lies_on_the_curve_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(1, 1, 300), rng.normal(0, 1, 200)
    false, true, _ = roc_curve(
        np.repeat([1, 0], [300, 200]), np.concatenate([known, unknown]), drop_intermediate=False
    )
    assert false_positive_rate(known, unknown) == pytest.approx(false[true >= 0.95].min())


def test_decimals_ask_for_no_image_more() -> None:
    """0.07 · 100 is 7.000000000000001 in binary; seven of a hundred are enough."""
    known = np.arange(100.0)
    assert false_positive_rate(known, np.array([92.5, 93.0]), 0.07) == 0.5


@pytest.mark.parametrize("of", [auroc, false_positive_rate])
def test_no_images_are_refused(of: object) -> None:
    assert callable(of)
    with pytest.raises(ValueError, match="no images"):
        of(np.array([]), np.array([1.0]))
    with pytest.raises(ValueError, match="no images"):
        of(np.array([1.0]), np.array([]))
