"""LP++'s constants against eigenvalues, loops, and what they promise."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from handful.functional.normalise import unit
from handful.functional.step_sizes import blend_step, first_blend, largest_curvature, weight_step


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([0, 0, 0, 1, 1, 3])
X, TEXT = unit(normal(6, 9)), unit(normal(4, 9, seed=1))


@pytest.mark.parametrize("shape", [(6, 9), (20, 9), (3, 20, 9), (3, 6, 9)])
def test_curvature_is_the_largest_eigenvalue(shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    expected = torch.linalg.eigh(x.mT @ x).eigenvalues[..., -1]
    torch.testing.assert_close(largest_curvature(x), expected)
    torch.testing.assert_close(weight_step(x), 4 * shape[-2] / expected)


def test_blend_step_and_first_blend_as_loops() -> None:
    s = X @ TEXT.T
    largest = max(sum(float(s[i, c]) ** 2 for i in range(6)) for c in range(4))
    assert float(blend_step(s)) == pytest.approx(6 / (4 * largest))
    own = {0: [0, 1, 2], 1: [3, 4], 3: [5]}  # class 2 has no images
    means = [sum(float(s[i, c]) for i in rows) / len(rows) for c, rows in own.items()]
    assert float(first_blend(s, LABELS)) == pytest.approx(250 * sum(means) / 3)


def test_two_copies_of_every_image_change_nothing() -> None:
    twice, labels = X.repeat(2, 1), LABELS.repeat(2)
    torch.testing.assert_close(first_blend(twice @ TEXT.T, labels), first_blend(X @ TEXT.T, LABELS))
    torch.testing.assert_close(weight_step(twice), weight_step(X))
    torch.testing.assert_close(blend_step(twice @ TEXT.T), blend_step(X @ TEXT.T))


def test_runs_in_front_are_independent() -> None:
    s, labels = normal(3, 6, 4), torch.stack([LABELS, LABELS.flip(0), LABELS])
    for run in range(3):
        torch.testing.assert_close(first_blend(s, labels)[run], first_blend(s[run], labels[run]))
        torch.testing.assert_close(blend_step(s)[run], blend_step(s[run]))


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_falls_with_steps_that_the_curvatures_promise(seed: int) -> None:
    """Plain descent with less than twice the inverse of the curvature. That is at most
    λ_max / (2N) in u and max Σ s² / (2N) in all α together, for diag(p) − ppᵀ is at most ½: for u
    the published step is this limit, for α a sixteenth of it."""
    x, targets = unit(normal(6, 9, seed=seed)), torch.nn.functional.one_hot(LABELS, 4).double()
    s = x @ TEXT.T
    weight, blend = 5 * normal(4, 9, seed=seed + 9), 20 * normal(4, seed=seed + 10).abs()

    def loss(weight: torch.Tensor, blend: torch.Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(x @ weight.T + blend * s, LABELS))

    def error() -> torch.Tensor:
        return (torch.softmax(x @ weight.T + blend * s, dim=1) - targets) / 6

    falls = [loss(weight, blend)]
    for _ in range(50):
        weight = weight - 0.99 * weight_step(x) * error().T @ x
        falls.append(loss(weight, blend))
        blend = blend - 15 * blend_step(s) * (error() * s).sum(dim=0)
        falls.append(loss(weight, blend))
    assert all(later <= before + 1e-12 for before, later in pairwise(falls))
    assert falls[-1] < falls[0]
