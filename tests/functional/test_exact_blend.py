"""The exact blend against brute force in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.functional.exact_blend import best_blend, right_intervals

Problem = tuple[list[list[int]], list[list[int]], list[int]]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Small whole numbers: ties, zero slopes and negative directions are frequent."""
    images, classes = draw(st.integers(1, 7)), draw(st.integers(2, 4))
    rows = st.lists(
        st.lists(st.integers(-6, 6), min_size=classes, max_size=classes),
        min_size=images,
        max_size=images,
    )
    labels = st.lists(st.integers(0, classes - 1), min_size=images, max_size=images)
    return draw(rows), draw(rows), draw(labels)


def tensors(problem: Problem) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    base, direction, labels = problem
    return (
        torch.tensor(base, dtype=torch.float64),
        torch.tensor(direction, dtype=torch.float64),
        torch.tensor(labels),
    )


def is_right(problem: Problem, image: int, blend: Fraction) -> bool:
    base, direction, labels = problem
    logits = [z + blend * q for z, q in zip(base[image], direction[image], strict=True)]
    own = logits.pop(labels[image])
    return all(own > other for other in logits)


def count(problem: Problem, blend: Fraction) -> int:
    return sum(is_right(problem, image, blend) for image in range(len(problem[2])))


def crossings(problem: Problem, limit: Fraction) -> list[Fraction]:
    """Every blend at which some image may change, from 0 to ``limit``, both included."""
    found = {Fraction(0), limit}
    for z, q, y in zip(*problem, strict=True):
        for c in range(len(z)):
            if q[y] != q[c]:
                at = Fraction(-(z[y] - z[c]), q[y] - q[c])
                if 0 < at < limit:
                    found.add(at)
    return sorted(found)


def between(ends: list[Fraction]) -> list[Fraction]:
    return [(a + b) / 2 for a, b in pairwise(ends)]


def share(blend: float) -> float:
    return blend / (1 + blend)


@settings(deadline=None)
@given(problems())
def test_intervals_hold_exactly_the_blends_at_which_an_image_is_right(problem: Problem) -> None:
    lower, upper = right_intervals(*tensors(problem))
    ends = crossings(problem, Fraction(200))
    for blend in [*between(ends), *ends[1:]]:
        for image in range(len(lower)):
            inside = lower[image] < float(blend) < upper[image]
            assert inside == is_right(problem, image, blend)


@settings(deadline=None)
@given(problems(), st.sampled_from([Fraction(1, 2), Fraction(3), Fraction(100)]))
def test_no_other_blend_has_more_images_right(problem: Problem, limit: Fraction) -> None:
    found = best_blend(*tensors(problem), limit=float(limit))
    grid = [limit * step / 200 for step in range(201)]
    best = max(count(problem, blend) for blend in between(crossings(problem, limit)) + grid)
    assert found.correct == best == count(problem, Fraction(found.blend))


@settings(deadline=None)
@given(problems(), st.sampled_from([Fraction(1, 2), Fraction(3), Fraction(100)]))
def test_the_blend_is_the_middle_of_the_longest_plateau(problem: Problem, limit: Fraction) -> None:
    found = best_blend(*tensors(problem), limit=float(limit))
    assert 0 <= found.low < found.blend < found.high <= limit
    assert share(found.blend) == pytest.approx((share(found.low) + share(found.high)) / 2)
    ends = crossings(problem, limit)
    inside = [b for b in between(ends) if found.low < b < found.high]
    assert {count(problem, blend) for blend in inside} == {found.correct}
    # Plateaus by brute force: neighbouring segments belong together where the point between them
    # is as good as they are.
    longest, start = 0.0, None
    for a, b in pairwise(ends):
        if count(problem, (a + b) / 2) != found.correct:
            start = None
            continue
        if start is None or count(problem, a) != found.correct:
            start = a
        longest = max(longest, share(float(b)) - share(float(start)))
    assert share(found.high) - share(found.low) == pytest.approx(longest)


@settings(deadline=None)
@given(problems())
def test_the_best_blend_is_never_worse_than_blend_zero(problem: Problem) -> None:
    assert best_blend(*tensors(problem)).correct >= count(problem, Fraction(0))


def test_real_valued_logits_against_a_fine_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(200, 7, generator=generator, dtype=torch.float64)
    direction = torch.randn(200, 7, generator=generator, dtype=torch.float64) * 0.3
    labels = torch.randint(7, (200,), generator=generator)
    direction[torch.arange(200), labels] += 0.4
    found = best_blend(base, direction, labels)
    grid = np.geomspace(1e-3, 100, 5000)
    on_grid = [int(((base + b * direction).argmax(1) == labels).sum()) for b in grid]
    assert found.correct >= max(on_grid)
    assert found.correct == int(((base + found.blend * direction).argmax(1) == labels).sum())


def test_a_plateau_open_to_infinity_hardly_depends_on_the_limit() -> None:
    """One image, right from blend 1 on: the middle of [1/2, 1] in the share is blend 3."""
    base, direction = torch.tensor([[0.0, 1.0]]).double(), torch.tensor([[1.0, 0.0]]).double()
    for limit in (1e3, 1e6):
        found = best_blend(base, direction, torch.tensor([0]), limit=limit)
        assert found.blend == pytest.approx(3, rel=2e-2)
        assert (found.low, found.high) == (1.0, limit)


def test_an_image_that_is_never_right_has_an_empty_interval() -> None:
    base, direction = torch.tensor([[0.0, 1.0]]).double(), torch.zeros(1, 2).double()
    lower, upper = right_intervals(base, direction, torch.tensor([0]))
    assert lower[0] >= upper[0]
    assert best_blend(base, direction, torch.tensor([0])).correct == 0


def test_an_image_that_is_always_right_has_the_whole_axis() -> None:
    base, direction = torch.tensor([[1.0, 0.0]]).double(), torch.zeros(1, 2).double()
    lower, upper = right_intervals(base, direction, torch.tensor([0]))
    assert (lower[0], upper[0]) == (0, math.inf)
