"""The nearest class mean against a loop over classes."""

from __future__ import annotations

import numpy as np
import pytest

from handful.methods.nearest_class_mean import NearestClassMean

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 12))
Y = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3])
X = (CENTRES[Y] + 0.6 * RNG.normal(size=(9, 12))) * RNG.uniform(2, 9, size=(9, 1))
QUERIES = CENTRES[RNG.integers(4, size=30)] + 0.8 * RNG.normal(size=(30, 12))


def short(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_logits_are_cosines_to_the_means_of_unit_features() -> None:
    """Unit features first, mean, unit again: long features must not count for more."""
    means = np.stack([short(short(X[c == Y]).mean(axis=0)) for c in range(4)])
    found = NearestClassMean(scale=0.7, logit_scale=30.0).fit(X, Y)
    np.testing.assert_allclose(found.means_, means, atol=1e-6)
    np.testing.assert_allclose(found.logits(QUERIES), 21 * short(QUERIES) @ means.T, atol=1e-4)
    for k in (1e-3, 1e3):
        np.testing.assert_allclose(found.logits(k * QUERIES), found.logits(QUERIES), rtol=1e-9)


def test_views_count_as_the_unit_mean_of_the_raw_ones() -> None:
    views = X[:, None] * RNG.uniform(0.5, 2, size=(9, 3, 1)) + RNG.normal(size=(9, 3, 12))
    found = NearestClassMean().fit(X, Y, views=views)
    np.testing.assert_allclose(
        found.means_, NearestClassMean().fit(views.mean(axis=1), Y).means_, atol=1e-6
    )


def test_the_text_plays_no_part() -> None:
    found = NearestClassMean(RNG.normal(size=(4, 12))).fit(X, Y).logits(QUERIES)
    np.testing.assert_array_equal(found, NearestClassMean().fit(X, Y).logits(QUERIES))


def test_the_scale_changes_probabilities_but_not_labels() -> None:
    flat, sharp = (NearestClassMean(scale=s).fit(X, Y) for s in (0.01, 1.0))
    np.testing.assert_array_equal(flat.predict(QUERIES), sharp.predict(QUERIES))
    assert flat.predict_proba(QUERIES).max() < 0.5 < sharp.predict_proba(QUERIES).max()


def test_a_class_without_images_is_never_predicted() -> None:
    text = np.eye(4, 12)
    head = NearestClassMean(text).fit(X[Y != 2], Y[Y != 2])
    assert (head.predict_proba(text)[:, 2] == 0).all()
    rest = NearestClassMean().fit(X[Y != 2], np.array([0, 1, 9, 2])[Y[Y != 2]])
    np.testing.assert_allclose(head.logits(QUERIES)[:, [0, 1, 3]], rest.logits(QUERIES))


def test_images_of_one_class_are_refused_by_name() -> None:
    head = NearestClassMean(np.eye(4, 12), class_names=list("abcd"))
    with pytest.raises(ValueError, match=r"all of them are of one class \('b'\)"):
        head.fit(X[:2], np.array(["b", "b"]))
