"""Unit length, the two ways of pooling prompts, scaled cosines."""

from __future__ import annotations

import random
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.functional import pooling
from handful.functional.cosine import cosine_logits
from handful.functional.normalise import unit
from handful.functional.pooling import POOLINGS, Pooling, pool_templates


def prompts(templates: int, seed: int = 0) -> torch.Tensor:
    """Raw embeddings (4, T, 6) whose lengths differ, as those of real prompts do."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.rand(4, templates, 1, generator=generator, dtype=torch.float64) * 9 + 1
    return torch.randn(4, templates, 6, generator=generator, dtype=torch.float64) * lengths


def test_poolings_are_named_once() -> None:
    assert get_args(Pooling) == POOLINGS == ("norm_mean_norm", "mean_norm")


@pytest.mark.parametrize("how", POOLINGS)
def test_a_single_prompt_is_its_own_pool(how: Pooling) -> None:
    one = prompts(1)
    torch.testing.assert_close(pool_templates(one, how), unit(one[:, 0]))


def test_the_two_poolings_follow_their_equations() -> None:
    raw = prompts(5)
    short = raw / raw.norm(dim=-1, keepdim=True)
    mean = short.mean(1)
    torch.testing.assert_close(
        pool_templates(raw, "norm_mean_norm"), mean / mean.norm(dim=-1, keepdim=True)
    )
    mean = raw.mean(1)
    torch.testing.assert_close(
        pool_templates(raw, "mean_norm"), mean / mean.norm(dim=-1, keepdim=True)
    )


def test_the_two_poolings_differ_only_through_the_lengths() -> None:
    raw = prompts(5)
    assert not torch.allclose(
        *(pool_templates(raw, how) for how in ("norm_mean_norm", "mean_norm"))
    )
    same = unit(raw) * 9
    torch.testing.assert_close(
        pool_templates(same, "norm_mean_norm"), pool_templates(same, "mean_norm")
    )


def test_an_ensemble_of_equal_prompts_is_the_prompt() -> None:
    one = prompts(1)
    for how in POOLINGS:
        torch.testing.assert_close(pool_templates(one.expand(4, 7, 6), how), unit(one[:, 0]))


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.integers(0, 9), st.randoms())
def test_rows_of_zeros_are_no_prompts(counts: list[int], seed: int, order: random.Random) -> None:
    """Classes with different numbers of prompts, wherever the absent ones stand."""
    raw = prompts(5, seed)[: len(counts)]
    for row, count in zip(raw, counts, strict=True):
        row[order.sample(range(5), 5 - count)] = 0
    for how in POOLINGS:
        alone = [pool_templates(row[row.any(dim=-1)], how) for row in raw]
        torch.testing.assert_close(pool_templates(raw, how), torch.stack(alone))


def test_a_class_without_prompts_has_no_direction() -> None:
    for how in POOLINGS:
        assert pool_templates(torch.zeros(2, 3, 6), how).tolist() == [[0.0] * 6] * 2


def test_equal_prompts_count_as_often_as_they_are_there() -> None:
    one, other = prompts(2).unbind(1)
    thrice = pool_templates(torch.stack([one, other, one, one], 1))
    torch.testing.assert_close(thrice, unit((3 * unit(one) + unit(other)) / 4))


@pytest.mark.parametrize("how", POOLINGS)
def test_pooling_in_parts_is_the_same(how: Pooling, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = torch.randn(7, 3, 6, generator=torch.Generator().manual_seed(0))
    whole = pool_templates(raw, how)
    for at_once in (1, 3 * 6, 50, 3 * 6 * 6):
        monkeypatch.setattr(pooling, "_AT_ONCE", at_once)
        assert torch.equal(pool_templates(raw, how), whole)
        assert torch.equal(pool_templates(raw[0], how), whole[0])


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match="'median' is unknown: use one of norm_mean_norm"):
        pool_templates(prompts(2), "median")


@settings(deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 9))
def test_scaled_cosines_do_not_see_lengths(factor: float, seed: int) -> None:
    images, text = prompts(3, seed)[:, 0], prompts(3, seed + 1)[:, 0]
    expected = 100 * torch.nn.functional.cosine_similarity(images[:, None], text[None], dim=-1)
    torch.testing.assert_close(cosine_logits(images * factor, text, 100.0), expected)
    torch.testing.assert_close(cosine_logits(images, text * factor, 100.0), expected)


def test_a_vector_of_length_zero_stays_zero() -> None:
    assert unit(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2
