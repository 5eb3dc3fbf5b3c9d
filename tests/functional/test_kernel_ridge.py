"""Kernel ridge regression: the closed forms against solving and refitting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.functional.kernel import cache_kernel
from handful.functional.kernel_ridge import Spectrum, coefficients, probabilities
from handful.functional.normalise import unit


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel(n: int, seed: int = 0) -> torch.Tensor:
    keys = unit(normal(n, 5, seed=seed))
    return cache_kernel(keys @ keys.T, 3.0)


@pytest.mark.parametrize("penalty", [1e-3, 0.1, 10.0])
def test_coefficients_solve_the_system(penalty: float) -> None:
    k, residual = kernel(8), normal(8, 3, seed=1)
    found = coefficients(k, residual, penalty)
    torch.testing.assert_close(k @ found + penalty * found, residual)
    torch.testing.assert_close(k, kernel(8))  # left as it was


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 9), st.sampled_from([1e-2, 0.3, 1.0, 50.0]), st.integers(0, 50))
def test_leave_one_out_is_what_refits_give(n: int, penalty: float, seed: int) -> None:
    k, residual = kernel(n, seed), normal(n, 3, seed=seed + 1)
    found = Spectrum.of(k).leave_one_out(residual, penalty)
    for i in range(n):
        rest = torch.arange(n) != i
        predicted = k[i, rest] @ coefficients(k[rest][:, rest], residual[rest], penalty)
        torch.testing.assert_close(found[i], residual[i] - predicted, rtol=1e-7, atol=1e-7)


def test_the_same_picture_twice_does_no_harm() -> None:
    """The kernel matrix is singular then; rounding must not make a value negative."""
    k = kernel(6)[torch.arange(6).repeat(2)][:, torch.arange(6).repeat(2)]
    spectrum = Spectrum.of(k)
    assert (spectrum.values >= 0).all()
    torch.testing.assert_close(spectrum.vectors * spectrum.values @ spectrum.vectors.T, k)


def test_probabilities_are_clipped_and_add_up() -> None:
    values = torch.tensor([[0.2, 0.8], [-0.5, 1.5], [0.0, 0.5]], dtype=torch.float64)
    expected = torch.tensor([[0.2, 0.8], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    found = probabilities(values)
    torch.testing.assert_close(found, expected, atol=3e-12, rtol=0)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3, dtype=torch.float64))
    assert (found > 0).all()
