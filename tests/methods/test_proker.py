"""ProKeR: its limits, its closed forms, and settings that are chosen without refitting."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from handful import FewShotTask, select
from handful.methods.proker import ProKeR
from handful.methods.zero_shot import ZeroShot

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 16))
Y = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
X = CENTRES[Y] + 0.5 * RNG.normal(size=(10, 16))
VIEWS = X[:, None] + 0.3 * RNG.normal(size=(10, 5, 16))
TEXT = CENTRES + 0.8 * RNG.normal(size=(4, 16))
QUERIES = CENTRES[RNG.integers(4, size=30)] + 0.8 * RNG.normal(size=(30, 16))

both = pytest.mark.parametrize("target", ["probability", "logit"])


def short(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def fitted(rows: np.ndarray = X, labels: np.ndarray = Y, **settings: Any) -> ProKeR:
    # At this scale the text leaves much unexplained.
    settings = {"logit_scale": 8.0, "class_weight": "none", **settings}
    return ProKeR(TEXT, **settings).fit(rows, labels)


@both
@pytest.mark.parametrize("blend", [1.0, 0.4])
def test_f_follows_its_equation(target: str, blend: float) -> None:
    head = fitted(blend=blend, sharpness=2.0, penalty=0.3, target=target, height=12.0)
    x, keys, text = short(QUERIES), short(X), short(TEXT)

    def prior(rows: np.ndarray) -> np.ndarray:
        z = 8 * rows @ text.T
        return softmax(z) if target == "probability" else z

    labels = np.eye(4)[Y] * (1 if target == "probability" else 12)
    system = np.exp(2 * (keys @ keys.T - 1)) + 0.3 * np.eye(10)
    solved = np.linalg.solve(system, labels - prior(keys))
    f = prior(x) + blend * np.exp(2 * (x @ keys.T - 1)) @ solved
    np.testing.assert_allclose(head.decision_function(QUERIES), f, atol=1e-5 * abs(f).max())
    if target == "probability":
        clipped = np.clip(f, 1e-12, None)
        f = clipped / clipped.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(head.predict_proba(QUERIES), f, atol=1e-6)
    else:
        np.testing.assert_allclose(head.predict_proba(QUERIES), softmax(f), atol=1e-4)


def test_some_values_are_clipped_here() -> None:
    """Otherwise the test above shows nothing of it."""
    assert fitted(sharpness=2.0, penalty=0.3).decision_function(QUERIES).min() < 0


@both
@pytest.mark.parametrize("settings", [{"penalty": 1e12}, {"blend": 0.0}])
def test_an_infinite_penalty_or_no_blend_is_zero_shot(
    target: str, settings: dict[str, float]
) -> None:
    zero_shot = ZeroShot(TEXT, logit_scale=8.0).fit(X, Y)
    head = fitted(target=target, **settings)
    np.testing.assert_allclose(
        head.predict_proba(QUERIES), zero_shot.predict_proba(QUERIES), atol=1e-9
    )


@both
def test_no_penalty_repeats_the_labels(target: str) -> None:
    head = fitted(penalty=1e-6, sharpness=20.0, target=target, height=12.0)
    height = 1 if target == "probability" else 12
    np.testing.assert_allclose(head.decision_function(X), height * np.eye(4)[Y], atol=1e-3)


@both
def test_leave_one_out_is_what_refits_give(target: str) -> None:
    settings: dict[str, Any] = {"sharpness": 2.0, "penalty": 0.1, "target": target, "blend": 0.7}
    found = fitted(**settings).leave_one_out()
    for i in range(10):
        rest = np.arange(10) != i
        head = fitted(X[rest], Y[rest], **settings)
        expected = head.decision_function(X[[i]])[0]
        np.testing.assert_allclose(found[i], expected, atol=2e-5 * abs(found).max())


def test_support_images_may_come_in_any_order() -> None:
    order = np.random.default_rng(1).permutation(10)
    np.testing.assert_allclose(
        fitted(X[order], Y[order]).decision_function(QUERIES),
        fitted().decision_function(QUERIES),
        atol=1e-5,
    )


def test_keys_are_unit_means_of_raw_views() -> None:
    head = ProKeR(TEXT).fit(X, Y, views=VIEWS)
    np.testing.assert_allclose(head.keys_, short(VIEWS.mean(axis=1)), atol=1e-6)


@both
def test_sweep_gives_what_refitting_gives(target: str) -> None:
    pairs = [(b, p) for b in (0.5, 5.0) for p in (0.01, 1.0, 100.0)]
    points = [{"sharpness": b, "penalty": p} for b, p in pairs]
    swept = list(fitted(target=target).sweep(QUERIES, points))
    assert len(swept) == 6
    for (sharpness, penalty), (base, correction) in zip(pairs, swept, strict=True):
        head = fitted(target=target, sharpness=sharpness, penalty=penalty, blend=1.5)
        expected = head.decision_function(QUERIES)
        atol = 1e-4 * abs(expected).max()
        np.testing.assert_allclose((base + 1.5 * correction).numpy(), expected, atol=atol)
    ((base, correction),) = fitted(target=target).sweep(QUERIES)  # the head's own settings
    expected = fitted(target=target).decision_function(QUERIES)
    np.testing.assert_allclose((base + correction).numpy(), expected, atol=1e-4)


def test_settings_of_a_fitted_head_take_effect_at_once() -> None:
    first = fitted()
    before = first.decision_function(QUERIES)
    other = copy.copy(first).set_params(sharpness=6.0, penalty=0.5, blend=0.5)
    expected = fitted(sharpness=6.0, penalty=0.5, blend=0.5)
    np.testing.assert_array_equal(
        other.decision_function(QUERIES), expected.decision_function(QUERIES)
    )
    np.testing.assert_array_equal(first.decision_function(QUERIES), before)


@pytest.mark.parametrize("policy", ["val", "cv"])
def test_selection_leaves_a_head_of_the_chosen_settings(policy: str) -> None:
    val: dict[str, Any] = {"X_val": QUERIES, "y_val": RNG.integers(4, size=30)}
    task = FewShotTask(X, Y, **(val if policy == "val" else {}), class_embeddings=TEXT)
    head = select("proker", task, policy)
    again = ProKeR(TEXT, **head.settings()).fit(X, Y)
    assert head.selection_.settings.keys() == {"blend", "sharpness", "penalty"}
    np.testing.assert_array_equal(head.logits(QUERIES), again.logits(QUERIES))


def test_precision_on_real_features(whu: Any) -> None:
    """Small penalties and flat kernels make large coefficients that cancel; saved as float32, they
    must still say what the sweep, in float64, was judged by."""
    task, X_test, _ = whu("vit-b-32", 16, 1)
    head = ProKeR(**task.head_arguments(), sharpness=0.5, penalty=1e-3).fit(task.X, task.y)
    ((base, correction),) = head.sweep(X_test)
    np.testing.assert_allclose(
        head.decision_function(X_test), (base + correction).numpy(), atol=1e-3
    )
