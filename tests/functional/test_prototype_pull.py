"""The pull of CLAP: multipliers, penalty, and its proximal step against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handful.functional.prototype_pull import (
    MULTIPLIERS,
    class_multipliers,
    pull_penalty,
    pulled,
)

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.tensor([0, 0, 0, 1, 3, 3])
LOGITS = torch.randn(6, 4, generator=GENERATOR, dtype=torch.float64)
START = torch.randn(4, 5, generator=GENERATOR, dtype=torch.float64)
MOVED = START + torch.randn(4, 5, generator=GENERATOR, dtype=torch.float64)


def test_multipliers_are_mean_probabilities_of_the_own_class() -> None:
    found = class_multipliers(LOGITS, LABELS)
    for c in (0, 1, 3):
        own = LOGITS[c == LABELS]
        odds = [math.exp(row[c]) / sum(math.exp(v) for v in row) for row in own]
        assert float(found[c]) == pytest.approx(sum(odds) / len(odds))
    assert ((found >= 0) & (found <= 1)).all()


def test_nothing_speaks_against_the_text_of_a_class_without_images() -> None:
    assert float(class_multipliers(LOGITS, LABELS)[2]) == 1


def test_variants_of_the_multipliers() -> None:
    plain = class_multipliers(LOGITS, LABELS)
    corrected = class_multipliers(LOGITS, LABELS, "corrected")
    assert float(corrected.mean()) == pytest.approx(1)
    torch.testing.assert_close(corrected / corrected[0], plain / plain[0])
    constant = class_multipliers(LOGITS, LABELS, "constant")
    torch.testing.assert_close(constant, plain.mean().expand(4))
    assert class_multipliers(LOGITS, LABELS, "balanced").tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("how", MULTIPLIERS)
def test_several_runs_at_once(how: str) -> None:
    logits = torch.stack([LOGITS, LOGITS.flip(0)])
    labels = torch.stack([LABELS, LABELS.roll(2)])
    found = class_multipliers(logits, labels, how)  # type: ignore[arg-type]
    for run in range(2):
        alone = class_multipliers(logits[run], labels[run], how)  # type: ignore[arg-type]
        torch.testing.assert_close(found[run], alone)


def test_penalty_is_the_mean_over_classes() -> None:
    multipliers = torch.tensor([1.0, 0.5, 0.0, 2.0], dtype=torch.float64)
    rows = zip(multipliers, MOVED, START, strict=True)
    parts = [float(m) * float(((a - b) ** 2).sum()) for m, a, b in rows]
    assert float(pull_penalty(MOVED, START, multipliers)) == pytest.approx(sum(parts) / 4)
    assert float(pull_penalty(START, START, multipliers)) == 0
    assert pull_penalty(torch.stack([MOVED] * 3), START, multipliers).shape == (3,)


@given(st.floats(1e-3, 1e3), st.lists(st.floats(0, 1e4), min_size=4, max_size=4))
def test_the_step_is_the_minimum_of_what_it_minimises(step: float, factors: list[float]) -> None:
    """The gradient of ‖P − V‖²/2 + step·penalty(P) is zero there."""
    multipliers = torch.tensor(factors, dtype=torch.float64)
    found = pulled(MOVED, START, multipliers, step).requires_grad_()
    near = (found - MOVED).square().sum() / 2
    (near + step * pull_penalty(found, START, multipliers)).backward()
    assert float(found.grad.abs().max()) < 1e-6 * (1 + step * max(factors))


def test_no_pull_changes_nothing_and_an_infinite_one_gives_the_start() -> None:
    none = torch.zeros(4, dtype=torch.float64)
    infinite = torch.full_like(none, torch.inf)
    assert torch.equal(pulled(MOVED, START, none, 0.1), MOVED)
    assert torch.equal(pulled(MOVED, START, infinite, 0.1), START)


def test_the_step_is_stable_where_a_gradient_step_is_not() -> None:
    strong = torch.full((4,), 1e5, dtype=torch.float64)
    prototypes = MOVED
    for _ in range(10):
        prototypes = pulled(prototypes, START, strong, 0.1)
        assert float((prototypes - START).norm()) < float((MOVED - START).norm())
