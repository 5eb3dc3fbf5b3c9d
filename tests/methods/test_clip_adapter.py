"""CLIP-Adapter in all variants: limits in the blends, homogeneity, start, training, the cache."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from handful import FewShotTask, select
from handful.errors import InputError
from handful.functional.bottleneck import bottleneck, residual_blend
from handful.functional.cosine import cosine_logits
from handful.methods import clip_adapter
from handful.methods.clip_adapter import ClipAdapter
from handful.methods.tip_adapter import TipAdapter
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
    for name in head.trained:
        shape = getattr(head, name).shape
        setattr(head, name, (factor * generator.normal(size=shape)).astype(np.float32))
    return head


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def by_hand(head: ClipAdapter, rows: np.ndarray, branch: str) -> np.ndarray:
    """Row by row, as the paper writes it."""
    start = {"visual": "", "text": "text_"}[branch]
    if head.branch not in (branch, "both"):
        return unit(rows)
    down, up, gate = (getattr(head, f"{start}{name}_") for name in ("down", "up", "gate"))
    b1, b2 = 0.0, 0.0
    if head.bias:
        (down, b1), (up, b2) = (down[:-1], down[-1]), (up[:-1], up[-1])
    found = []
    for row in rows:
        v = row if head.adapter_input == "raw" and branch == "visual" else unit(row)
        new = np.maximum(v @ down + b1, 0) @ up + b2
        new = np.maximum(new, 0) if head.output_relu else new
        blend = getattr(head, f"{start}blend") if head.residual else 1.0
        if head.ratio_mode == "learned":
            blend = 1 / (1 + np.exp(-gate[0]))
        elif head.ratio_mode == "hyper":
            blend = 1 / (1 + np.exp(-(unit(row) @ gate[:-1] + gate[-1])))
        found.append(unit(blend * new + (1 - blend) * v))
    return np.array(found)


VARIANTS = [
    {"branch": branch, "ratio_mode": mode}
    for branch, mode in product(("visual", "text", "both"), ("fixed", "learned", "hyper"))
] + [
    {"branch": "both", "bias": True},
    {"branch": "both", "bias": True, "adapter_input": "raw"},
    {"branch": "both", "residual": False, "reduction": 1},
    {"branch": "both", "output_relu": False, "zero_init": True},
    {"branch": "both", "ratio_mode": "hyper", "bias": True, "adapter_input": "raw"},
]  # fmt: skip
every_variant = pytest.mark.parametrize("given", VARIANTS, ids=str)


@every_variant
def test_follows_its_equation(given: dict[str, Any]) -> None:
    head = ClipAdapter(TEXT, blend=0.3, text_blend=0.6, epochs=2, **given).fit(X, Y)
    with_weights(head, 0.5)
    images, text = by_hand(head, QUERIES, "visual"), by_hand(head, TEXT, "text")
    np.testing.assert_allclose(head.transform(QUERIES), images, rtol=0, atol=1e-6)
    np.testing.assert_allclose(head.transform_text(TEXT), text, rtol=0, atol=1e-6)
    np.testing.assert_allclose(head.logits(QUERIES), 100 * images @ text.T, rtol=0, atol=1e-4)


@pytest.mark.parametrize("factor", [0.0, 1.0, 1e3])
@pytest.mark.parametrize("output_relu", [True, False])
@pytest.mark.parametrize("branch", ["visual", "text", "both"])
@pytest.mark.parametrize("more", [{}, {"bias": True}, {"adapter_input": "raw", "bias": True}])
def test_blends_of_zero_are_zero_shot_whatever_the_weights(
    factor: float, output_relu: bool, branch: str, more: dict[str, Any]
) -> None:
    head = ClipAdapter(TEXT, branch=branch, blend=0.0, text_blend=0.0, output_relu=output_relu,
                       epochs=2, **more).fit(X, Y)  # fmt: skip
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


def test_the_class_embeddings_are_not_trained() -> None:
    for branch in ("visual", "text", "both"):
        head = ClipAdapter(TEXT, branch=branch, epochs=5).fit(X, Y)
        np.testing.assert_array_equal(head.text_, ZeroShot(TEXT).fit(X, Y).text_)


# -- branches --------------------------------------------------------------------------------------


def test_a_branch_leaves_the_other_side_as_it_is() -> None:
    visual = ClipAdapter(TEXT, branch="visual", epochs=5).fit(X, Y)
    text = ClipAdapter(TEXT, branch="text", epochs=5).fit(X, Y)
    np.testing.assert_allclose(visual.transform_text(TEXT), unit(TEXT))
    np.testing.assert_allclose(text.transform(QUERIES), unit(QUERIES))
    assert np.abs(visual.transform(QUERIES) - unit(QUERIES)).max() > 0.01
    assert np.abs(text.transform_text(TEXT) - unit(TEXT)).max() > 0.01


def test_both_with_nothing_of_one_is_the_other() -> None:
    """The first draws are those of the visual branch, and what has no gradient changes nothing."""
    both = ClipAdapter(TEXT, branch="both", blend=0.4, text_blend=0.0, epochs=20).fit(X, Y)
    visual = ClipAdapter(TEXT, blend=0.4, epochs=20).fit(X, Y)
    np.testing.assert_allclose(both.logits(QUERIES), visual.logits(QUERIES), rtol=1e-9)
    both = ClipAdapter(TEXT, branch="both", blend=0.0, text_blend=0.4, epochs=20).fit(X, Y)
    np.testing.assert_allclose(both.transform(QUERIES), unit(QUERIES))
    assert np.abs(both.logits(QUERIES) - ZERO_SHOT).max() > 1


@pytest.mark.parametrize("branch", ["text", "both"])
def test_new_classes_need_no_new_fit(branch: str) -> None:
    """Rows of the text are adapted one by one."""
    head = ClipAdapter(TEXT, branch=branch, text_blend=0.5, epochs=5).fit(X, Y)
    new = 3 * RNG.normal(size=(2, 16))
    together = head.transform_text(np.concatenate([TEXT, new]))
    np.testing.assert_allclose(100 * head.transform(QUERIES) @ together[:4].T, head.logits(QUERIES),
                               rtol=0, atol=1e-4)  # fmt: skip
    np.testing.assert_allclose(together[4:], head.transform_text(7 * new))
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1)


def test_class_embeddings_that_do_not_fit() -> None:
    head = ClipAdapter(TEXT, branch="text", epochs=1).fit(X, Y)
    with pytest.raises(InputError, match="class embeddings are 15 wide: expected 16"):
        head.transform_text(TEXT[:, 1:])
    with pytest.raises(ValueError, match=r"(?i)nan"):
        head.transform_text(np.full((1, 16), np.nan))


@every_variant
def test_permuting_classes_permutes_logits(given: dict[str, Any]) -> None:
    order = np.array([2, 0, 3, 1])
    found = ClipAdapter(TEXT[order], epochs=10, **given).fit(X, np.argsort(order)[Y])
    expected = ClipAdapter(TEXT, epochs=10, **given).fit(X, Y).logits(QUERIES)[:, order]
    tolerance = 1e-3 * np.abs(expected).max()  # the classes are added up in another order
    np.testing.assert_allclose(found.logits(QUERIES), expected, rtol=0, atol=tolerance)


@every_variant
def test_every_variant_learns(given: dict[str, Any]) -> None:
    """The loss on the support falls, with a text that says little of the images."""
    text = np.random.default_rng(5).normal(size=(4, 16))

    def loss(epochs: int) -> float:
        head = ClipAdapter(text, blend=0.5, text_blend=0.5, epochs=epochs, lr=0.01, **given)
        return float(-np.log(head.fit(X, Y).predict_proba(X)[np.arange(12), Y]).mean())

    assert loss(50) < 0.5 * loss(0)


@every_variant
def test_a_class_without_images_and_unequal_counts(given: dict[str, Any]) -> None:
    rows = np.flatnonzero(Y != 2)[:7]
    head = ClipAdapter(TEXT, epochs=5, **given).fit(X[rows], Y[rows])
    assert np.isfinite(head.logits(QUERIES)).all() and head.logits(QUERIES).shape == (30, 4)


@every_variant
def test_the_saved_form(given: dict[str, Any]) -> None:
    given = given | {"cache": "tip"}
    head = ClipAdapter(TEXT, epochs=3, **given).fit(X, Y)
    arrays = load(save(head.arrays()))
    again = ClipAdapter.from_arrays(arrays, head.classes_, head.settings(), 100.0)
    np.testing.assert_array_equal(again.logits(QUERIES), head.logits(QUERIES))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 128),
        ({"branch": "text"}, 128),
        ({"branch": "both"}, 256),
        ({"ratio_mode": "learned"}, 129),
        ({"branch": "both", "ratio_mode": "hyper"}, 256 + 2 * 17),
        ({"bias": True}, 128 + 4 + 16),
        ({"reduction": 1}, 512),
    ],
)
def test_numbers_that_are_trained(given: dict[str, Any], expected: int) -> None:
    """2·D·H per branch; 1 per learned blend; D + 1 per gate; H + D biases."""
    head = ClipAdapter(TEXT, epochs=1, **given).fit(X, Y)
    assert sum(getattr(head, name).size for name in head.trained) == expected


@pytest.mark.parametrize("width", [3, 18])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8, 16, 32])
def test_any_width_and_any_reduction(width: int, reduction: int) -> None:
    features = np.random.default_rng(0).normal(size=(6, width))
    head = ClipAdapter(branch="both", reduction=reduction, epochs=1).fit(features, [0, 1, 2] * 2)
    assert head.down_.shape == head.text_down_.shape == (width, max(1, width // reduction))


# -- the blend -------------------------------------------------------------------------------------


@pytest.mark.parametrize("branch", ["visual", "text", "both"])
@pytest.mark.parametrize("mode", ["learned", "hyper"])
def test_a_gate_that_may_not_move_is_a_fixed_blend(
    branch: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From start to end of training."""
    given = {"branch": branch, "blend": 0.3, "text_blend": 0.6, "epochs": 20}
    monkeypatch.setitem(clip_adapter._GATE_RATES, mode, 0.0)
    frozen = ClipAdapter(TEXT, ratio_mode=mode, **given).fit(X, Y)
    fixed = ClipAdapter(TEXT, **given).fit(X, Y)
    np.testing.assert_allclose(frozen.logits(QUERIES), fixed.logits(QUERIES), rtol=0, atol=0.01)
    monkeypatch.undo()
    free = ClipAdapter(TEXT, ratio_mode=mode, **given).fit(X, Y)
    for name in ("gate_", "text_gate_"):
        moved = np.abs(getattr(free, name) - getattr(frozen, name))
        assert moved.size == 0 or moved.max() > 1e-4
    assert max(free.gate_.size, free.text_gate_.size) > 0


