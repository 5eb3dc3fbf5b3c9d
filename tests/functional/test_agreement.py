"""Standardised votes of several caches, and their weights by agreement with the text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.functional.agreement import AGREEMENTS, agreement_weights, fuse, standardise


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BASE, VOTES = normal(6, 5), normal(3, 6, 5, seed=1).exp()


def test_standard_scores_are_those_of_numpy() -> None:
    rows = VOTES.numpy()
    expected = (rows - rows.mean(-1, keepdims=True)) / rows.std(-1, ddof=1, keepdims=True)
    np.testing.assert_allclose(standardise(VOTES), expected, rtol=1e-12)


@settings(deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(-10, 10))
def test_a_positive_affine_rescale_changes_nothing(scale: float, shift: float) -> None:
    """The shift in multiples of the scale, or it would drown the votes in rounding."""
    torch.testing.assert_close(
        standardise(scale * (VOTES + shift)), standardise(VOTES), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 7.3, 1e-30, -1e6])
def test_equal_votes_say_nothing(dtype: torch.dtype, value: float) -> None:
    """And their gradient is a number."""
    votes = torch.full((2, 19), value, dtype=dtype, requires_grad=True)
    found = standardise(votes)
    assert (found == 0).all()
    found.square().sum().backward()
    assert votes.grad is not None
    assert votes.grad.isfinite().all()


def test_two_classes_are_a_sign() -> None:
    """All that is left of two numbers is which is larger; the gradient is 0 but for rounding."""
    votes = torch.tensor([[0.1, 0.4], [5.0, -2.0]], dtype=torch.float64, requires_grad=True)
    found = standardise(votes)
    torch.testing.assert_close(
        found.detach(), torch.tensor([[-1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / 2**0.5
    )
    found[:, 0].sum().backward()
    assert votes.grad is not None
    torch.testing.assert_close(votes.grad, torch.zeros(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_weights_follow_their_equation(agreement: str) -> None:
    """A loop over images and caches; the sum is (C − 1) times the correlation."""
    weights = agreement_weights(standardise(BASE), standardise(VOTES), agreement)  # type: ignore[arg-type]
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(6, dtype=torch.float64))
    for i in range(6):
        alike = np.array([4 * np.corrcoef(BASE[i], VOTES[m, i])[0, 1] for m in range(3)])
        if agreement == "mean":
            alike /= 5
        expected = np.exp(alike) / np.exp(alike).sum()
        np.testing.assert_allclose(weights[:, i], expected, rtol=1e-9)


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_fused_votes_follow_their_equation(agreement: str) -> None:
    scaled = standardise(VOTES)
    weights = agreement_weights(standardise(BASE), scaled, agreement)  # type: ignore[arg-type]
    expected = sum(weights[m, :, None] * scaled[m] for m in range(3))
    torch.testing.assert_close(fuse(BASE, VOTES, agreement), expected)  # type: ignore[arg-type]


def test_identical_caches_share_alike() -> None:
    twice = VOTES[:1].expand(2, 6, 5)
    weights = agreement_weights(standardise(BASE), standardise(twice))
    torch.testing.assert_close(weights, torch.full((2, 6), 0.5, dtype=torch.float64))
    torch.testing.assert_close(fuse(BASE, twice), standardise(VOTES[0]))


def test_one_cache_is_its_standardised_votes() -> None:
    torch.testing.assert_close(fuse(BASE, VOTES[:1]), standardise(VOTES[0]))


def test_the_cache_that_agrees_counts_more() -> None:
    votes = torch.stack([BASE, -BASE])
    weights = agreement_weights(standardise(BASE), standardise(votes))
    # Correlations 1 and −1, C − 1 = 4: the odds are e^8 to 1.
    torch.testing.assert_close(weights[0] / weights[1], torch.full((6,), 8.0).double().exp())


def test_runs_in_front_are_independent() -> None:
    base, votes = normal(4, 6, 5, seed=2), normal(4, 3, 6, 5, seed=3)
    together = fuse(base, votes)
    for run in range(4):
        torch.testing.assert_close(together[run], fuse(base[run], votes[run]))
