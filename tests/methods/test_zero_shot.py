"""Zero-shot: what must not change its answers."""

from __future__ import annotations

import numpy as np
import pytest

from handful.methods.zero_shot import ZeroShot

RNG = np.random.default_rng(0)
TEXT, X, QUERIES = (RNG.normal(size=(n, 12)) for n in (6, 6, 50))
Y = np.arange(6)


def fitted(text: np.ndarray, **settings: float) -> ZeroShot:
    return ZeroShot(text, **settings).fit(X, Y)  # type: ignore[arg-type]


def test_logits_are_scaled_cosines() -> None:
    cosines = [
        [q @ t / np.sqrt((q @ q) * (t @ t)) for t in TEXT.astype(np.float32).astype(float)]
        for q in QUERIES
    ]
    found = fitted(TEXT, logit_scale=37.0).logits(QUERIES)
    np.testing.assert_allclose(found, 37 * np.array(cosines), atol=1e-5)


def test_temperature_changes_probabilities_but_not_the_answer() -> None:
    cool, warm = fitted(TEXT, logit_scale=100.0), fitted(TEXT, logit_scale=1.0)
    np.testing.assert_array_equal(cool.predict(QUERIES), warm.predict(QUERIES))
    assert cool.predict_proba(QUERIES).max() > warm.predict_proba(QUERIES).max() + 0.1


@pytest.mark.parametrize("templates", [1, 7])
def test_an_ensemble_of_one_template_is_the_template(templates: int) -> None:
    ensemble = np.repeat(TEXT[:, None], templates, axis=1)
    np.testing.assert_allclose(fitted(ensemble).logits(QUERIES), fitted(TEXT).logits(QUERIES))


def test_the_support_images_play_no_part() -> None:
    other = ZeroShot(TEXT).fit(X[::-1].copy(), Y)
    np.testing.assert_array_equal(other.logits(QUERIES), fitted(TEXT).logits(QUERIES))


def test_without_text_it_is_the_nearest_class_mean() -> None:
    rows = np.concatenate([X, X + 0.1 * RNG.normal(size=X.shape)])
    labels = np.concatenate([Y, Y])
    short = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    means = np.stack([short[labels == c].mean(axis=0) for c in range(6)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    found = ZeroShot().fit(rows, labels).predict(QUERIES)
    np.testing.assert_array_equal(found, (QUERIES @ means.T).argmax(axis=1))
