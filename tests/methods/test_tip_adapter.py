"""Tip-Adapter and Tip-Adapter-F: the limits of the cache, and the training of its keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from handful.methods.tip_adapter import TipAdapter, TipAdapterF
from handful.methods.zero_shot import ZeroShot

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 16))
Y = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
X = CENTRES[Y] + 0.5 * RNG.normal(size=(10, 16))
VIEWS = X[:, None] + 0.3 * RNG.normal(size=(10, 5, 16))
TEXT = CENTRES + 0.8 * RNG.normal(size=(4, 16))
QUERIES = CENTRES[RNG.integers(4, size=30)] + 0.8 * RNG.normal(size=(30, 16))
ZERO_SHOT = ZeroShot(TEXT).fit(X, Y).logits(QUERIES)

both = pytest.mark.parametrize("kind", [TipAdapter, TipAdapterF])


def logits(kind: type[TipAdapter], rows: np.ndarray = X, labels: np.ndarray = Y, **settings: Any):
    return kind(TEXT, **settings).fit(rows, labels).logits(QUERIES)


@both
def test_blend_zero_is_zero_shot(kind: type[TipAdapter]) -> None:
    np.testing.assert_array_equal(logits(kind, blend=0.0), ZERO_SHOT)


@pytest.mark.parametrize("views", [None, VIEWS])
def test_f_without_training_is_tip(views: np.ndarray | None) -> None:
    tip = TipAdapter(TEXT, sharpness=5.5).fit(X, Y, views=views)
    f = TipAdapterF(TEXT, sharpness=5.5, epochs=0).fit(X, Y, views=views)
    np.testing.assert_array_equal(f.keys_, tip.keys_)
    np.testing.assert_array_equal(f.logits(QUERIES), tip.logits(QUERIES))


def test_twice_the_keys_at_half_the_blend() -> None:
    twice = logits(TipAdapter, np.tile(X, (2, 1)), np.tile(Y, 2), blend=1.5, sharpness=5.5)
    np.testing.assert_allclose(twice, logits(TipAdapter, blend=3.0, sharpness=5.5), rtol=1e-12)


@both
def test_a_flat_kernel_counts_the_keys_of_each_class(kind: type[TipAdapter]) -> None:
    found = logits(kind, blend=0.7, sharpness=0.0, class_weight="none")
    np.testing.assert_allclose(found - ZERO_SHOT, np.tile(0.7 * np.bincount(Y), (30, 1)), atol=1e-9)


def test_a_sharp_kernel_is_the_nearest_neighbour() -> None:
    """Where β is so large that the number of keys cannot outweigh a nearer one, and α so large
    that the text cannot either; β stays below where the kernel underflows."""
    short, keys = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (QUERIES, X))
    affinity = short @ keys.T
    ordered = np.sort(affinity, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 0.02  # e^(300 · 0.02) = 403 > 4 keys
    assert clear.sum() > 15
    found = logits(TipAdapter, blend=1e120, sharpness=300.0).argmax(axis=1)
    np.testing.assert_array_equal(found[clear], Y[affinity.argmax(axis=1)][clear])


def test_keys_may_come_in_any_order() -> None:
    order = np.random.default_rng(1).permutation(10)
    np.testing.assert_allclose(
        logits(TipAdapter, X[order], Y[order], sharpness=5.5),
        logits(TipAdapter, sharpness=5.5),
        rtol=1e-12,
    )


@both
def test_keys_are_unit_means_of_raw_views(kind: type[TipAdapter]) -> None:
    """Raw average first, one normalisation last."""
    settings = {"epochs": 0} if kind is TipAdapterF else {}
    head = kind(TEXT, **settings).fit(X, Y, views=VIEWS)  # type: ignore[arg-type]
    mean = VIEWS.mean(axis=1)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(head.keys_, expected, atol=1e-6)
    np.testing.assert_array_equal(head.key_labels_, Y)


@both
def test_sweep_gives_what_refitting_with_each_sharpness_gives(kind: type[TipAdapter]) -> None:
    values = (0.5, 5.5, 50.0)
    head = kind(TEXT).fit(X, Y)
    swept = list(head.sweep(QUERIES, [{"sharpness": value} for value in values]))
    assert len(swept) == 3
    for sharpness, (base, votes) in zip(values, swept, strict=True):
        np.testing.assert_array_equal(base, ZERO_SHOT)
        expected = logits(kind, sharpness=sharpness, blend=2.5)
        np.testing.assert_allclose((base + 2.5 * votes).numpy(), expected, rtol=1e-12)
    ((base, votes),) = head.sweep(QUERIES)  # without points: the head's own
    np.testing.assert_allclose(base + head.blend * votes, head.logits(QUERIES), rtol=1e-12)


def test_training_lowers_the_loss_on_the_support() -> None:
    def loss(epochs: int) -> float:
        # At a small scale the text leaves something to learn.
        head = TipAdapterF(TEXT, epochs=epochs, logit_scale=1.0).fit(X, Y)
        return float(-np.log(head.predict_proba(X)[np.arange(10), Y]).mean())

    assert loss(40) < loss(20) < loss(0)


def test_blend_and_sharpness_are_those_of_prediction_only() -> None:
    one, other = (
        TipAdapterF(TEXT, blend=b, sharpness=s).fit(X, Y) for b, s in ((1.0, 1.0), (9.0, 20.0))
    )
    np.testing.assert_array_equal(one.keys_, other.keys_)


def test_the_first_step_follows_the_gradient() -> None:
    """AdamW's first step of size lr with eps 1e-4 and decay 0.01, from an independent gradient."""
    head = TipAdapterF(TEXT, epochs=1, lr=1e-3, train_blend=2.0, train_sharpness=3.0).fit(X, Y)
    x = torch.from_numpy(X / np.linalg.norm(X, axis=1, keepdims=True))
    text = torch.from_numpy(TEXT / np.linalg.norm(TEXT, axis=1, keepdims=True))
    keys = x.clone().requires_grad_()
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(Y), 4).double()
    found = 100 * x @ text.T + 2.0 * torch.exp(-3.0 * (1 - x @ keys.T)) @ one_hot
    torch.nn.functional.cross_entropy(found, torch.from_numpy(Y)).backward()
    gradient = keys.grad
    assert gradient is not None
    # After one step both moments are corrected to the gradient itself.
    expected = x * (1 - 1e-3 * 0.01) - 1e-3 * gradient / (gradient.abs() + 1e-4)
    np.testing.assert_allclose(head.keys_, expected, atol=2e-6)