@pytest.mark.parametrize("mode", ["learned", "hyper"])
def test_a_gate_follows_its_gradient(mode: str) -> None:
    """One step of Adam is as long as the learning rate, against the sign of the gradient."""
    given = {"branch": "both", "ratio_mode": mode, "blend": 0.3, "text_blend": 0.6}
    head = ClipAdapter(TEXT, epochs=0, **given).fit(X, Y)
    one = ClipAdapter(TEXT, epochs=1, lr=1e-5, **given).fit(X, Y)
    for name in ("gate_", "text_gate_"):
        gate = getattr(head, name)
        losses = []
        for step in (-1e-3, 1e-3):
            setattr(head, name, gate + np.eye(len(gate), dtype=np.float32)[-1] * np.float32(step))
            losses.append(-np.log(head.predict_proba(X)[np.arange(12), Y]).mean())
        setattr(head, name, gate)
        moved = float(getattr(one, name)[-1] - gate[-1])
        assert np.sign(moved) == np.sign(losses[0] - losses[1])
        # Numbers near 1 have steps of 1e-7 in single precision.
        assert abs(moved) == pytest.approx(1e-5 * clip_adapter._GATE_RATES[mode], abs=2e-7)


def test_without_residual_is_a_blend_of_one() -> None:
    given = {"branch": "both", "reduction": 2, "epochs": 10}
    without = ClipAdapter(TEXT, residual=False, blend=0.0, text_blend=0.0, **given).fit(X, Y)
    one = ClipAdapter(TEXT, blend=1.0, text_blend=1.0, **given).fit(X, Y)
    np.testing.assert_allclose(without.logits(QUERIES), one.logits(QUERIES), rtol=0, atol=0.01)


