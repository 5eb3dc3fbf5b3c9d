"""The spreading losses against naive loops, and the memory that they keep."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from handful.functional.contrastive import MASKS, spread, spread_between, spread_within
from handful.functional.normalise import unit

masks = pytest.mark.parametrize("mask", MASKS)


def sphere(seed: int, rows: int, width: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(rows, width, generator=generator, dtype=torch.float64))


def naive(y: Tensor, kept: list[list[bool]], temperature: float, mask: str) -> float:
    """mean_p of −log(e^{own/τ} / (Σ_kept e^{cos/τ} + the ones of what is masked))."""
    total = 0.0
    for p in range(len(y)):
        cosines = [float(y[p] @ other) for other in y]
        terms = [
            math.exp(c / temperature) if k else (1.0 if mask == "zero" else 0.0)
            for c, k in zip(cosines, kept[p], strict=True)
        ]
        total -= math.log(math.exp(cosines[p] / temperature) / sum(terms))
    return total / len(y)


counts = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@masks
@settings(deadline=None, max_examples=30)
@given(counts=counts, seed=st.integers(0, 99), margin=st.sampled_from([-1.0, 0.0, 0.3]))
def test_equal_to_naive_loops(mask: Any, counts: list[int], seed: int, margin: float) -> None:
    y = sphere(seed, sum(counts))
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    n = range(len(y))
    other = [[p == j or labels[p] != labels[j] for j in n] for p in n]
    near = [
        [p == j or bool(labels[p] == labels[j] and y[p] @ y[j] >= margin) for j in n] for p in n
    ]
    found = float(spread_between(y, labels, 0.2, mask=mask))
    assert found == pytest.approx(naive(y, other, 0.2, mask), rel=1e-9, abs=1e-12)
    found = float(spread_within(y, labels, 0.3, margin=margin, mask=mask))
    assert found == pytest.approx(naive(y, near, 0.3, mask), rel=1e-9, abs=1e-12)
    everything = [[True] * len(y)] * len(y)
    assert float(spread(y, 0.5)) == pytest.approx(naive(y, everything, 0.5, mask), rel=1e-9)


LABELS = torch.tensor([0, 0, 0, 1, 1, 3, 3, 3])  # a class may have no centre
Y = sphere(0, 8)


def every_loss(y: Tensor, mask: Any = "exclude") -> Tensor:
    between = spread_between(y, LABELS, 0.1, mask=mask)
    return torch.stack([spread(y, 0.1), between, spread_within(y, LABELS, 0.13, mask=mask)])


@masks
def test_the_mean_over_equal_slices_is_the_whole(mask: Any) -> None:
    parts = [spread_between(Y, LABELS, 0.1, mask=mask, rows=slice(i, None, 4)) for i in range(4)]
    whole = spread_between(Y, LABELS, 0.1, mask=mask)
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


@masks
def test_runs_are_carried_through(mask: Any) -> None:
    runs = torch.stack([sphere(i, 8) for i in range(3)])
    expected = torch.stack([every_loss(run, mask) for run in runs], dim=1)
    torch.testing.assert_close(every_loss(runs, mask), expected)


@masks
def test_turning_the_space_changes_nothing(mask: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    torch.testing.assert_close(every_loss(Y @ turn, mask), every_loss(Y, mask))


@masks
def test_the_order_of_centres_inside_a_class_is_irrelevant(mask: Any) -> None:
    order = torch.tensor([2, 0, 1, 4, 3, 7, 5, 6])
    torch.testing.assert_close(every_loss(Y[order], mask), every_loss(Y, mask))


def test_one_centre_per_class_has_nothing_to_spread_within() -> None:
    assert float(spread_within(Y, torch.arange(8), 0.13)) == 0


def test_the_own_term_does_not_push_along_the_sphere() -> None:
    raw = (3 * Y[:1]).clone().requires_grad_()
    spread(unit(raw), 0.07).backward()
    assert raw.grad is not None
    assert float(raw.grad.abs().max()) < 1e-12


@masks
def test_descent_moves_the_right_vectors_apart(mask: Any) -> None:
    """R_inter lowers cosines between classes, R_intra those within; neither the others' sum."""
    same = (LABELS[:, None] == LABELS) & ~torch.eye(8, dtype=torch.bool)
    start = unit(Y + 1.5)  # all cosines above the margin
    for loss, moved in ((spread_between, LABELS[:, None] != LABELS), (spread_within, same)):
        y = start.clone().requires_grad_()
        loss(y, LABELS, 0.1, mask=mask).backward()
        assert y.grad is not None
        after = unit(start - 1e-3 * y.grad)
        change = after @ after.T - start @ start.T
        assert float(change[moved].mean()) < 0
        assert float(change[moved].mean()) < float(change[~moved].mean())


def test_which_pairs_the_margin_masks_is_asked_anew() -> None:
    fresh = float(spread_within(Y, LABELS, 0.13))
    spread_within(sphere(7, 8), LABELS, 0.13)
    assert float(spread_within(Y, LABELS, 0.13)) == fresh


@masks
def test_memory_grows_with_the_centres_not_with_their_square(mask: Any) -> None:
    """What backward keeps: never a matrix of all centres by all centres."""
    labels = torch.arange(150).repeat_interleave(4)
    y = sphere(0, 600).requires_grad_()
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        spread_within(y, labels, 0.13, mask=mask)
        spread_between(y, labels, 0.1, mask=mask, rows=slice(0, None, 60))
    assert kept and max(kept) <= 600 * 10
