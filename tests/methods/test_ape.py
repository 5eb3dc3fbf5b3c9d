"""APE and APE-T: what is left without choice of channels, published outputs, training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from oracles import Oracle, OracleInputs, assert_agree

from handful import FewShotTask, select
from handful.functional.channels import (
    best_channels,
    channel_criterion,
    key_divergence,
    shifted_cache,
)
from handful.methods.ape import Ape, ApePlusPlus, ApeT
from handful.methods.head import Head
from handful.methods.tip_adapter import TipAdapter
from handful.methods.zero_shot import ZeroShot

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 16))
Y = np.array([0, 0, 2, 2, 0, 1, 1, 2, 2, 3])
X = CENTRES[Y] + 0.5 * RNG.normal(size=(10, 16))
VIEWS = X[:, None] + 0.3 * RNG.normal(size=(10, 5, 16))
TEXT = CENTRES + 0.8 * RNG.normal(size=(4, 16))
QUERIES = CENTRES[RNG.integers(4, size=30)] + 0.8 * RNG.normal(size=(30, 16))
ZERO_SHOT = ZeroShot(TEXT).fit(X, Y).logits(QUERIES)

both = pytest.mark.parametrize("kind", [Ape, ApeT])
with_and_without_views = pytest.mark.parametrize("views", [None, VIEWS])


def unit(a: np.ndarray) -> np.ndarray:
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def fit(kind: type[Head], rows: np.ndarray = X, labels: np.ndarray = Y, **settings: Any) -> Any:
    return kind(TEXT, **settings).fit(rows, labels)


# -- APE -------------------------------------------------------------------------------------------


@with_and_without_views
@pytest.mark.parametrize(("blend", "sharpness"), [(1.0, 5.5), (7.0, 1.0)])
def test_all_channels_and_equal_weights_are_tip_adapter(
    views: np.ndarray | None, blend: float, sharpness: float
) -> None:
    ape = Ape(TEXT, keep=1.0, emphasis=0.0, blend=blend, sharpness=sharpness)
    tip = TipAdapter(TEXT, blend=blend, sharpness=sharpness)
    found, expected = (h.fit(X, Y, views=views) for h in (ape, tip))
    np.testing.assert_allclose(found.keys_, expected.keys_, atol=1e-7)
    np.testing.assert_allclose(found.logits(QUERIES), expected.logits(QUERIES), rtol=1e-6)


def test_blend_zero_is_zero_shot() -> None:
    np.testing.assert_array_equal(fit(Ape, blend=0.0).logits(QUERIES), ZERO_SHOT)


def test_the_zero_shot_term_has_all_channels_and_the_cache_the_chosen_ones() -> None:
    how = {"keep": 0.5, "emphasis": 0.3, "blend": 2.0, "sharpness": 3.0}
    head = fit(Ape, class_weight="none", **how)
    text, keys = unit(TEXT), unit(X)
    scores = channel_criterion(
        torch.from_numpy(text), 0.7, torch.from_numpy(keys), torch.from_numpy(Y)
    )
    chosen = np.sort(np.argsort(-scores.numpy())[:8])
    np.testing.assert_array_equal(head.channels_, chosen)
    x, f, w = (unit(a[:, chosen]) for a in (QUERIES, X, TEXT))
    predicted = np.exp(f @ w.T) / np.exp(f @ w.T).sum(axis=1, keepdims=True)
    divergences = -np.log2(predicted[np.arange(10), Y])
    np.testing.assert_allclose(head.divergences_, divergences, atol=1e-5)
    weights = np.exp(0.3 * divergences)
    votes = np.exp(-3.0 * (1 - x @ f.T)) @ (weights[:, None] * np.eye(4)[Y])
    np.testing.assert_allclose(head.logits(QUERIES), ZERO_SHOT + 2.0 * votes, rtol=1e-5)


@pytest.mark.parametrize(("keep", "expected"), [(1.0, 16), (0.7, 11), (0.5, 8), (0.01, 2)])
@both
def test_share_of_channels(kind: type[Head], keep: float, expected: int) -> None:
    assert fit(kind, keep=keep).channels_.shape == (expected,)


@both
def test_permuting_channels_permutes_the_selection(kind: type[Head]) -> None:
    order = np.random.default_rng(1).permutation(16)
    expected = fit(kind)
    found = kind(TEXT[:, order]).fit(X[:, order], Y)
    assert {order[c] for c in found.channels_} == set(expected.channels_.tolist())  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        found.logits(QUERIES[:, order]), expected.logits(QUERIES), rtol=0, atol=1e-3
    )


def test_keys_are_the_chosen_channels_of_unit_means_of_raw_views() -> None:
    head = Ape(TEXT, keep=0.5).fit(X, Y, views=VIEWS)
    expected = unit(unit(VIEWS.mean(axis=1))[:, head.channels_])
    np.testing.assert_allclose(head.keys_, expected, atol=1e-6)


def test_emphasis_favours_keys_that_the_text_would_not_expect() -> None:
    """Two keys of one class, one of which looks like the other class: its own neighbourhood is
    where emphasis adds most, beyond the common factor."""
    text = np.eye(2)
    rows, labels = np.array([[1.0, 0.1], [0.1, 1.0], [0.0, 1.0]]), np.array([0, 0, 1])
    head = Ape(text, keep=1.0).fit(rows, labels)
    typical, untypical, _ = head.divergences_
    assert untypical > typical + 0.5


def test_of_a_correction_the_text_is_asked_about_the_original_keys() -> None:
    """Written out: channels by corrected keys and text, cosines corrected, R of original keys."""
    turn = np.random.default_rng(5).normal(size=(16, 16))
    head = ApePlusPlus(TEXT, keep=0.5, emphasis=1.5, sharpness=2.0, blend=3.0, class_weight="none")
    head.fit(np.concatenate([X, X @ turn], axis=1), Y)
    keys, asked, text = unit(X @ turn), unit(X), unit(TEXT)
    criterion = channel_criterion(
        torch.from_numpy(text), 0.7, torch.from_numpy(keys), torch.from_numpy(Y)
    )
    chosen = np.sort(np.argsort(-criterion.numpy())[:8])
    np.testing.assert_array_equal(head.channels_, chosen)
    cosines = unit(asked[:, chosen]) @ unit(text[:, chosen]).T
    own = (np.exp(cosines) / np.exp(cosines).sum(axis=1, keepdims=True))[np.arange(10), Y]
    divergence = np.log2((1 + 1e-6) / (own + 1e-6))
    affinity = unit((QUERIES @ turn)[:, chosen]) @ unit(keys[:, chosen]).T
    votes = np.exp(-2.0 * (1 - affinity)) * np.exp(1.5 * divergence) @ np.eye(4)[Y]
    found = head.logits(np.concatenate([QUERIES, QUERIES @ turn], axis=1))
    np.testing.assert_allclose(found, ZERO_SHOT + 3 * votes, rtol=0, atol=1e-4)


def test_sweep_gives_what_refitting_with_each_pair_gives() -> None:
    """In the order that selection asks in, and in any other."""
    points = [{"sharpness": b, "emphasis": g} for b in (1.0, 20.0) for g in (0.0, 0.5, 1.0)]
    points += [{"emphasis": 0.3}, points[0], {"sharpness": 20.0}]
    head = fit(Ape)
    for point, (base, votes) in zip(points, head.sweep(QUERIES, points), strict=True):
        expected = fit(Ape, **point, blend=2.5).logits(QUERIES)
        np.testing.assert_allclose((base + 2.5 * votes).numpy(), expected, rtol=1e-12)


def test_what_is_searched() -> None:
    task = FewShotTask(X, Y, QUERIES[:8], np.arange(8) % 4, TEXT)
    chosen = select("ape", task, "val").selection_
    assert chosen.settings.keys() == {"sharpness", "emphasis", "blend"}
    assert len(chosen.trace) == 30 * 6
    chosen = select("ape-t", task, "val", epochs=2).selection_
    assert chosen.settings.keys() == {"sharpness", "blend"}
    assert len(chosen.trace) == 30


# -- APE-T -----------------------------------------------------------------------------------------


@with_and_without_views
@pytest.mark.parametrize("keep", [0.3, 1.0])
def test_t_without_training_is_tip_adapter(views: np.ndarray | None, keep: float) -> None:
    t = ApeT(TEXT, keep=keep, blend=2.0, sharpness=4.0, epochs=0).fit(X, Y, views=views)
    tip = TipAdapter(TEXT, blend=2.0, sharpness=4.0, class_weight="none")
    tip.fit(X, Y, views=views)
    np.testing.assert_array_equal(t.keys_, tip.keys_)
    np.testing.assert_allclose(t.logits(QUERIES), tip.logits(QUERIES), rtol=1e-12)


def with_parameters(head: Any, seed: int = 1) -> Any:
    """The fitted head with arbitrary parameters instead of those it learned."""
    generator = np.random.default_rng(seed)
    head.residual_ = (0.2 * generator.normal(size=head.residual_.shape)).astype(np.float32)
    head.key_weights_ = generator.uniform(0.5, 2, size=10).astype(np.float32)
    return head


def naive(head: Any, x: np.ndarray) -> np.ndarray:
    """Moves the text and every key, as the paper writes it."""
    moves = np.zeros((4, 16))
    moves[:, head.channels_] = head.residual_
    text, keys, x = unit(TEXT) + moves, head.keys_ + moves[Y], unit(x)
    kernel = np.exp(-head.sharpness * (1 - x @ keys.T))
    return 100 * x @ text.T + head.blend * kernel @ (head.key_weights_[:, None] * np.eye(4)[Y])


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 8.0])
def test_t_moves_text_and_keys_of_a_class_alike(sharpness: float) -> None:
    head = with_parameters(fit(ApeT, keep=0.5, blend=3.0, sharpness=sharpness, epochs=0))
    np.testing.assert_allclose(head.logits(QUERIES), naive(head, QUERIES), rtol=1e-5)


def test_t_chooses_channels_by_the_text_alone() -> None:
    one, other = fit(ApeT, epochs=1), fit(ApeT, QUERIES[:10], epochs=1)
    np.testing.assert_array_equal(one.channels_, other.channels_)
    expected = best_channels(channel_criterion(torch.from_numpy(unit(TEXT)), 0.2), 0.7)
    np.testing.assert_array_equal(one.channels_, expected)
    one, other = fit(Ape), fit(Ape, QUERIES[:10])
    assert set(one.channels_.tolist()) != set(other.channels_.tolist())


def test_t_sweep_gives_what_refitting_with_each_sharpness_gives() -> None:
    head = fit(ApeT)
    points = [{"sharpness": value} for value in (0.5, 5.5, 50.0)]
    for point, (base, votes) in zip(points, head.sweep(QUERIES, points), strict=True):
        expected = fit(ApeT, **point, blend=2.5).logits(QUERIES)
        np.testing.assert_allclose((base + 2.5 * votes).numpy(), expected, rtol=1e-12)


def test_t_blend_and_sharpness_are_those_of_prediction_only() -> None:
    one, other = (fit(ApeT, blend=b, sharpness=s) for b, s in ((1.0, 1.0), (9.0, 20.0)))
    np.testing.assert_array_equal(one.residual_, other.residual_)
    np.testing.assert_array_equal(one.key_weights_, other.key_weights_)


def test_t_first_step_follows_the_gradient() -> None:
    """AdamW's first step of size lr with eps 1e-3 and decay 0.1, from an independent gradient."""
    settings = {"train_blend": 2.0, "train_sharpness": 3.0, "keep": 0.5}
    head = fit(ApeT, epochs=1, lr=1e-2, class_weight="none", **settings)
    x, text = torch.from_numpy(unit(X)), torch.from_numpy(unit(TEXT))
    residual = torch.zeros(4, 8, dtype=torch.float64, requires_grad=True)
    weights = torch.ones(10, dtype=torch.float64, requires_grad=True)
    labels = torch.from_numpy(Y)
    moves = torch.zeros(4, 16, dtype=torch.float64).index_add(
        1, torch.from_numpy(head.channels_), residual
    )
    kernel = torch.exp(-3.0 * (1 - x @ (x + moves[labels]).T))
    one_hot = torch.nn.functional.one_hot(labels, 4).double()
    logits = 100 * x @ (text + moves).T + 2.0 * kernel @ (weights[:, None] * one_hot)
    torch.nn.functional.cross_entropy(logits, labels).backward()
    for start, found in ((residual, head.residual_), (weights, head.key_weights_)):
        gradient, before = start.grad, start.detach()
        assert gradient is not None
        # After one step both moments are corrected to the gradient itself.
        expected = before * (1 - 1e-2 * 0.1) - 1e-2 * gradient / (gradient.abs() + 1e-3)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_t_training_lowers_the_loss_on_the_support() -> None:
    def loss(epochs: int) -> float:
        # At a small scale the text leaves something to learn.
        head = ApeT(TEXT, epochs=epochs, logit_scale=1.0).fit(X, Y)
        return float(-np.log(head.predict_proba(X)[np.arange(10), Y]).mean())

    assert loss(60) < loss(30) < loss(0)


