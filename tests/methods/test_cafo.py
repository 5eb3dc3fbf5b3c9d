"""CaFo: the limits of fused caches, and the training of their keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from handful import FewShotTask, InputError, select
from handful.functional.agreement import standardise
from handful.methods.cafo import Cafo
from handful.methods.tip_adapter import TipAdapter
from handful.methods.zero_shot import ZeroShot
from handful.selection.select import check_encoders

RNG = np.random.default_rng(0)
WIDTHS = (16, 10)
CENTRES, OTHER = RNG.normal(size=(4, 16)), RNG.normal(size=(4, 10))
Y = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])


def seen(labels: np.ndarray, noise: float) -> np.ndarray:
    """Features of both encoders side by side; the second has its own scale."""
    first = CENTRES[labels] + noise * RNG.normal(size=(len(labels), 16))
    second = OTHER[labels] + noise * RNG.normal(size=(len(labels), 10))
    return np.concatenate([first, 30 * second], axis=1)


X, QUERIES = seen(Y, 0.5), seen(RNG.integers(4, size=30), 0.8)
VIEWS = X[:, None] + 0.3 * RNG.normal(size=(10, 5, 26))
TEXT = CENTRES + 0.8 * RNG.normal(size=(4, 16))
ZERO_SHOT = ZeroShot(TEXT).fit(X[:, :16], Y).logits(QUERIES[:, :16])


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def logits(rows: np.ndarray = X, labels: np.ndarray = Y, queries: np.ndarray = QUERIES, **how: Any):
    settings = {"epochs": 0, "widths": WIDTHS, **how}
    return Cafo(TEXT, **settings).fit(rows, labels).logits(queries)


@pytest.mark.parametrize("epochs", [0, 3])
def test_blend_zero_is_zero_shot_of_the_first_encoder(epochs: int) -> None:
    np.testing.assert_allclose(logits(blend=0.0, epochs=epochs), ZERO_SHOT, rtol=1e-12)


@pytest.mark.parametrize("agreement", ["sum", "mean"])
def test_untrained_it_follows_its_equation(agreement: str) -> None:
    """Naively: one image, one encoder, one class at a time, without the move to the nearest key."""
    alpha, beta = 2.0, 4.0
    found = logits(blend=alpha, sharpness=beta, agreement=agreement, class_weight="none")
    for i, query in enumerate(QUERIES):
        base = ZERO_SHOT[i]
        scaled = (base - base.mean()) / base.std(ddof=1)
        votes, alike = [], []
        for part in (slice(0, 16), slice(16, 26)):
            near = np.exp(-beta * (1 - unit(X[:, part]) @ unit(query[part])))
            own = np.array([near[c == Y].sum() for c in range(4)])
            votes.append((own - own.mean()) / own.std(ddof=1))
            alike.append(scaled @ votes[-1] / (4 if agreement == "mean" else 1))
        weights = np.exp(alike) / np.exp(alike).sum()
        expected = base + alpha * (weights[0] * votes[0] + weights[1] * votes[1])
        np.testing.assert_allclose(found[i], expected, rtol=1e-5)


def test_two_identical_encoders_are_one() -> None:
    twice = np.concatenate([X[:, :16], 7 * X[:, :16]], axis=1)
    queries = np.concatenate([QUERIES[:, :16], 7 * QUERIES[:, :16]], axis=1)
    np.testing.assert_allclose(
        logits(twice, queries=queries, widths=(16, 16)),
        logits(X[:, :16], queries=QUERIES[:, :16], widths=None),
        rtol=1e-5,
    )


def test_one_encoder_is_tip_on_standardised_votes() -> None:
    tip = TipAdapter(TEXT).fit(X[:, :16], Y)
    ((base, votes),) = tip.sweep(QUERIES[:, :16], [{"sharpness": 3.0}])
    expected = base + 2.5 * standardise(votes)
    for widths in (None, (16,)):
        found = logits(X[:, :16], queries=QUERIES[:, :16], widths=widths, blend=2.5, sharpness=3.0)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_twice_the_keys_are_the_same() -> None:
    """A positive rescale of the votes; of Tip-Adapter it would be twice the blend."""
    twice = logits(np.tile(X, (2, 1)), np.tile(Y, 2))
    np.testing.assert_allclose(twice, logits(), rtol=1e-9)


def test_keys_may_come_in_any_order() -> None:
    order = np.random.default_rng(1).permutation(10)
    np.testing.assert_allclose(logits(X[order], Y[order]), logits(), rtol=1e-9)


def test_lengths_play_no_part_in_any_encoder() -> None:
    longer = X * np.repeat([3.0, 0.01], WIDTHS)
    np.testing.assert_allclose(logits(longer), logits(), rtol=1e-5)
    np.testing.assert_allclose(
        logits(queries=QUERIES * np.repeat([3.0, 0.01], WIDTHS)), logits(), rtol=1e-9
    )


def test_a_very_sharp_kernel_is_the_nearest_neighbour_and_does_not_underflow() -> None:
    """exp(−1e5 · (1 − cosine)) is 0 for every key of these."""
    short, keys = unit(QUERIES[:, 16:]), unit(X[:, 16:])
    affinity = short @ keys.T
    ordered = np.sort(affinity, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 1e-3  # e^(1e5 · 1e-3) is far more than 4 keys
    assert clear.sum() > 20
    found = Cafo(OTHER, epochs=0, blend=1e6, sharpness=1e5).fit(X[:, 16:], Y)
    predicted = found.predict(QUERIES[:, 16:])
    np.testing.assert_array_equal(predicted[clear], Y[affinity.argmax(axis=1)][clear])


def test_keys_are_unit_means_of_raw_views_of_each_encoder() -> None:
    head = Cafo(TEXT, widths=WIDTHS, epochs=0).fit(X, Y, views=VIEWS)
    mean = VIEWS.mean(axis=1)
    expected = np.concatenate([unit(mean[:, :16]), unit(mean[:, 16:])], axis=1)
    np.testing.assert_allclose(head.keys_, expected, atol=1e-6)
    np.testing.assert_array_equal(head.key_labels_, Y)
    np.testing.assert_array_equal(head.widths_, WIDTHS)


def test_sweep_gives_what_refitting_with_each_sharpness_gives() -> None:
    values = (0.5, 5.5, 50.0)
    head = Cafo(TEXT, widths=WIDTHS).fit(X, Y)
    for sharpness, (base, votes) in zip(
        values, head.sweep(QUERIES, [{"sharpness": v} for v in values]), strict=True
    ):
        np.testing.assert_allclose(base, ZERO_SHOT, rtol=1e-12)
        expected = logits(sharpness=sharpness, blend=2.5, epochs=20)
        np.testing.assert_allclose((base + 2.5 * votes).numpy(), expected, rtol=1e-12)


# -- training --------------------------------------------------------------------------------------


def test_training_lowers_the_loss_on_the_support() -> None:
    def loss(epochs: int) -> float:
        # At a small scale, and in the other kernel, the text leaves something to learn.
        head = Cafo(TEXT, widths=WIDTHS, epochs=epochs, logit_scale=1.0, sharpness=5.5).fit(X, Y)
        return float(-np.log(head.predict_proba(X)[np.arange(10), Y]).mean())

    assert loss(40) < loss(20) < loss(0)


@pytest.mark.parametrize("agreement", ["sum", "mean"])
def test_the_first_step_follows_the_gradient(agreement: str) -> None:
    """AdamW's first step of size lr with eps 1e-4 and decay 0.01, from an independent gradient."""
    how: dict[str, Any] = {"train_blend": 2.0, "train_sharpness": 3.0, "agreement": agreement}
    how["class_weight"] = "none"
    head = Cafo(TEXT, widths=WIDTHS, epochs=1, lr=1e-3, logit_scale=2.0, **how).fit(X, Y)
    parts = [torch.from_numpy(unit(X[:, :16])), torch.from_numpy(unit(X[:, 16:]))]
    keys = [x.clone().requires_grad_() for x in parts]
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(Y), 4).double()
    base = 2 * parts[0] @ torch.from_numpy(unit(TEXT)).T

    def scaled(rows: torch.Tensor) -> torch.Tensor:
        return (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True)

    votes = [
        scaled(torch.exp(3 * (x @ k.T - 1)) @ one_hot) for x, k in zip(parts, keys, strict=True)
    ]
    alike = torch.stack([(scaled(base) * v).sum(1) for v in votes])
    weights = torch.softmax(alike / 4 if agreement == "mean" else alike, dim=0)[:, :, None]
    found = base + 2 * (weights[0] * votes[0] + weights[1] * votes[1])
    torch.nn.functional.cross_entropy(found, torch.from_numpy(Y)).backward()
    for k, x, own in zip(keys, parts, np.split(head.keys_, [16], axis=1), strict=True):
        assert k.grad is not None
        assert k.grad.abs().max() > 1e-4, "or the step would show nothing but the decay"
        expected = x * (1 - 1e-3 * 0.01) - 1e-3 * k.grad / (k.grad.abs() + 1e-4)
        np.testing.assert_allclose(own, expected, atol=2e-6)


