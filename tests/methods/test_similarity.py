"""``similarity``: images compared with images in the space of a correction, and with text in the
original one; asked of every method of the registry that compares images."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from toy_classes import Toy, toy
from two_spaces import side_by_side

from handful import methods
from handful.errors import InputError
from handful.methods.head import Head

COMPARE = [name for name in methods.names() if methods.get(name).compares_images()]
CHOOSE = [name for name in COMPARE if not methods.get(name).needs_correction]
every_one = pytest.mark.parametrize("name", COMPARE)
# Those that compare images by cosines alone, which no rotation changes.
BY_COSINES = [
    *("tip-adapter", "tip-adapter++", "tip-x", "tip-x++", "graph-adapter", "proker"),
    "nearest-class-mean",
]


def make(name: str, text: np.ndarray | None, **settings: Any) -> Head:
    """A head of corrected features, trained for few epochs if at all."""
    kind = methods.get(name)
    known = inspect.signature(kind).parameters
    if "epochs" in known:
        settings.setdefault("epochs", 5)
    if not kind.needs_correction:
        settings.setdefault("similarity", "corrected")
    return kind(text, logit_scale=20.0, **settings)


def beside(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.concatenate([one, other], axis=-1)


def corrected(t: Toy, seed: int = 3) -> dict[str, np.ndarray]:
    """Features beside a correction of them: a map that is none of rotations."""
    matrix = np.random.default_rng(seed).normal(size=(24, 24)) + 2 * np.eye(24)
    return {part: getattr(t, part) @ matrix for part in ("X", "views", "queries")}


def untrained(name: str) -> dict[str, Any]:
    return {"epochs": 0} if "epochs" in methods.get(name)().settings() else {}


def test_who_compares_images() -> None:
    assert COMPARE == [
        "nearest-class-mean",
        "cluster-adapter",
        "tip-adapter",
        "tip-adapter++",
        "tip-adapter-f",
        "tip-x",
        "tip-x++",
        "ape",
        "ape++",
        "ape-t",
        "graph-adapter",
        "proker",
    ]
    assert [n for n in COMPARE if n not in CHOOSE] == ["tip-adapter++", "tip-x++", "ape++"]
    for name in methods.names():
        assert ("similarity" in methods.get(name)().settings()) == (name in CHOOSE)
        assert methods.get(name)().similarity in ("original", "corrected")


@every_one
@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("text", [False, True])
def test_a_correction_that_changes_nothing(name: str, views: bool, text: bool) -> None:
    """Two equal halves: the plain method, bit for bit."""
    t = toy()
    names = t.text if text else None
    seen = t.views if views else None
    plain = make(name.removesuffix("++"), names, similarity="original").fit(t.X, t.y, views=seen)
    wide = None if seen is None else beside(seen, seen)
    found = make(name, names).fit(beside(t.X, t.X), t.y, views=wide)
    expected = plain.logits(t.queries)
    np.testing.assert_array_equal(found.logits(beside(t.queries, t.queries)), expected)
    # The test can tell: another correction is another answer.
    other = corrected(t)
    wide = None if seen is None else beside(seen, other["views"])
    different = make(name, names).fit(beside(t.X, other["X"]), t.y, views=wide)
    assert np.abs(different.logits(beside(t.queries, other["queries"])) - expected).max() > 1e-3


@pytest.mark.parametrize("name", [n for n in COMPARE if "blend" in methods.get(n)().settings()])
def test_without_the_images_it_is_zero_shot_in_the_original_space(name: str) -> None:
    t, other = toy(), corrected(toy())
    still = {"profile_blend": 0.0} if name.startswith("tip-x") else {}
    head = make(name, t.text, blend=0.0, **still, **untrained(name))
    head.fit(beside(t.X, other["X"]), t.y)
    zero_shot = methods.get("zero-shot")(t.text, logit_scale=20.0).fit(t.X, t.y)
    queries = beside(t.queries, other["queries"])
    found, expected = head.predict_proba(queries), zero_shot.predict_proba(t.queries)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        head.zero_shot_logits(queries), zero_shot.logits(t.queries), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    "name", [n for n in COMPARE if methods.get(n).search.blend is not None and n != "proker"]
)
def test_votes_are_those_of_the_corrected_features_alone(name: str) -> None:
    """And the other part that of the original ones. APE's key weights, which ask the text, are left
    out here; what ProKeR adds depends on the text, too, and has a test of its own."""
    t, other = toy(), corrected(toy())
    settings = {"emphasis": 0.0} if name in ("ape", "ape++") else {}
    settings |= {"profile_blend": 0.0} if name.startswith("tip-x") else {}
    settings |= untrained(name)
    plain = name.removesuffix("++")
    found = make(name, t.text, **settings).fit(
        beside(t.X, other["X"]), t.y, views=beside(t.views, other["views"])
    )
    by_images = make(plain, t.text, similarity="original", **settings).fit(
        other["X"], t.y, views=other["views"]
    )
    by_text = make(plain, t.text, similarity="original", **settings).fit(t.X, t.y, views=t.views)
    ((base, votes),) = found.sweep(beside(t.queries, other["queries"]))
    ((_, expected_votes),) = by_images.sweep(other["queries"])
    ((expected_base, other_votes),) = by_text.sweep(t.queries)
    np.testing.assert_array_equal(votes, expected_votes)
    np.testing.assert_array_equal(base, expected_base)
    assert not np.allclose(votes, other_votes, rtol=0.01)


def test_the_nearest_mean_is_that_of_the_corrected_features_alone() -> None:
    t, other = toy(), corrected(toy())
    found = make("nearest-class-mean", t.text).fit(beside(t.X, other["X"]), t.y)
    alone = make("nearest-class-mean", t.text, similarity="original").fit(other["X"], t.y)
    logits = found.logits(beside(t.queries, other["queries"]))
    np.testing.assert_array_equal(logits, alone.logits(other["queries"]))


@pytest.mark.parametrize("target", ["probability", "logit"])
def test_the_ridge_regression_by_hand(target: str) -> None:
    t, other = toy(), corrected(toy())
    head = make("proker", t.text, target=target, sharpness=2.0, penalty=0.3, blend=0.7)
    head.fit(beside(t.X, other["X"]), t.y)

    def unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def prior(rows: np.ndarray) -> np.ndarray:
        cosines = 20 * unit(rows) @ unit(t.text).T
        return softmax(cosines, axis=1) if target == "probability" else cosines

    def kernel(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        return np.exp(-2.0 * (1 - unit(one) @ unit(two).T))

    goal = np.eye(5)[t.y] * (1 if target == "probability" else 30)
    learnt = np.linalg.solve(kernel(other["X"], other["X"]) + 0.3 * np.eye(20), goal - prior(t.X))
    expected = prior(t.queries) + 0.7 * kernel(other["queries"], other["X"]) @ learnt
    queries = beside(t.queries, other["queries"])
    found = head.decision_function(queries)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    ((base, direction),) = head.sweep(queries)
    np.testing.assert_allclose(base + 0.7 * direction, found, atol=1e-4 * np.abs(found).max())


# -- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "learnt"),
    [
        ("tip-adapter-f", ("keys_",)),
        ("ape-t", ("residual_", "key_weights_")),
        ("cluster-adapter", ("centres_", "centre_scales_", "channel_weights_")),
    ],
)
def test_where_the_text_hardly_speaks_it_learns_as_from_the_corrected_features(
    name: str, learnt: tuple[str, ...]
) -> None:
    t, other = toy(), corrected(toy())
    settings = {"prototypes": 2} if name == "cluster-adapter" else {}
    found, alone = (
        methods.get(name)(t.text, similarity=how, epochs=5, logit_scale=1e-9, **settings)
        for how in ("corrected", "original")
    )
    found.fit(beside(t.X, other["X"]), t.y, views=beside(t.views, other["views"]))
    alone.fit(other["X"], t.y, views=other["views"])
    for array in learnt:
        np.testing.assert_allclose(getattr(found, array), getattr(alone, array), atol=1e-5)
    ((_, votes),) = found.sweep(beside(t.queries, other["queries"]))
    ((_, expected),) = alone.sweep(other["queries"])
    np.testing.assert_allclose(votes, expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "learnt"), [("ape-t", "residual_"), ("cluster-adapter", "classifier_")]
)
def test_where_images_do_not_speak_it_learns_as_from_the_original_features(
    name: str, learnt: str
) -> None:
    t, other = toy(), corrected(toy())
    found, alone = (
        methods.get(name)(t.text, similarity=how, epochs=5, train_blend=0.0, logit_scale=20.0)
        for how in ("corrected", "original")
    )
    found.fit(beside(t.X, other["X"]), t.y)
    alone.fit(t.X, t.y)
    np.testing.assert_allclose(getattr(found, learnt), getattr(alone, learnt), atol=1e-6)
    ((base, _),) = found.sweep(beside(t.queries, other["queries"]))
    ((expected, _),) = alone.sweep(t.queries)
    np.testing.assert_allclose(base, expected, atol=1e-4)


def test_keys_are_trained_beside_what_the_text_says_of_the_original_features() -> None:
    """The first step of AdamW, from the gradient of the equation: with a penalty of 0.01, and a
    length of 1e-3·g/(|g| + 1e-4)."""
    t, other = toy(), corrected(toy())
    head = make("tip-adapter-f", t.text, epochs=1, train_blend=3.0, train_sharpness=2.0)
    head.fit(beside(t.X, other["X"]), t.y)
    x, compared, text = (
        torch.nn.functional.normalize(torch.from_numpy(rows).float())
        for rows in (t.X, other["X"], t.text)
    )
    y = torch.from_numpy(t.y)
    keys = compared.clone().requires_grad_()
    votes = torch.exp(-2 * (1 - compared @ keys.T)) @ torch.eye(5)[y]
    loss = torch.nn.functional.cross_entropy(20 * x @ text.T + 3 * votes, y)
    (gradient,) = torch.autograd.grad(loss, keys)
    expected = 0.99999 * compared - 1e-3 * gradient / (gradient.abs() + 1e-4)
    np.testing.assert_allclose(head.keys_, expected, rtol=0, atol=2e-6)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", BY_COSINES)
def test_a_rotation_of_the_corrected_space_changes_nothing(name: str) -> None:
    t, other = toy(), corrected(toy())
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(24, 24)))
    before = make(name, t.text).fit(beside(t.X, other["X"]), t.y)
    after = make(name, t.text).fit(beside(t.X, other["X"] @ turn), t.y)
    expected = before.logits(beside(t.queries, other["queries"]))
    found = after.logits(beside(t.queries, other["queries"] @ turn))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@every_one
def test_lengths_in_either_space_do_not_matter(name: str) -> None:
    t, other = toy(), corrected(toy())
    head = make(name, t.text).fit(beside(t.X, other["X"]), t.y)
    expected = head.logits(beside(t.queries, other["queries"]))
    for one, two in ((4, 1), (1, 0.25)):
        again = make(name, t.text).fit(beside(one * t.X, two * other["X"]), t.y)
        found = again.logits(beside(two * t.queries, one * other["queries"]))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


# -- what does not fit -----------------------------------------------------------------------------


@every_one
def test_an_odd_width_is_refused(name: str) -> None:
    t = toy()
    with pytest.raises(InputError, match=r"width 25: .*original and corrected ones side by side"):
        make(name, t.text).fit(np.pad(t.X, ((0, 0), (0, 1))), t.y)


@every_one
def test_text_as_wide_as_both_halves_is_refused(name: str) -> None:
    t = toy()
    with pytest.raises(InputError, match=r"\(5, 24\): expected \(C, 12\) .* original half"):
        make(name, t.text).fit(t.X, t.y)


@pytest.mark.parametrize("name", CHOOSE)
def test_both_halves_are_refused_where_one_is_asked_for(name: str) -> None:
    t = toy()
    with pytest.raises(ValueError, match=r"\(5, 24\): expected \(C, 48\)"):
        make(name, t.text, similarity="original").fit(side_by_side(t.X), t.y)


@pytest.mark.parametrize("name", CHOOSE)
def test_another_word_is_refused(name: str) -> None:
    t = toy()
    with pytest.raises(InputError, match=r"'similarity'.*original or corrected"):
        make(name, t.text, similarity="improved").fit(t.X, t.y)


@every_one
def test_what_is_saved_takes_both_halves(name: str) -> None:
    t, other = toy(), corrected(toy())
    head = make(name, t.text).fit(beside(t.X, other["X"]), t.y)
    settings, queries = head.settings(), beside(t.queries, other["queries"])
    again = type(head).from_arrays(head.arrays(), head.classes_, settings, head.logit_scale)
    assert again.n_features_in_ == head.n_features_in_ == 48
    np.testing.assert_array_equal(again.logits(queries), head.logits(queries))
    if name == "proker":  # solved anew, without the images
        again.set_params(penalty=0.5)
        expected = head.set_params(penalty=0.5).logits(queries)
        np.testing.assert_array_equal(again.logits(queries), expected)


@pytest.mark.parametrize("name", CHOOSE)
def test_a_head_saved_before_there_were_corrections(name: str) -> None:
    t = toy()
    head = make(name, t.text, similarity="original").fit(t.X, t.y)
    settings = {k: v for k, v in head.settings().items() if k != "similarity"}
    again = type(head).from_arrays(head.arrays(), head.classes_, settings, head.logit_scale)
    np.testing.assert_array_equal(again.logits(t.queries), head.logits(t.queries))
