"""CLIP-Adapter: its limits in the blend, its homogeneity, its start and its training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from handful.functional.bottleneck import bottleneck, residual_blend
from handful.functional.cosine import cosine_logits
from handful.methods.clip_adapter import ClipAdapter
from handful.methods.zero_shot import ZeroShot

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 16))
Y = np.repeat(np.arange(4), 3)
X = CENTRES[Y] + 0.5 * RNG.normal(size=(12, 16))
TEXT = CENTRES + 0.8 * RNG.normal(size=(4, 16))
QUERIES = CENTRES[RNG.integers(4, size=30)] + 0.8 * RNG.normal(size=(30, 16))
ZERO_SHOT = ZeroShot(TEXT).fit(X, Y).logits(QUERIES)


def with_weights(head: ClipAdapter, factor: float) -> ClipAdapter:
    """The fitted head with arbitrary weights instead of those it learned."""
    generator = np.random.default_rng(1)
    head.down_ = (factor * generator.normal(size=head.down_.shape)).astype(np.float32)
    head.up_ = (factor * generator.normal(size=head.up_.shape)).astype(np.float32)
    return head


@pytest.mark.parametrize("factor", [0.0, 1.0, 1e3])
@pytest.mark.parametrize("output_relu", [True, False])
def test_blend_zero_is_zero_shot_whatever_the_weights(factor: float, output_relu: bool) -> None:
    head = ClipAdapter(TEXT, blend=0.0, output_relu=output_relu, epochs=2).fit(X, Y)
    np.testing.assert_allclose(with_weights(head, factor).logits(QUERIES), ZERO_SHOT, rtol=1e-12)


def test_blend_one_is_the_bottleneck_alone() -> None:
    head = ClipAdapter(TEXT, blend=1.0, reduction=1, epochs=5).fit(X, Y)
    short = QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True)
    alone = np.maximum(np.maximum(short @ head.down_, 0) @ head.up_, 0)
    alone /= np.linalg.norm(alone, axis=1, keepdims=True)
    np.testing.assert_allclose(head.transform(QUERIES), alone, atol=1e-6)
    assert (head.transform(QUERIES) >= 0).all()


def test_a_bottleneck_without_output_gives_even_odds_and_no_riddle() -> None:
    """Without residual a feature that every unit rejects has length zero."""
    head = ClipAdapter(TEXT, blend=1.0, epochs=1).fit(X, Y)
    np.testing.assert_array_equal(with_weights(head, 0.0).predict_proba(QUERIES), 0.25)


def test_the_outer_relu_can_be_left_out() -> None:
    head = ClipAdapter(TEXT, blend=1.0, output_relu=False, epochs=5).fit(X, Y)
    assert (head.transform(QUERIES) < 0).any()


@pytest.mark.parametrize("blend", [0.2, 0.6, 1.0])
def test_raw_and_unit_features_give_the_same_logits(blend: float) -> None:
    """The published code puts raw features in; without biases the adapter is homogeneous."""
    head = ClipAdapter(TEXT, blend=blend, epochs=5).fit(X, Y)
    raw = torch.from_numpy(QUERIES)
    down, up = torch.from_numpy(head.down_).double(), torch.from_numpy(head.up_).double()
    blended = residual_blend(bottleneck(raw, down, up), raw, blend)
    expected = cosine_logits(blended, torch.from_numpy(head.text_).double(), 100.0)
    np.testing.assert_allclose(head.logits(QUERIES), expected.numpy(), atol=1e-9)


def test_raw_and_unit_features_train_the_same_head() -> None:
    """Up to the last digits of float32, which 30 steps carry along."""
    short = X / np.linalg.norm(X, axis=1, keepdims=True)
    raw, unit = (ClipAdapter(TEXT, epochs=30).fit(rows, Y).logits(QUERIES) for rows in (X, short))
    np.testing.assert_allclose(raw, unit, rtol=0, atol=1e-3 * np.abs(unit).max())


@pytest.mark.parametrize(("reduction", "hidden"), [(1, 16), (4, 4), (32, 1)])
def test_width_of_the_bottleneck(reduction: int, hidden: int) -> None:
    head = ClipAdapter(TEXT, reduction=reduction, epochs=1).fit(X, Y)
    assert head.down_.shape == (16, hidden) and head.up_.shape == (hidden, 16)
    assert head.down_.dtype == head.up_.dtype == np.float32


def test_starts_as_a_linear_layer_does() -> None:
    """Uniform within ±1/√(inputs): Kaiming with a = √5, the default of torch.nn.Linear."""
    wide = np.random.default_rng(0).normal(size=(4, 256))
    head = ClipAdapter(reduction=4, epochs=0).fit(wide, np.arange(4))
    for weights, inputs in ((head.down_, 256), (head.up_, 64)):
        layer = torch.nn.Linear(inputs, 512, bias=False).weight.detach().numpy()
        assert np.abs(weights).max() <= 1 / np.sqrt(inputs) + 1e-7
        # 16,384 uniform draws: the spread is known to about 1 %.
        assert weights.std() == pytest.approx(layer.std(), rel=0.03)
        assert abs(weights.mean()) < 0.03 * weights.std()


def test_training_lowers_the_loss_on_the_support() -> None:
    def loss(epochs: int) -> float:
        head = ClipAdapter(TEXT, blend=0.6, epochs=epochs).fit(X, Y)
        return float(-np.log(head.predict_proba(X)[np.arange(12), Y]).mean())

    assert loss(100) < 0.5 * loss(0)


def test_transform_gives_unit_features_that_make_the_logits() -> None:
    head = ClipAdapter(TEXT, blend=0.4, epochs=5).fit(X, Y)
    features = head.transform(QUERIES)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1)
    np.testing.assert_allclose(100 * features @ head.text_.T, head.logits(QUERIES), atol=1e-4)


def test_the_text_is_not_trained() -> None:
    head = ClipAdapter(TEXT, epochs=5).fit(X, Y)
    np.testing.assert_array_equal(head.text_, ZeroShot(TEXT).fit(X, Y).text_)
