"""Probabilities under another prior, against Bayes' rule done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from handful.evaluation.priors import estimate_prior, with_prior

SHARES = arrays.arrays(np.float64, 4, elements=st.floats(0.01, 1))
ROWS = arrays.arrays(np.float64, (5, 4), elements=st.floats(0.001, 1))


def rows(values: np.ndarray) -> np.ndarray:
    return values / values.sum(axis=1, keepdims=True)


def gaussians(prior: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and likelihoods p(x | c) of three Gaussians on a line."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=n, p=prior)
    x = rng.normal(size=n) + 1.5 * labels
    return labels, np.exp(-((x[:, None] - 1.5 * np.arange(3)) ** 2) / 2)


def test_it_is_bayes_rule() -> None:
    old, new = np.array([0.6, 0.3, 0.1]), np.array([0.1, 0.1, 0.8])
    _, likelihood = gaussians(old, 200, 0)
    np.testing.assert_allclose(
        with_prior(rows(likelihood * old), old, new), rows(likelihood * new), rtol=1e-12
    )


@given(ROWS, SHARES, SHARES)
def test_there_and_back(values: np.ndarray, old: np.ndarray, new: np.ndarray) -> None:
    before = rows(values)
    after = with_prior(before, old, new)
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(with_prior(after, new, old), before, rtol=1e-9)
    np.testing.assert_allclose(with_prior(before, old, 7 * old), before, rtol=1e-12)


def test_a_class_that_does_not_occur_has_no_probability() -> None:
    found = with_prior(np.full((2, 3), 1 / 3), np.ones(3), np.array([0, 1, 3]))
    np.testing.assert_allclose(found, [[0, 0.25, 0.75]] * 2)


def test_a_row_without_any_of_the_classes_left_becomes_the_prior() -> None:
    found = with_prior(np.array([[1.0, 0.0, 0.0]]), np.ones(3), np.array([0, 1, 3]))
    np.testing.assert_allclose(found, [[0, 0.25, 0.75]])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ([0, 1, 1], [1, 1, 1], "old prior is 0"),
        ([1, 1], [1, 1, 1], "old prior has shape"),
        ([1, 1, 1], [1, 1, 1, 1], "new prior has shape"),
        ([1, 1, 1], [0, 0, 0], "new prior is"),
        ([1, 1, 1], [1, -1, 1], "new prior is"),
        ([1, np.nan, 1], [1, 1, 1], "old prior is"),
    ],
)
def test_what_is_no_prior_is_refused(old: list[float], new: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_prior(np.full((1, 3), 1 / 3), np.array(old), np.array(new))


def test_the_prior_of_unlabelled_images_is_found() -> None:
    """Within what 20,000 draws allow: shares have a standard error below 0.004, and are read
    through Gaussians 1.5 apart, which costs a factor of less than 3."""
    old, new = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
    _, likelihood = gaussians(new, 20_000, 1)
    found = estimate_prior(rows(likelihood * old), old)
    np.testing.assert_allclose(found, new, atol=0.03)
    assert found.sum() == pytest.approx(1)


def test_the_estimate_is_the_likeliest_prior() -> None:
    old, new = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    _, likelihood = gaussians(new, 300, 2)
    p = rows(likelihood * old)
    found = estimate_prior(p, old)

    def score(prior: np.ndarray) -> float:
        return float(np.log((p / old) @ prior).sum())

    grid = [np.array([a, b, 100 - a - b]) / 100 for a in range(101) for b in range(101 - a)]
    assert score(found) >= max(map(score, grid))


def test_no_image_has_no_prior() -> None:
    with pytest.raises(ValueError, match="no images"):
        estimate_prior(np.empty((0, 3)), np.ones(3))