def test_t_trains_a_number_per_class_and_channel_and_one_per_key() -> None:
    head = fit(ApeT, keep=0.5)
    assert sum(getattr(head, name).size for name in head.trained) == 4 * 8 + 10


# -- as published ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(oracle: Oracle) -> dict[str, torch.Tensor]:
    return oracle("ape")


def test_criterion_and_key_weights_as_published(
    published: dict[str, torch.Tensor], oracle_inputs: OracleInputs
) -> None:
    keys, labels, text = oracle_inputs.support, oracle_inputs.labels, oracle_inputs.text
    criterion = channel_criterion(text, 0.7, keys, labels)
    assert_agree(criterion, published["criterion"])
    assert_agree(-channel_criterion(text, 1.0, keys, labels), published["similarity"])
    assert_agree(channel_criterion(text, 0.0, keys, labels), published["variance"])
    assert_agree(-channel_criterion(text, 1.0), published["t_text_similarity"])
    assert_agree(channel_criterion(text, 0.7), published["t_criterion"])
    # The first channel that is left out is 1.4e-7 behind: float64 is needed, and enough.
    channels = best_channels(criterion, 350 / 512)
    assert set(channels.tolist()) == set(published["index"].tolist())
    found = key_divergence(keys[:, channels], labels, text[:, channels])
    assert_agree(found, published["key_weight_divergence"])
    assert_agree(torch.exp(0.2 * found), published["key_weight"])


