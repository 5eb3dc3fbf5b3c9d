"""APE's choice of channels and weights of keys: closed forms against loops."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.functional.channels import (
    best_channels,
    between_class_similarity,
    channel_criterion,
    key_divergence,
    shifted_cache,
    weighted_votes,
)
from handful.functional.kernel import cache_kernel, cache_votes
from handful.functional.normalise import unit


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TEXT, KEYS = unit(normal(4, 6)), unit(normal(9, 6, seed=1))
LABELS = torch.tensor([2, 0, 0, 1, 0, 2, 1, 0, 2])  # 4, 2, 3 and 0 keys, in no order


def criterion_by_loops(share: float, labels: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """−λ·mean over ordered pairs of members of different classes + (1 − λ)·variance of the text."""
    members = [torch.cat([text[c : c + 1], KEYS[: len(labels)][labels == c]]) for c in range(4)]
    products = [
        a * b
        for i, k in itertools.permutations(range(4), 2)
        for a in members[i]
        for b in members[k]
    ]
    similarity = torch.stack(products).mean(dim=0)
    variance = ((text - text.mean(dim=0)) ** 2).sum(dim=0) / 3
    return -share * similarity + (1 - share) * variance


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
def test_criterion_is_what_the_loops_give_with_unequal_counts(share: float) -> None:
    found = channel_criterion(TEXT, share, KEYS, LABELS)
    torch.testing.assert_close(
        found, criterion_by_loops(share, LABELS, TEXT), rtol=1e-12, atol=1e-15
    )
    found = channel_criterion(TEXT, share)
    expected = criterion_by_loops(share, LABELS[:0], TEXT)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@settings(deadline=None)
@given(st.permutations(range(4)), st.permutations(range(6)), st.permutations(range(9)))
def test_order_of_classes_keys_and_channels(
    classes: list[int], channels: list[int], keys: list[int]
) -> None:
    expected = channel_criterion(TEXT, 0.7, KEYS, LABELS)
    renamed = torch.tensor(classes).argsort()[LABELS]
    found = channel_criterion(
        TEXT[classes][:, channels], 0.7, KEYS[keys][:, channels], renamed[keys]
    )
    torch.testing.assert_close(found, expected[channels])
    kept = {channels[q] for q in best_channels(found, 0.5).tolist()}
    assert kept == set(best_channels(expected, 0.5).tolist())


def test_similarity_of_several_problems_at_once() -> None:
    sums, counts = normal(3, 4, 6), torch.tensor([[1, 2, 3, 4], [2, 2, 2, 2], [5, 1, 1, 1]])
    together = between_class_similarity(sums, counts)
    for found, s, m in zip(together, sums, counts, strict=True):
        torch.testing.assert_close(found, between_class_similarity(s, m))


@pytest.mark.parametrize(("keep", "expected"), [(1.0, 6), (0.5, 3), (0.7, 4), (0.01, 2)])
def test_the_share_of_channels_with_the_largest_criterion_is_kept(
    keep: float, expected: int
) -> None:
    scores = torch.tensor([0.3, -1.0, 5.0, 0.2, 4.0, 0.1])
    found = best_channels(scores, keep)
    assert found.tolist() == sorted([2, 4, 0, 3, 5, 1][:expected])


def test_key_divergence_is_the_sum_over_classes_of_the_published_formula() -> None:
    one_hot = torch.nn.functional.one_hot(LABELS, 4).double()
    predicted = torch.softmax(KEYS @ TEXT.T, dim=1)
    expected = (one_hot * torch.log2((one_hot + 1e-6) / (predicted + 1e-6))).sum(dim=1)
    torch.testing.assert_close(key_divergence(3 * KEYS, LABELS, 5 * TEXT), expected)


def test_key_divergence_is_larger_for_a_key_that_looks_like_another_class() -> None:
    text = torch.eye(2, dtype=torch.float64)
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    typical, untypical = key_divergence(keys, torch.tensor([0, 0]), text).tolist()
    assert typical == pytest.approx(math.log2(1 + math.exp(-1)), abs=1e-5)
    assert untypical == pytest.approx(math.log2(1 + math.exp(1)), abs=1e-5)


def test_votes_with_equal_weights_are_those_of_tip_adapter() -> None:
    affinity = unit(normal(5, 6, seed=2)) @ KEYS.T
    kernel = cache_kernel(affinity, 5.5).T
    found = weighted_votes(kernel, torch.ones(9, dtype=torch.float64), LABELS, 4)
    torch.testing.assert_close(found, cache_votes(affinity, LABELS, 4, 5.5))
    weights = normal(9, seed=3)
    one_hot = torch.nn.functional.one_hot(LABELS, 4).double()
    found = weighted_votes(kernel, weights, LABELS, 4)
    torch.testing.assert_close(found, kernel.T @ weights.diag() @ one_hot)


def test_shifted_cache_is_that_of_moved_text_and_keys() -> None:
    """Written out: row c of E added to w_c and to the keys of class c; two problems at once."""
    x, residual, weights = unit(normal(2, 5, 6)), normal(2, 4, 3, seed=1), normal(2, 9, seed=2)
    channels = torch.tensor([[4, 0, 3], [1, 2, 5]])
    text, keys = unit(normal(2, 4, 6, seed=3)), unit(normal(2, 9, 6, seed=4))
    one_hot = torch.nn.functional.one_hot(LABELS, 4).double()
    cosines, votes = shifted_cache(
        x,
        residual,
        weights,
        channels=channels,
        text=text,
        keys=keys,
        values=one_hot.expand(2, -1, -1),
        sharpness=3.0,
    )
    for r in range(2):
        moves = torch.zeros(4, 6, dtype=torch.float64)
        moves[:, channels[r]] = residual[r]
        kernel = torch.exp(-3.0 * (1 - x[r] @ (keys[r] + moves[LABELS]).T))
        torch.testing.assert_close(cosines[r], x[r] @ (text[r] + moves).T)
        torch.testing.assert_close(votes[r], kernel @ weights[r].diag() @ one_hot)


def test_shifted_cache_may_compare_images_in_another_space() -> None:
    x, other = unit(normal(5, 6)), unit(normal(5, 6, seed=5))
    given = {
        "residual": normal(4, 3, seed=1),
        "weights": normal(9, seed=2),
        "channels": torch.tensor([4, 0, 3]),
        "text": TEXT,
        "keys": KEYS,
        "values": torch.nn.functional.one_hot(LABELS, 4).double(),
        "sharpness": 3.0,
    }
    cosines, votes = shifted_cache(x, **given, compared=other)
    torch.testing.assert_close(cosines, shifted_cache(x, **given)[0])
    torch.testing.assert_close(votes, shifted_cache(other, **given)[1])