# -- what goes in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_lengths_count_with_biases_and_raw_input_only(bias: bool) -> None:
    for source, counts in (("unit", False), ("raw", bias)):
        head = ClipAdapter(TEXT, bias=bias, adapter_input=source, blend=0.6, epochs=5).fit(X, Y)
        same = np.allclose(head.logits(3 * QUERIES), head.logits(QUERIES), rtol=1e-9)
        assert same == (not counts)


def test_raw_views_are_trained_on() -> None:
    """Without biases as their unit form; with them otherwise."""
    views = np.stack([X, 2 * X + 0.1 * RNG.normal(size=X.shape)], axis=1)
    for bias in (False, True):
        raw, short = (
            ClipAdapter(TEXT, bias=bias, adapter_input=source, blend=0.5, epochs=15)
            .fit(X, Y, views=views)
            .down_
            for source in ("raw", "unit")
        )
        assert (np.abs(raw - short).max() < 1e-4) == (not bias)


def test_starts_at_zero_shot_if_asked_to() -> None:
    given = {"branch": "both", "zero_init": True, "output_relu": False, "text_blend": 0.5}
    head = ClipAdapter(TEXT, epochs=0, **given).fit(X, Y)
    np.testing.assert_allclose(head.logits(QUERIES), ZERO_SHOT, rtol=1e-9)
    assert (head.up_ == 0).all() and (head.down_ != 0).any()


