"""CLIP-Adapter's bottleneck and Tip-Adapter's cache as equations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.functional.bottleneck import bottleneck, layer_start, residual_blend
from handful.functional.kernel import cache_kernel, cache_votes
from handful.functional.normalise import unit


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, DOWN, UP = normal(5, 8), normal(8, 3, seed=1), normal(3, 8, seed=2)


def test_bottleneck_follows_its_equation() -> None:
    hidden = (X @ DOWN).clamp_min(0)
    torch.testing.assert_close(bottleneck(X, DOWN, UP), (hidden @ UP).clamp_min(0))
    torch.testing.assert_close(bottleneck(X, DOWN, UP, output_relu=False), hidden @ UP)


def test_biases_are_the_last_rows() -> None:
    down, up = normal(9, 3, seed=3), normal(4, 8, seed=4)
    hidden = (X @ down[:8] + down[8]).clamp_min(0)
    torch.testing.assert_close(
        bottleneck(X, down, up, output_relu=False, bias=True), hidden @ up[:3] + up[3]
    )
    together = bottleneck(X.expand(2, 5, 8), down.expand(2, 9, 3), up.expand(2, 4, 8), bias=True)
    torch.testing.assert_close(together[1], bottleneck(X, down, up, bias=True))


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_starts_as_those_of_torch_do(bias: bool) -> None:
    """Uniform within ±1/√inputs, weights and biases; 65,536 draws tell the spread to 1 %."""
    start = layer_start(256, 256, torch.Generator().manual_seed(0), bias=bias)
    assert start.shape == (256 + bias, 256)
    layer = torch.nn.Linear(256, 256)
    for part, same in [(start[:256], layer.weight), (start[256:], layer.bias)][: 1 + bias]:
        assert float(part.abs().max()) <= 1 / 16
        assert float(part.abs().max()) > 0.97 / 16
        assert float(part.std()) == pytest.approx(float(same.std()), rel=0.15)
    assert float(start[:256].std()) == pytest.approx(1 / 16 / 3**0.5, rel=0.02)


def test_output_is_non_negative_with_the_outer_relu_only() -> None:
    assert (bottleneck(X, DOWN, UP) >= 0).all()
    assert (bottleneck(X, DOWN, UP, output_relu=False) < 0).any()


@settings(deadline=None)
@given(st.floats(1e-3, 1e3), st.booleans())
def test_bottleneck_is_positively_homogeneous(k: float, output_relu: bool) -> None:
    torch.testing.assert_close(
        bottleneck(k * X, DOWN, UP, output_relu=output_relu),
        k * bottleneck(X, DOWN, UP, output_relu=output_relu),
    )


def test_runs_in_front_are_independent() -> None:
    downs, ups = normal(4, 8, 3, seed=3), normal(4, 3, 8, seed=4)
    together = bottleneck(X.expand(4, 5, 8), downs, ups)
    for one, down, up in zip(together, downs, ups, strict=True):
        torch.testing.assert_close(one, bottleneck(X, down, up))


def test_blend_is_the_share_of_the_new() -> None:
    new = normal(5, 8, seed=5)
    assert torch.equal(residual_blend(new, X, 0.0), X)
    assert torch.equal(residual_blend(new, X, 1.0), new)
    torch.testing.assert_close(residual_blend(new, X, 0.3), 0.3 * new + 0.7 * X)


def test_kernel_is_a_gaussian_of_the_distance_between_unit_vectors() -> None:
    x, keys = unit(X), unit(normal(6, 8, seed=6))
    torch.testing.assert_close(
        cache_kernel(x @ keys.T, 5.5), torch.exp(-5.5 * torch.cdist(x, keys) ** 2 / 2)
    )


KEY_LABELS = torch.tensor([0, 0, 1, 3, 3, 3])


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 5.5, 50.0])
def test_votes_are_the_product_with_one_hot_labels(sharpness: float) -> None:
    affinity = unit(X) @ unit(normal(6, 8, seed=6)).T
    one_hot = torch.nn.functional.one_hot(KEY_LABELS, 4).double()
    votes = cache_votes(affinity, KEY_LABELS, 4, sharpness)
    torch.testing.assert_close(votes, torch.exp(-sharpness * (1 - affinity)) @ one_hot)
    assert (votes[:, 2] == 0).all()  # a class without keys


def test_order_of_keys_does_not_matter() -> None:
    affinity = unit(X) @ unit(normal(6, 8, seed=6)).T
    order = torch.tensor([5, 2, 0, 4, 1, 3])
    torch.testing.assert_close(
        cache_votes(affinity[:, order], KEY_LABELS[order], 4, 5.5),
        cache_votes(affinity, KEY_LABELS, 4, 5.5),
    )


@settings(deadline=None)
@given(st.floats(20, 300), st.integers(0, 20))
def test_votes_of_a_sharp_kernel_are_those_of_the_nearest_key(beta: float, seed: int) -> None:
    """In log space: max_k a_k ≤ 1 + log(Q_c) / β ≤ max_k a_k + log(K_c) / β, so that only the
    nearest key of each class counts as β grows. Above β of about 370 the kernel may underflow."""
    affinity = unit(normal(5, 8, seed=seed)) @ unit(normal(6, 8, seed=seed + 1)).T
    votes = cache_votes(affinity, KEY_LABELS, 4, beta)
    for c in (0, 1, 3):
        own = affinity[:, c == KEY_LABELS]
        nearest, found = own.amax(dim=1), 1 + votes[:, c].log() / beta
        assert (found >= nearest - 1e-9).all()
        assert (found <= nearest + torch.tensor(own.shape[1]).log() / beta + 1e-9).all()
