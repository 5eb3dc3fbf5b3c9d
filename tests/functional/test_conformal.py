"""Split conformal prediction: ranks, scores and the interval against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.functional.conformal import (
    adaptive,
    coverage_interval,
    finite_sample_quantile,
    images_needed,
    least_ambiguous,
    rank,
)

PERCENT = range(1, 100)


def probabilities(rng: np.random.Generator, rows: int, classes: int) -> np.ndarray:
    return rng.dirichlet(np.full(classes, 0.5), size=rows)


# -- how many images -------------------------------------------------------------------------------


def test_rank_is_rounded_up_of_the_decimal_that_was_asked_for() -> None:
    """In whole numbers: k = ⌈(n + 1)·p / 100⌉. In binary, 100 · 0.07 comes out above 7."""
    assert 100 * 0.07 > 7
    for percent in PERCENT:
        for images in range(301):
            assert rank(images, percent / 100) == -(-(images + 1) * percent // 100)


def test_images_needed_is_the_smallest_number_that_supports_the_coverage() -> None:
    for percent in PERCENT:
        supports = (n for n in range(1000) if -(-(n + 1) * percent // 100) <= n)
        assert images_needed(percent / 100) == next(supports)
    assert [images_needed(c) for c in (0.8, 0.9, 0.95, 0.99)] == [4, 9, 19, 99]


def test_numpy_numbers_are_numbers() -> None:
    assert rank(9, np.float64(0.9)) == 9
    assert images_needed(np.float64(0.9)) == 9


# -- the limit -------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(0, 1), max_size=60),
    st.sampled_from([0.5, 0.8, 0.9, 0.95]),
)
def test_quantile_has_the_rank_among_the_scores(scores: list[float], coverage: float) -> None:
    k = rank(len(scores), coverage)
    expected = sorted(scores)[k - 1] if k <= len(scores) else math.inf
    assert finite_sample_quantile(np.array(scores), coverage) == expected


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("images", [4, 9, 10, 19, 20, 76])
def test_exchangeable_scores_are_covered_exactly(images: int, coverage: float) -> None:
    """Each of n + 1 different scores is the new one equally often: k of them are covered."""
    scores = np.random.default_rng(images).permutation(images + 1)
    covered = [
        scores[new] <= finite_sample_quantile(np.delete(scores, new), coverage)
        for new in range(images + 1)
    ]
    assert sum(covered) == min(rank(images, coverage), images + 1)
    assert np.mean(covered) >= coverage


# -- scores ----------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(2, 6))
def test_scores_are_those_of_the_papers(seed: int, rows: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    p, u = probabilities(rng, rows, classes), rng.random(rows)
    simple, fixed, random = least_ambiguous(p), adaptive(p), adaptive(p, u)
    for i in range(rows):
        for y in range(classes):
            before = sum(p[i, j] for j in range(classes) if p[i, j] > p[i, y])
            assert simple[i, y] == pytest.approx(1 - p[i, y])
            assert fixed[i, y] == pytest.approx(before + p[i, y])
            assert random[i, y] == pytest.approx(before + u[i] * p[i, y])


def test_of_equal_probabilities_the_first_comes_first() -> None:
    found = adaptive(np.array([[0.2, 0.4, 0.4]]))
    np.testing.assert_allclose(found, [[1.0, 0.4, 0.8]])
    weights = np.random.default_rng(0).integers(1, 4, size=300)
    for place, score in enumerate(adaptive(weights[None] / weights.sum())[0]):
        before = weights[weights > weights[place]].sum()
        before += weights[: place + 1][weights[: place + 1] == weights[place]].sum()
        assert score == pytest.approx(before / weights.sum())


def test_scores_keep_the_precision_of_double_numbers() -> None:
    """Whatever the probabilities come in."""
    p = np.array([[0.75, 0.25]], dtype=np.float32)
    assert least_ambiguous(p).dtype == adaptive(p).dtype == np.float64


# -- the interval ----------------------------------------------------------------------------------


def counts(images: int, tested: int, k: int) -> list[float]:
    """P(j of m covered), counted: of all orders of n + m scores, those in which exactly j of the
    new ones lie below the k-th of the others."""
    return [
        math.comb(k - 1 + j, j)
        * math.comb(images - k + tested - j, tested - j)
        / math.comb(images + tested, tested)
        for j in range(tested + 1)
    ]


@pytest.mark.parametrize(("images", "tested"), [(9, 1), (19, 40), (76, 228), (36, 700)])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_interval_is_that_of_counted_orders(
    images: int, tested: int, coverage: float, level: float
) -> None:
    chance = counts(images, tested, rank(images, coverage))
    assert sum(chance) == pytest.approx(1)
    low, high = coverage_interval(images, coverage, level, tested=tested)
    first, last = round(low * tested), round(high * tested)
    tail = (1 - level) / 2
    # No more than the tail is outside on either side, and each end is as far in as it can be.
    assert sum(chance[:first]) < tail + 1e-9 <= sum(chance[: first + 1]) + 2e-9
    assert sum(chance[last + 1 :]) < tail + 1e-9 <= sum(chance[last:]) + 2e-9


@pytest.mark.parametrize("draws", [2, 5])
def test_interval_of_a_mean_over_draws_is_that_of_the_repeated_convolution(draws: int) -> None:
    images, tested, coverage, level = 19, 30, 0.9, 0.9
    one = np.array(counts(images, tested, rank(images, coverage)))
    total = np.ones(1)
    for _ in range(draws):
        total = np.convolve(total, one)
    cumulated = total.cumsum()
    low = int(np.argmax(cumulated >= 0.05))
    high = int(np.argmax(cumulated >= 0.95))
    found = coverage_interval(images, coverage, level, tested=tested, draws=draws)
    assert found == pytest.approx((low / (tested * draws), high / (tested * draws)))


def test_interval_holds_what_is_measured_as_often_as_it_says() -> None:
    """Scores of no particular kind, 20,000 draws: the share inside is at least the level, and not
    much more; three standard errors are 0.7 points, and single counts weigh up to 3."""
    rng = np.random.default_rng(0)
    limits = np.partition(rng.standard_normal((20_000, 36)), rank(36, 0.9) - 1, axis=1)
    limit = limits[:, [rank(36, 0.9) - 1]]
    covered = (rng.standard_normal((20_000, 200)) <= limit).mean(axis=1)
    low, high = coverage_interval(36, 0.9, 0.9, tested=200)
    assert 0.9 - 0.007 < ((low <= covered) & (covered <= high)).mean() < 0.9 + 0.06
    assert covered.mean() == pytest.approx(rank(36, 0.9) / 37, abs=0.002)


def test_interval_wants_enough_images() -> None:
    with pytest.raises(ValueError, match=r"8 images cannot support a coverage of 0\.9"):
        coverage_interval(8, 0.9, tested=100)


@settings(deadline=None, max_examples=25)
@given(st.integers(9, 80), st.integers(1, 300), st.integers(1, 40), st.floats(0.5, 0.99))
def test_ends_are_shares_in_order(images: int, tested: int, draws: int, level: float) -> None:
    low, high = coverage_interval(images, 0.9, level, tested=tested, draws=draws)
    assert 0 <= low <= high <= 1


# -- coverage from both sides ----------------------------------------------------------------------


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_randomised_adaptive_sets_cover_what_was_asked_for_and_no_more(coverage: float) -> None:
    """Certain classifiers: half of the images have all probability on one class, so that scores
    without randomisation are equal in heaps and the sets cover too much."""
    rng = np.random.default_rng(1)
    draws, images, tested, classes = 60, 40, 300, 5
    fixed, random = [], []
    for _ in range(draws):
        p = probabilities(rng, images + tested, classes)
        sure = rng.random(len(p)) < 0.5
        p[sure] = np.eye(classes)[rng.integers(0, classes, sure.sum())]
        labels = (rng.random(len(p))[:, None] > p.cumsum(axis=1)).sum(axis=1)
        u = rng.random(len(p))
        for scores, found in ((adaptive(p), fixed), (adaptive(p, u), random)):
            true = scores[np.arange(len(p)), labels]
            limit = finite_sample_quantile(true[:images], coverage)
            found.append((true[images:] <= limit).mean())
    low, high = coverage_interval(images, coverage, 0.99, tested=tested, draws=draws)
    assert low <= np.mean(random) <= high
    assert np.mean(fixed) > high