def test_blend_and_sharpness_are_those_of_prediction_only() -> None:
    one, other = (
        Cafo(TEXT, widths=WIDTHS, blend=b, sharpness=s).fit(X, Y) for b, s in ((1, 1), (9, 20))
    )
    np.testing.assert_array_equal(one.keys_, other.keys_)


def test_of_two_classes_nothing_is_trained_and_it_still_answers() -> None:
    """Standardised votes of two classes are a sign: the gradient is 0, the decay is all."""
    rows = Y < 2
    head = Cafo(TEXT[:2], widths=WIDTHS).fit(X[rows], Y[rows])
    untrained = Cafo(TEXT[:2], widths=WIDTHS, epochs=0).fit(X[rows], Y[rows])
    np.testing.assert_allclose(head.keys_, untrained.keys_, rtol=3e-4, atol=1e-6)
    assert (head.predict(X[rows]) == Y[rows]).all()


def test_without_training_its_blend_is_not_searched() -> None:
    assert Cafo.searched({}).settings() == ("train_blend", "sharpness", "blend")
    assert Cafo.searched({"epochs": 0}).settings() == ("sharpness", "blend")
    assert Cafo.searched({"epochs": 0, "blend": 1.0}).settings() == ("sharpness",)


def test_shapes_of_several_encoders_train_together_as_alone() -> None:
    """Equal widths in sum, different ones of the parts: not one batch."""
    heads = [Cafo(TEXT, widths=w) for w in ((16, 10), (16, 4, 6))]
    Cafo.fit_many(heads, [(X, Y, None)] * 2)
    for head in heads:
        alone = Cafo(TEXT, widths=head.widths).fit(X, Y)
        np.testing.assert_allclose(head.logits(QUERIES), alone.logits(QUERIES), rtol=1e-4)