def test_ape_as_published(published: dict[str, torch.Tensor], oracle_inputs: OracleInputs) -> None:
    given = oracle_inputs
    head = Ape(given.text.numpy(), blend=2.0, sharpness=5.5, emphasis=0.2, keep=350 / 512)
    head.fit(given.support.numpy(), given.labels.numpy())
    order = published["index"].argsort()
    assert_agree(head.keys_, published["refined_keys"][:, order])
    assert_agree(head.divergences_, published["key_weight_divergence"])
    assert_agree(head.logits(given.queries.numpy()), published["logits"])


def test_ape_t_as_published(
    published: dict[str, torch.Tensor], oracle_inputs: OracleInputs
) -> None:
    given = oracle_inputs
    settings = {"similarity_share": 0.7, "keep": 350 / 512, "epochs": 0}
    head = ApeT(given.text.numpy(), blend=2.0, sharpness=5.5, **settings)
    head.fit(given.support.numpy(), given.labels.numpy())
    order = published["t_index"].argsort()
    np.testing.assert_array_equal(head.channels_, published["t_index"][order])
    head.residual_ = published["t_res"][:, order].contiguous().numpy()
    head.key_weights_ = published["t_value_weights"][:, 0].contiguous().numpy()
    assert_agree(head.logits(given.queries.numpy()), published["t_logits"])
    assert_agree(head.logits(given.support.numpy()), published["t_support_logits"])


def test_ape_t_loss_and_gradients_as_published(
    published: dict[str, torch.Tensor], oracle_inputs: OracleInputs
) -> None:
    x, labels, text = oracle_inputs.support, oracle_inputs.labels, oracle_inputs.text
    residual = published["t_res"].clone().requires_grad_()
    weights = published["t_value_weights"][:, 0].clone().requires_grad_()
    cosines, votes = shifted_cache(
        x,
        residual,
        weights,
        channels=published["t_index"],
        text=text,
        keys=x,
        values=torch.nn.functional.one_hot(labels, 19).float(),
        sharpness=5.5,
    )
    logits = 100 * cosines + 2.0 * votes
    assert_agree(logits.detach(), published["t_support_logits"])
    loss = torch.nn.functional.cross_entropy(logits, labels)
    assert_agree(loss.detach()[None], published["t_support_loss"])
    loss.backward()
    assert residual.grad is not None and weights.grad is not None
    assert_agree(residual.grad, published["t_grad_res"])
    assert_agree(weights.grad[:, None], published["t_grad_value_weights"])
