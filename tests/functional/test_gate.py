"""A blend that is learned: between 0 and 1, for all vectors or for each."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.functional.gate import gate_start, gated_blend


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


V = normal(5, 8)


def test_follows_its_equation_vector_by_vector() -> None:
    gate = normal(9, seed=1)
    found = gated_blend(V, gate)
    assert found.shape == (5, 1)
    for blend, v in zip(found, V, strict=True):
        logit = sum(float(a) * float(q) for a, q in zip(v, gate, strict=False)) + float(gate[8])
        assert float(blend) == pytest.approx(1 / (1 + math.exp(-logit)))


def test_one_number_is_for_all_vectors() -> None:
    found = gated_blend(V, torch.tensor([1.5], dtype=torch.float64))
    assert found.shape == (1, 1)
    assert float(found) == pytest.approx(1 / (1 + math.exp(-1.5)))


@settings(deadline=None)
@given(st.floats(0.001, 0.999), st.sampled_from([0, 8]))
def test_starts_at_the_blend_for_every_vector(blend: float, weights: int) -> None:
    gate = gate_start(blend, weights)
    assert gate.shape == (weights + 1,)
    torch.testing.assert_close(
        gated_blend(V, gate.double()).expand(5, 1), torch.full((5, 1), blend, dtype=torch.float64),
        rtol=0, atol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("weights", [0, 8])
def test_runs_in_front_are_independent(weights: int) -> None:
    gates = normal(4, weights + 1, seed=2)
    together = gated_blend(V.expand(4, 5, 8), gates)
    assert together.shape == ((4, 5, 1) if weights else (4, 1, 1))
    for one, gate in zip(together, gates, strict=True):
        torch.testing.assert_close(one, gated_blend(V, gate))
