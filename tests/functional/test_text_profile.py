"""The divergence term of Tip-X: against its definition, and the collapsed form against the sum."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.functional.normalise import unit
from handful.functional.text_profile import (
    Rescale,
    class_profiles,
    divergence,
    log_profile,
    profile_votes,
    profile_votes_by_key,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, KEYS, TEXT = normal(7, 8), normal(9, 8, seed=1), normal(4, 8, seed=2)
RESCALE = Rescale(0.001, 0.2, 0.3, 0.9)


def of(x: torch.Tensor) -> torch.Tensor:
    return log_profile(x, TEXT)


def test_profile_is_a_softmax_of_cosines() -> None:
    for temperature in (0.5, 2.0):
        expected = torch.softmax(unit(X) @ unit(TEXT).T / temperature, dim=1)
        found = log_profile(5 * X, 3 * TEXT, temperature)
        torch.testing.assert_close(found.exp() / 4, expected)
        torch.testing.assert_close(found - math.log(4), expected.log())


def test_single_precision_comes_out_in_double() -> None:
    assert log_profile(X.float(), TEXT.float()).dtype == torch.float64


# 100 images were a block of the published code, whose remainder was left at 0.
@pytest.mark.parametrize("n_images", [1, 99, 100, 140, 201])
def test_divergence_is_the_sum_over_classes_for_any_number_of_images(n_images: int) -> None:
    log_p, log_q = of(normal(n_images, 8, seed=3)), of(KEYS)
    p, q = log_p.exp() / 4, log_q.exp() / 4
    expected = torch.stack(
        [torch.stack([(p_i * (p_i / q_k).log()).sum() for q_k in q]) for p_i in p]
    )
    found = divergence(log_p, log_q)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-15)
    assert (found > 0).all()


@settings(deadline=None)
@given(st.integers(0, 50), st.floats(0.05, 5.0))
def test_divergence_is_never_negative_and_zero_for_itself(seed: int, temperature: float) -> None:
    log_p = log_profile(normal(6, 8, seed=seed), TEXT, temperature)
    found = divergence(log_p, log_p)
    assert (found >= 0).all()
    assert (found.diagonal() < 1e-14).all()


# -- the collapsed form ----------------------------------------------------------------------------


def test_collapsed_votes_are_the_sum_over_keys() -> None:
    labels = torch.tensor([0, 1, 2, 2, 0, 1, 1, 2, 0])  # three of each, the fourth class has none
    log_p, log_q = of(X), of(KEYS)
    found = profile_votes(log_p, class_profiles(log_q, labels, 4), 3, RESCALE)
    expected = profile_votes_by_key(divergence(log_p, log_q), labels, 4, RESCALE)
    torch.testing.assert_close(found[:, :3], expected[:, :3], rtol=1e-10, atol=1e-12)
    # Nothing speaks for or against a class without keys.
    torch.testing.assert_close(found[:, 3], found[:, :3].mean(dim=1))
    assert (expected[:, 3] == 0).all()


def test_with_unequal_counts_it_is_the_mean_over_keys_times_their_mean_number() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 2, 2, 3, 3])
    log_p, log_q = of(X), of(KEYS)
    found = profile_votes(log_p, class_profiles(log_q, labels, 4), 9 / 4, RESCALE)
    sums = profile_votes_by_key(divergence(log_p, log_q), labels, 4, RESCALE)
    torch.testing.assert_close(found, 9 / 4 * sums / labels.bincount(), rtol=1e-10, atol=1e-12)


# -- the rescaling ---------------------------------------------------------------------------------


def test_rescale_sends_one_range_to_the_other() -> None:
    divergences, affinity = normal(3, 5).abs(), normal(4, 2, seed=1)
    found = Rescale.between(divergences, affinity)(divergences)
    torch.testing.assert_close(found.min(), affinity.min())
    torch.testing.assert_close(found.max(), affinity.max())
    assert found.argmax() == divergences.argmax()


def test_the_base_of_the_logarithm_plays_no_part() -> None:
    divergences, affinity = divergence(of(X), of(KEYS)), unit(X) @ unit(KEYS).T
    natural = Rescale.between(divergences, affinity)(divergences)
    bits = divergences / math.log(2)
    torch.testing.assert_close(Rescale.between(bits, affinity)(bits), natural)


@pytest.mark.parametrize("block", [1, 4, 9, 1024])
def test_among_support_images_none_is_compared_with_itself(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handful.functional.text_profile._BLOCK", block)
    found = Rescale.of_support(unit(KEYS), of(KEYS))
    others = [(i, k) for i in range(9) for k in range(9) if i != k]
    affinity = [float(unit(KEYS)[i] @ unit(KEYS)[k]) for i, k in others]
    divergences = [float(divergence(of(KEYS), of(KEYS))[i, k]) for i, k in others]
    expected = (min(divergences), max(divergences), min(affinity), max(affinity))
    assert (found.lowest, found.highest, found.start, found.end) == pytest.approx(expected)
    assert found.lowest > 0 and found.end < 1


def test_two_support_images_have_one_cosine_and_so_count_themselves() -> None:
    keys = unit(KEYS[:2])
    found = Rescale.of_support(keys, of(keys))
    assert found.lowest == pytest.approx(0, abs=1e-14)
    assert found.end == pytest.approx(1)
    assert found.start == pytest.approx(float(keys[0] @ keys[1]))
    assert found.slope > 0


def test_a_single_support_image_has_no_range() -> None:
    keys = unit(KEYS[:1])
    found = Rescale.of_support(keys, of(keys))
    assert found.slope == 0
    torch.testing.assert_close(found(normal(3, 1)), torch.ones(3, 1, dtype=torch.float64))


def test_rounding_is_no_range() -> None:
    """Otherwise images with equal profiles would be ranked by the last digit, enormously."""
    assert Rescale(0.0, 1e-17, 0.2, 0.9).slope == 0
    assert Rescale(0.0, 1e-6, 0.2, 0.9).slope == pytest.approx(0.7e6)