def test_training_leaves_the_training_free_keys_alone() -> None:
    """The published code trains a view of the cache, which changes Tip-Adapter as well."""
    features = X.astype(np.float32) / np.linalg.norm(X, axis=1, keepdims=True).astype(np.float32)
    before = features.copy()
    TipAdapterF(TEXT).fit(features, Y)
    np.testing.assert_array_equal(features, before)


def test_f_trains_on_one_view_of_each_image_in_an_epoch() -> None:
    """Two images with two views each: one step ends in one of four places, and every one of them
    is met; steps on the mean of the views, or on both, end elsewhere."""
    rows, labels, views, text = X[[0, 3]], Y[[0, 3]], VIEWS[[0, 3], :2], TEXT[:2]

    def unit(a: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(a / np.linalg.norm(a, axis=-1, keepdims=True))

    def stepped(x: np.ndarray) -> np.ndarray:
        keys = unit(views.mean(axis=1)).requires_grad_()
        # A small scale, so that the text leaves something to learn.
        logits = unit(x) @ unit(text).T + torch.exp(-5.5 * (1 - unit(x) @ keys.T))
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
        gradient, before = keys.grad, keys.detach()
        assert gradient is not None
        return (before * (1 - 0.1 * 0.01) - 0.1 * gradient / (gradient.abs() + 1e-4)).numpy()

    places = [stepped(views[[0, 1], [a, b]]) for a in (0, 1) for b in (0, 1)]
    met = set()
    for seed in range(20):
        head = TipAdapterF(text, epochs=1, lr=0.1, logit_scale=1.0, random_state=seed)
        keys = head.fit(rows, labels, views=views).keys_
        (place,) = [i for i, p in enumerate(places) if np.allclose(keys, p, atol=1e-5)]
        met.add(place)
    assert met == {0, 1, 2, 3}
