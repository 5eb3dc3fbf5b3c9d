"""Folds over the shots: who is judged, on what, and with whom."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.functional.folds import Fold, make_folds


@st.composite
def supports(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and groups of near duplicates that do not reach over classes."""
    counts = draw(st.lists(st.integers(1, 9), min_size=2, max_size=6))
    labels = np.repeat(np.arange(len(counts)), counts)
    groups = []
    for label, count in enumerate(counts):
        groups += [100 * label + draw(st.integers(0, count - 1)) for _ in range(count)]
    order = np.array(draw(st.permutations(range(len(labels)))))
    return labels[order], np.array(groups)[order]


def judged(folds: list[Fold]) -> list[int]:
    return [int(row) for fold in folds for row in fold.judge]


@settings(deadline=None)
@given(supports(), st.booleans(), st.integers(2, 6), st.integers(0, 5))
def test_every_promise(
    support: tuple[np.ndarray, np.ndarray], with_groups: bool, most: int, seed: int
) -> None:
    labels, groups = support
    if not with_groups:
        groups = np.arange(len(labels))
    folds = make_folds(labels, groups if with_groups else None, most=most, seed=seed)
    distinct = {c: len(set(groups[labels == c])) for c in np.unique(labels).tolist()}

    # Each image of a class that can spare one is judged exactly once; the others never.
    can_spare = [row for row, c in enumerate(labels.tolist()) if distinct[c] > 1]
    assert sorted(judged(folds)) == can_spare
    # Not more folds than the largest class has distinct images.
    assert len(folds) <= min(most, max(distinct.values()))
    for fold in folds:
        assert len(fold.judge) > 0
        # What is not judged is fitted on.
        assert sorted([*fold.fit, *fold.judge]) == list(range(len(labels)))
        # Near duplicates stay together.
        assert not set(groups[fold.fit]) & set(groups[fold.judge])
        # Every class has an image to fit on.
        assert set(labels[fold.fit]) == set(labels)
    # The same seed deals the same.
    again = make_folds(labels, groups if with_groups else None, most=most, seed=seed)
    assert judged(again) == judged(folds)


@settings(deadline=None)
@given(st.lists(st.integers(2, 9), min_size=2, max_size=8), st.integers(2, 5), st.integers(0, 3))
def test_folds_are_even(counts: list[int], most: int, seed: int) -> None:
    """Without duplicates: in all, and within each class, sizes differ by one at most."""
    labels = np.repeat(np.arange(len(counts)), counts)
    folds = make_folds(labels, most=most, seed=seed)
    assert len(folds) == min(most, max(counts))
    sizes = [len(fold.judge) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for c in range(len(counts)):
        own = [int((labels[fold.judge] == c).sum()) for fold in folds]
        assert max(own) - min(own) <= 1


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=6, max_size=24),
    st.integers(0, 5),
)
def test_duplicates_across_classes_leave_no_class_without_images(
    images: list[tuple[int, int]], seed: int
) -> None:
    """The same picture under two names happens in real folders. It stays in one fold, and still
    no fold may hold out all the images of a class."""
    labels, groups = (np.array(column) for column in zip(*images, strict=True))
    rows = judged(folds := make_folds(labels, groups, seed=seed))
    assert max(Counter(rows).values(), default=1) == 1
    for fold in folds:
        assert not set(groups[fold.fit]) & set(groups[fold.judge])
        assert set(labels[fold.fit]) == set(labels)


@pytest.mark.parametrize(("shots", "folds"), [(1, 0), (2, 2), (3, 3), (4, 4), (16, 4)])
def test_as_many_folds_as_shots_but_four_at_most(shots: int, folds: int) -> None:
    assert len(make_folds(np.repeat(np.arange(5), shots))) == folds


def test_nothing_can_be_held_out_of_pure_duplicates() -> None:
    labels = np.repeat(np.arange(3), 4)
    assert make_folds(labels, groups=labels) == []


def test_seeds_deal_differently() -> None:
    labels = np.repeat(np.arange(5), 8)
    assert judged(make_folds(labels, seed=0)) != judged(make_folds(labels, seed=1))
