"""Weights of a product of experts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from handful.functional.expert_weights import expert_weights, row_spread

RNG = np.random.default_rng(0)
TRUE = torch.from_numpy(RNG.normal(size=(4000, 6)))


def drawn(logits: torch.Tensor, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(torch.softmax(logits, dim=1), 1, generator=generator)[:, 0]


def test_many_images_find_the_scale_and_leave_out_what_is_noise() -> None:
    noise = torch.from_numpy(RNG.normal(size=TRUE.shape))
    found = expert_weights(torch.stack([TRUE, noise]), drawn(3 * TRUE), [1.0, 1.0], 1.0)
    assert found[0] == pytest.approx(3, rel=0.1)
    assert found[1] < 0.1


def test_few_images_hardly_move_a_tight_prior() -> None:
    few = TRUE[:3]
    found = expert_weights(few[None], drawn(3 * few), [0.7], 0.01)
    assert found[0] == pytest.approx(0.7, rel=0.02)


def test_one_weight_is_the_maximum_of_the_posterior() -> None:
    labels = drawn(2 * TRUE[:40])

    def loss(log_weight: float) -> float:
        logits = float(np.exp(log_weight)) * TRUE[:40]
        fit = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        return float(fit) + (log_weight - np.log(0.5)) ** 2 / (2 * 1.5**2)

    expected = minimize_scalar(loss, bounds=(-5, 5), method="bounded").x
    (found,) = expert_weights(TRUE[None, :40], labels, [0.5], 1.5)
    assert np.log(found) == pytest.approx(expected, abs=1e-3)


def test_what_all_classes_share_says_nothing() -> None:
    shift = torch.from_numpy(RNG.normal(size=(len(TRUE), 1)))
    labels = drawn(2 * TRUE)
    plain = expert_weights(TRUE[None], labels, [1.0], 1.0)
    assert expert_weights((TRUE + shift)[None], labels, [1.0], 1.0) == pytest.approx(plain)
    assert row_spread(TRUE + shift) == pytest.approx(float(row_spread(TRUE)))
