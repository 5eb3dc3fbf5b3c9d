"""Least probabilities, and what held-out images can show of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from handful.errors import InputError
from handful.evaluation.thresholds import answers_needed, below_threshold, precise_threshold


def answers(top: np.ndarray) -> np.ndarray:
    """Probabilities of two classes, of which class 0 has ``top``, at least ½."""
    return np.stack([top, 1 - top], axis=1)


def test_each_answer_is_held_against_the_threshold_of_its_own_class() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1], [0.3, 0.6, 0.1], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2]])
    found = below_threshold(probabilities, np.array([0.6, 0.61, 0.0]))
    assert found.tolist() == [False, True, False, True]
    assert not below_threshold(probabilities, np.zeros(3)).any()


@pytest.mark.parametrize(("precision", "n"), [(0.9, 29), (0.95, 59), (0.99, 299), (0.5, 5)])
def test_how_many_right_answers_show_a_precision(precision: float, n: int) -> None:
    """29 and 59 of 95 % are in every table of tolerance limits; one fewer is not enough."""
    assert answers_needed(precision) == n
    assert precision**n <= 0.05 < precision ** (n - 1)


def test_all_right_needs_no_threshold_above_the_least_answer() -> None:
    top = np.linspace(0.55, 0.99, 40)
    found = precise_threshold(answers(top), np.zeros(40, np.int64), 0, 0.9)
    assert found == pytest.approx(0.55)
    assert not below_threshold(answers(top), np.array([found, 0])).any()


def test_it_stops_where_the_lower_bound_falls_below_the_precision() -> None:
    """50 surest right, then wrong ones: k wrong of 50 + k are too many for 0.9 as soon as a share
    of 0.9 would give so few right ones in 5 % of draws or more."""
    top = np.linspace(0.99, 0.6, 100)
    labels = np.repeat([0, 1], 50)
    found = precise_threshold(answers(top), labels, 0, 0.9)
    wrong = next(k for k in range(50) if binom.cdf(k, 50 + k, 0.1) > 0.05)
    assert found == top[50 + wrong - 2]


def test_equal_answers_stand_or_fall_together() -> None:
    top = np.repeat([0.9, 0.8], 30)
    labels = np.concatenate([np.zeros(31, np.int64), np.ones(29, np.int64)])
    assert precise_threshold(answers(top), labels, 0, 0.9) == 0.9


def test_too_few_images_are_told_how_many_are_needed() -> None:
    with pytest.raises(InputError, match="at least 29"):
        precise_threshold(answers(np.full(28, 0.9)), np.zeros(28, np.int64), 0, 0.9)
    with pytest.raises(InputError, match="of its 0 answers"):
        precise_threshold(answers(np.full(28, 0.9)), np.zeros(28, np.int64), 1, 0.9)
    with pytest.raises(InputError, match="precision is 1"):
        precise_threshold(answers(np.full(28, 0.9)), np.zeros(28, np.int64), 0, 1.0)


def test_the_promise_is_kept_as_often_as_it_says() -> None:
    """Over 400 draws the true precision above the threshold is below 0.8 in at most 5 %, and three
    standard errors of that."""
    rng, broken = np.random.default_rng(0), 0
    for _ in range(400):
        top = rng.uniform(0.5, 1, size=120)
        # Right with the probability that it says: precision above t is (1 + t) / 2.
        labels = (rng.uniform(size=120) > top).astype(np.int64)
        try:
            found = precise_threshold(answers(top), labels, 0, 0.8)
        except InputError:
            continue
        broken += (1 + found) / 2 < 0.8
    assert broken / 400 <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