# -- widths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(16, 9), (26, 0), (), (30, -4), ((16, 10),)])
def test_widths_that_do_not_add_up_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"widths are .*, but the features have width 26"):
        Cafo(TEXT, widths=widths).fit(X, Y)


def test_the_text_is_as_wide_as_the_first_encoder() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 10\): expected \(C, 16\)"):
        Cafo(TEXT[:, :10], widths=WIDTHS).fit(X, Y)
    with pytest.raises(ValueError, match=r"shape \(4, 16\): expected \(C, 26\)"):
        Cafo(TEXT).fit(X, Y)


def test_without_text_the_means_of_the_first_encoder_stand_in() -> None:
    means = np.stack([unit(X[:, :16])[c == Y].mean(axis=0) for c in range(4)])
    found = Cafo(widths=WIDTHS, epochs=0).fit(X, Y).logits(QUERIES)
    expected = Cafo(means, widths=WIDTHS, epochs=0).fit(X, Y).logits(QUERIES)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_is_saved_knows_its_widths() -> None:
    head = Cafo(TEXT, widths=WIDTHS).fit(X, Y)
    again = Cafo.from_arrays(head.arrays(), head.classes_, head.settings(), head.logit_scale)
    assert again.widths == WIDTHS and again.n_features_in_ == 26
    np.testing.assert_array_equal(again.logits(QUERIES), head.logits(QUERIES))


# -- selection -------------------------------------------------------------------------------------


TASK = FewShotTask(X, Y, QUERIES[:8], np.arange(8) % 4, class_embeddings=TEXT, widths=WIDTHS)


@pytest.mark.parametrize("policy", ["val", "cv", "fixed"])
def test_selection_of_several_encoders(policy: str) -> None:
    head = select("cafo", TASK, policy, epochs=5)
    assert head.n_features_in_ == 26
    assert head.logits(QUERIES).shape == (30, 4)
    assert head.selection_.policy == policy


@pytest.mark.parametrize("method", ["zero-shot", "tip-adapter", "linear-probe"])
def test_other_methods_take_one_encoder(method: str) -> None:
    with pytest.raises(InputError) as caught:
        select(method, TASK)
    said = f"method '{method}' takes one encoder, and there are 2: features of width 16, features"
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith("; keep one, or use method cafo.")


def test_encoders_are_counted_before_any_work() -> None:
    check_encoders("cafo", ["lite", "dir:x"])
    check_encoders("tip-adapter", ["lite"])
    with pytest.raises(InputError, match="takes one encoder, and there are 2: lite, dir:x; keep"):
        check_encoders("tip-adapter", ["lite", "dir:x"])


def test_a_task_of_one_encoder_is_as_good() -> None:
    one = replace(TASK.of_first_encoder())
    assert select("cafo", one, "val", epochs=2).logits(QUERIES[:, :16]).shape == (30, 4)
