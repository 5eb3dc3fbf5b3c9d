"""The linear probe against scikit-learn, and the limits of its penalty."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from handful.methods.linear_probe import LinearProbe


def problem(
    classes: int = 4, shots: int = 5, width: int = 40, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Fewer images than features, of lengths about 6."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), shots)
    return rng.normal(size=(classes, width))[y] + rng.normal(size=(len(y), width)) * 0.8, y


def loss(head: LinearProbe, X: np.ndarray, y: np.ndarray) -> float:
    return float(-log_softmax(head.logits(X), axis=1)[np.arange(len(y)), y].sum())


@pytest.mark.parametrize("C", [1e-3, 0.316, 10.0])
def test_equals_scikit_learn_on_the_features_as_they_are(C: float) -> None:
    X, y = problem()
    queries = problem(seed=1)[0]
    head = LinearProbe(C=C).fit(X, y)
    reference = LogisticRegression(C=C, max_iter=10_000, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(
        head.predict_proba(queries), reference.predict_proba(queries), atol=1e-3
    )
    np.testing.assert_allclose(
        head.weight_, reference.coef_, atol=1e-3 * np.abs(head.weight_).max()
    )


@pytest.mark.parametrize("C", [1e-2, 1.0])
def test_more_images_than_features(C: float) -> None:
    X, y = problem(shots=30, width=7)
    reference = LogisticRegression(C=C, max_iter=10_000, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(
        LinearProbe(C=C).fit(X, y).predict_proba(X), reference.predict_proba(X), atol=1e-3
    )


def test_two_classes_have_two_rows_with_the_same_objective() -> None:
    """The objective of C rows, minimised directly: of two classes the optimum is ±u/2."""
    X, y = problem(classes=2, width=6)
    creg = 0.5

    def objective(flat: np.ndarray) -> float:
        weight, bias = flat[:12].reshape(2, 6), flat[12:]
        picked = log_softmax(X @ weight.T + bias, axis=1)[np.arange(len(y)), y]
        return float(-picked.sum() + (weight**2).sum() / (2 * creg))

    best = minimize(objective, np.zeros(14), tol=1e-10).x
    head = LinearProbe(C=creg).fit(X, y)
    np.testing.assert_allclose(head.weight_, best[:12].reshape(2, 6), atol=2e-3)
    np.testing.assert_array_equal(head.weight_[0], -head.weight_[1])
    np.testing.assert_array_equal(head.bias_[0], -head.bias_[1])
    assert np.diff(head.bias_)[0] == pytest.approx(best[13] - best[12], abs=1e-2)


def test_a_strong_penalty_leaves_the_shares_of_the_classes() -> None:
    X, y = problem(shots=6)
    keep = np.r_[0:6, 6:9, 12:14, 18:19]  # 6, 3, 2 and 1 images
    for how, shares in (("none", [6 / 12, 3 / 12, 2 / 12, 1 / 12]), ("balanced", [1 / 4] * 4)):
        head = LinearProbe(C=1e-9, class_weight=how).fit(X[keep], y[keep])
        found = head.predict_proba(problem(seed=1)[0])
        np.testing.assert_allclose(found, np.tile(shares, (20, 1)), atol=1e-3)


def test_solution_lies_in_the_span_of_the_images() -> None:
    X, y = problem()
    weight = LinearProbe().fit(X, y).weight_.astype(float)
    outside = weight - weight @ np.linalg.pinv(X) @ X
    assert np.abs(outside).max() < 1e-6 * np.abs(weight).max()


def test_loss_does_not_grow_with_c() -> None:
    X, y = problem()
    y = y.copy()
    y[::4] = (y[::4] + 1) % 4  # some wrong labels
    values = [1e-6, 1e-4, 1e-2, 0.316, 1.0, 1e2, 1e4]
    losses = [loss(LinearProbe(C=C).fit(X, y), X, y) for C in values]
    assert all(later <= before + 1e-3 for before, later in pairwise(losses))
    assert losses[-1] < 0.1 * losses[0]


def test_the_text_plays_no_part() -> None:
    X, y = problem()
    text = np.random.default_rng(2).normal(size=(4, 40))
    found = LinearProbe(text).fit(X, y)
    np.testing.assert_array_equal(found.weight_, LinearProbe().fit(X, y).weight_)


def test_unit_features_are_given_the_length_they_had() -> None:
    """Features of length 10 and the same at unit length: one classifier, one meaning of C."""
    X, y = problem()
    short = X / np.linalg.norm(X, axis=1, keepdims=True)
    long = LinearProbe(C=0.3).fit(10 * short, y)
    found = LinearProbe(C=0.3, unit_norm=10.0).fit(short, y)
    np.testing.assert_allclose(found.logits(short), long.logits(10 * short), atol=1e-4)


def test_raw_features_are_left_as_they_are() -> None:
    X, y = problem()
    found = [LinearProbe(unit_norm=norm).fit(X, y).weight_ for norm in (1.0, 10.0)]
    np.testing.assert_array_equal(*found)


def test_a_class_without_images_is_never_predicted() -> None:
    X, y = problem()
    head = LinearProbe(np.eye(4, 40)).fit(X[y != 2], y[y != 2])
    assert (head.predict_proba(problem(seed=1)[0])[:, 2] == 0).all()
    reference = LogisticRegression(C=0.316, max_iter=10_000, tol=1e-8).fit(X[y != 2], y[y != 2])
    np.testing.assert_allclose(
        head.predict_proba(X)[:, [0, 1, 3]], reference.predict_proba(X), atol=1e-3
    )


def test_one_image_per_class_is_no_reason_for_a_warning() -> None:
    import warnings

    X = np.random.default_rng(0).normal(size=(30, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LinearProbe().fit(X, np.arange(30))