# -- the cache -------------------------------------------------------------------------------------


@every_variant
def test_the_cache_is_that_of_tip_adapter(given: dict[str, Any]) -> None:
    """Added to whatever the adapters say, over features that are not adapted."""
    views = np.stack([X, 2 * X + RNG.normal(size=X.shape)], axis=1)
    given = given | {"epochs": 3}
    cached = ClipAdapter(TEXT, cache="tip", cache_blend=2.0, cache_sharpness=3.0, **given)
    found = cached.fit(X, Y, views=views).logits(QUERIES)
    plain = ClipAdapter(TEXT, **given).fit(X, Y, views=views).logits(QUERIES)
    tip = TipAdapter(TEXT, blend=2.0, sharpness=3.0).fit(X, Y, views=views).logits(QUERIES)
    np.testing.assert_allclose(found - plain, tip - ZERO_SHOT, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(cached.set_params(cache_blend=0.0).logits(QUERIES), plain)


def test_the_cache_is_searched_for_the_trained_head() -> None:
    """Exactly in its blend: what selection counts is what the head then gets right."""
    task = FewShotTask(X, Y, QUERIES[:20], RNG.integers(4, size=20), class_embeddings=TEXT)
    head = select("clip-adapter", task, "val", cache="tip", epochs=5, blend=0.2)
    chosen = head.selection_
    assert set(chosen.settings) == {"cache_blend", "cache_sharpness"}
    assert len(chosen.trace) == 30
    assert chosen.accuracy == head.score(task.X_val, task.y_val)
    for one in chosen.trace:
        correct = one.pop("correct")
        assert round(20 * head.set_params(**one).score(task.X_val, task.y_val)) == correct


# -- what is searched, and what is refused ---------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"blend"}),
        ({"branch": "text"}, {"text_blend"}),
        ({"branch": "both"}, {"blend", "text_blend"}),
        ({"branch": "both", "blend": 0.5}, {"text_blend"}),
        ({"branch": "both", "ratio_mode": "learned"}, set()),
        ({"ratio_mode": "hyper"}, set()),
        ({"residual": False}, set()),
        ({"cache": "tip"}, {"blend", "cache_blend", "cache_sharpness"}),
        ({"cache": "tip", "residual": False}, {"cache_blend", "cache_sharpness"}),
        ({"cache": "tip", "blend": 0.5, "cache_blend": 1.0}, {"cache_sharpness"}),
    ],
)
def test_what_is_searched(given: dict[str, Any], expected: set[str]) -> None:
    assert set(ClipAdapter.searched(given).settings()) == expected
    assert set(ClipAdapter.search.settings()) == {"blend"}


def test_a_given_weight_of_the_cache_is_used_while_its_sharpness_is_searched() -> None:
    task = FewShotTask(X, Y, QUERIES, RNG.integers(4, size=30), class_embeddings=TEXT)
    given = {"cache": "tip", "blend": 0.2, "cache_blend": 40.0, "epochs": 2}
    head = select("clip-adapter", task, "val", **given)
    for one in head.selection_.trace:
        alone = ClipAdapter(TEXT, cache_sharpness=one["cache_sharpness"], **given).fit(X, Y)
        assert one["correct"] == round(30 * alone.score(task.X_val, task.y_val))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"branch": "image"}, "'branch' .* is 'image': expected visual or text or both"),
        ({"ratio_mode": "search"}, "'ratio_mode' .* is 'search': expected fixed or learned or hyp"),
        ({"blend": 1.2}, "'blend' .* is 1.2: expected a number from 0 to 1"),
        ({"text_blend": -0.1}, "'text_blend' .* is -0.1"),
        ({"reduction": 0}, "'reduction' .* is 0: expected a whole number from 1"),
        ({"zero_init": True}, "zero_init .* is true while output_relu is true: .* set output_relu"),
        (
            {"residual": False, "ratio_mode": "hyper"},
            "is 'hyper' while residual is false: expected",
        ),
        ({"blend": 0.0, "ratio_mode": "learned"}, "'blend' .* is 0.0 and ratio_mode 'learned': ex"),
        ({"branch": "text", "text_blend": 1, "ratio_mode": "hyper"}, "'text_blend' .* is 1 and"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        ClipAdapter(TEXT, **given).fit(X, Y)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
    # The blend of a branch that is not there plays no part.
    if given == {"blend": 0.0, "ratio_mode": "learned"}:
        ClipAdapter(TEXT, branch="text", epochs=1, **given).fit(X, Y)
