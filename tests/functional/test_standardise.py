"""Batch normalisation and its folding into a linear classifier, against PyTorch's."""

from __future__ import annotations

import torch

from handful.functional.standardise import channel_moments, fold

GENERATOR = torch.Generator().manual_seed(0)
FEATURES = 3 * torch.randn(20, 2, 6, generator=GENERATOR, dtype=torch.float64) + 5
WEIGHT = torch.randn(4, 6, generator=GENERATOR, dtype=torch.float64)
BIAS = torch.randn(4, generator=GENERATOR, dtype=torch.float64)


def test_equal_to_batch_normalisation_of_all_vectors() -> None:
    mean, deviation = channel_moments(FEATURES)
    rows = FEATURES.flatten(0, 1)
    expected = torch.nn.functional.batch_norm(rows, None, None, training=True)
    torch.testing.assert_close((rows - mean) / deviation, expected)


def test_a_channel_that_does_not_vary_stays_finite() -> None:
    mean, deviation = channel_moments(torch.ones(7, 3))
    assert torch.equal((torch.ones(7, 3) - mean) / deviation, torch.zeros(7, 3))


def test_folded_gives_the_same_logits() -> None:
    moments = channel_moments(FEATURES)
    weight, bias = fold(WEIGHT, BIAS, *moments)
    expected = ((FEATURES - moments[0]) / moments[1]) @ WEIGHT.T + BIAS
    torch.testing.assert_close(FEATURES @ weight.T + bias, expected)
