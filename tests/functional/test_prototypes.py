"""Spherical k-means, the cutting of prompts, and the comparison of images with centres."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from handful.functional.normalise import unit
from handful.functional.prototypes import (
    centre_cosines,
    centre_votes,
    mix_prototypes,
    spherical_kmeans,
    text_prototypes,
    weigh_channels,
)


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# -- spherical k-means -----------------------------------------------------------------------------


def test_clusters_that_lie_apart_are_found() -> None:
    true = unit(normal(0, 4, 30))
    member = torch.arange(4).repeat_interleave(8)[normal(2, 32).argsort()]
    points = unit(true[member] + 0.05 * normal(1, 32, 30))
    found = spherical_kmeans(points, 4)
    expected = torch.stack([unit(points[member == m].sum(dim=0)) for m in range(4)])
    order = (expected @ found.T).argmax(dim=1)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(found[order], expected)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), n=st.integers(2, 12), m=st.integers(1, 12))
def test_each_centre_is_the_direction_of_its_points(seed: int, n: int, m: int) -> None:
    points = unit(normal(seed, n, 3))
    m = min(m, n)
    centres = spherical_kmeans(points, m, seed=seed)
    assert centres.shape == (m, 3)
    nearest = (points @ centres.T).argmax(dim=1)
    assert sorted(set(nearest.tolist())) == list(range(m))
    for i in range(m):
        torch.testing.assert_close(centres[i], unit(points[nearest == i].sum(dim=0)))


def test_no_partition_is_better_on_a_small_case() -> None:
    """Of all 2^9 ways to cut ten points in two; ten starts find the best one here."""
    points = unit(normal(3, 10, 4))
    best = 0.0
    for bits in range(1, 512):
        one = torch.tensor([bits >> i & 1 for i in range(10)], dtype=torch.bool)
        score = points[one].sum(dim=0).norm() + points[~one].sum(dim=0).norm()
        best = max(best, float(score))
    found = (points @ spherical_kmeans(points, 2).T).amax(dim=1).sum()
    assert float(found) == pytest.approx(best, rel=1e-12)


def test_one_centre_is_the_direction_of_all_and_as_many_as_points_are_the_points() -> None:
    points = unit(normal(4, 6, 5))
    torch.testing.assert_close(spherical_kmeans(points, 1)[0], unit(points.sum(dim=0)))
    cosines = points @ spherical_kmeans(points, 6).T
    torch.testing.assert_close(cosines.amax(dim=1), torch.ones(6).double())


def test_points_that_coincide_leave_no_centre_empty() -> None:
    points = unit(normal(5, 2, 5))[[0, 0, 0, 1, 1]]
    centres = spherical_kmeans(points, 4)
    torch.testing.assert_close((centres @ points.T).amax(dim=1), torch.ones(4).double())
    torch.testing.assert_close((points @ centres.T).amax(dim=1), torch.ones(5).double())


def test_the_seed_decides_and_the_global_generator_does_not() -> None:
    points = unit(normal(6, 40, 3))
    torch.manual_seed(1)
    before = torch.rand(3)
    torch.manual_seed(1)
    first = spherical_kmeans(points, 6, restarts=1, seed=2)
    torch.testing.assert_close(torch.rand(3), before)
    torch.testing.assert_close(spherical_kmeans(points, 6, restarts=1, seed=2), first)
    assert not torch.equal(spherical_kmeans(points, 6, restarts=1, seed=3), first)


def test_more_starts_are_better() -> None:
    points = unit(normal(7, 60, 3))

    def score(restarts: int, seed: int) -> float:
        centres = spherical_kmeans(points, 8, restarts=restarts, seed=seed)
        return float((points @ centres.T).amax(dim=1).sum())

    ones = sorted(score(1, seed) for seed in range(9))
    assert min(score(10, seed) for seed in range(3)) > ones[4]


# -- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompts", "chunks", "lengths"),
    [
        (7, 3, [2, 2, 3]),
        (58, 9, [6, 6, 6, 6, 6, 6, 6, 6, 10]),  # Cars: 58 sentences in 16 - 7 chunks
        (6, 3, [2, 2, 2]),
        (3, 16, [1, 1, 1]),  # the published code averages empty chunks to NaN
        (5, 1, [5]),
    ],
)
def test_prompts_are_cut_in_order_and_the_last_takes_the_rest(
    prompts: int, chunks: int, lengths: list[int]
) -> None:
    rows = unit(normal(0, prompts, 6))
    found = text_prototypes(rows, chunks)
    parts = torch.split(rows, lengths)
    torch.testing.assert_close(found, torch.stack([unit(p.mean(dim=0)) for p in parts]))


def test_rows_of_zeros_are_no_prompts() -> None:
    rows = unit(normal(0, 5, 6))
    padded = torch.zeros(9, 6, dtype=torch.float64)
    padded[[0, 2, 3, 6, 7]] = rows
    torch.testing.assert_close(text_prototypes(padded, 2), text_prototypes(rows, 2))
    assert text_prototypes(torch.zeros(3, 6), 2).shape == (0, 6)


def test_the_last_prototype_is_mixed_with_the_mean_of_the_others() -> None:
    rows = unit(normal(1, 4, 6))
    expected = 0.3 * (rows[0] + rows[1] + rows[2]) / 3 + 0.7 * rows[3]
    torch.testing.assert_close(mix_prototypes(rows, 0.3), expected)
    torch.testing.assert_close(mix_prototypes(rows[:1], 0.3), rows[0])


# -- images and centres ----------------------------------------------------------------------------

X, CENTRES = unit(normal(0, 7, 6)), unit(normal(1, 5, 6))
LABELS = torch.tensor([0, 0, 0, 2, 2])


def test_channels() -> None:
    weights = torch.tensor([1.2, 0.8, -0.5, 0.0, 1.0, 0.9]).double()
    raw = X * weights.clamp_min(0) ** 15
    torch.testing.assert_close(weigh_channels(X, weights, 15.0), unit(raw))
    torch.testing.assert_close(weigh_channels(X, 3 * weights, 15.0), unit(raw))
    torch.testing.assert_close(weigh_channels(X, weights.abs() + 0.1, 0.0), X)


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_channels_and_scales_below_zero_are_off_and_have_no_gradient(power: float) -> None:
    off = torch.tensor([1.0, -1.0, 0.0, 1.0, 1.0]).double().requires_grad_()
    cosines = centre_cosines(X, CENTRES, off, power)
    assert (cosines[:, 1:3] == 0).all()
    cosines.sum().backward()
    assert off.grad is not None
    assert off.grad[1] == off.grad[2] == 0 and off.grad.isfinite().all()


def test_scaled_cosines_and_dropout() -> None:
    scales = torch.tensor([1.0, 1.5, 0.5, 1.0, 2.0]).double()
    expected = X @ CENTRES.T * scales**3
    torch.testing.assert_close(centre_cosines(X, CENTRES, scales, 3.0), expected)
    kept = torch.tensor([True, False, True, True, False])
    found = centre_cosines(X, CENTRES, scales, 3.0, kept=kept, dropout=0.2)
    torch.testing.assert_close(found, expected * kept / 0.8)
    runs = centre_cosines(
        X.expand(2, 7, 6), CENTRES.expand(2, 5, 6), torch.stack([scales, 2 * scales]), 1.0
    )
    torch.testing.assert_close(runs[1], X @ CENTRES.T * 2 * scales)


@pytest.mark.parametrize("balance", [True, False])
def test_votes(balance: bool) -> None:
    """Classes of 3, 0, 2 and 0 centres; the mean number is that of the two that have any."""
    cosines = X @ CENTRES.T
    found = centre_votes(cosines, LABELS, 4, 2.0, balance=balance)
    for i in range(7):
        kernel = [math.exp(-2 * (1 - float(c))) for c in cosines[i]]
        first, third = sum(kernel[:3]), sum(kernel[3:])
        if balance:
            first, third = first * 2.5 / 3, third * 2.5 / 2
        mean = (first + third) / 2
        expected = torch.tensor([first, mean, third, mean]).double()
        torch.testing.assert_close(found[i], expected)


def test_equal_numbers_of_centres_need_no_balance() -> None:
    cosines = X @ CENTRES[:4].T
    labels = torch.tensor([0, 0, 1, 1])
    one, other = (centre_votes(cosines, labels, 2, 1.0, balance=b) for b in (True, False))
    torch.testing.assert_close(one, other)
