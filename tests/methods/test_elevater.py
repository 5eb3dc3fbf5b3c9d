"""The heads of ELEVATER: their starts, the projection carried back, lengths, training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from handful import select
from handful.errors import InputError
from handful.methods.elevater import ElevaterL1P, ElevaterL2P, ElevaterR2P
from handful.methods.zero_shot import ZeroShot

# Classes near each other, as cosines of CLIP are, so that at a scale of 100 the text errs.
RNG = np.random.default_rng(0)
CENTRES = 2 * RNG.normal(size=16) + 0.5 * RNG.normal(size=(4, 16))
Y = np.repeat(np.arange(4), 3)
X = (CENTRES[Y] + 0.3 * RNG.normal(size=(12, 16))) * RNG.uniform(0.5, 2, size=(12, 1))
TEXT = CENTRES + 0.4 * RNG.normal(size=(4, 16))
QUERIES = CENTRES[RNG.integers(4, size=60)] + 0.5 * RNG.normal(size=(60, 16))
QUERIES *= RNG.uniform(0.5, 2, size=(60, 1))
ZERO_SHOT = ZeroShot(TEXT).fit(X, Y)

# Features h before a projection Π, and after it: z = Πᵀh.
PROJECTION = RNG.normal(size=(24, 16))
BEFORE, BEFORE_QUERIES = (rows @ np.linalg.pinv(PROJECTION) for rows in (X, QUERIES))
BEFORE = BEFORE + 0.1 * RNG.normal(size=BEFORE.shape)
AFTER, AFTER_QUERIES = BEFORE @ PROJECTION, BEFORE_QUERIES @ PROJECTION

every_head = pytest.mark.parametrize("kind", [ElevaterR2P, ElevaterL2P, ElevaterL1P])
from_text = pytest.mark.parametrize("kind", [ElevaterL2P, ElevaterL1P])


def short(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


# -- the start ---------------------------------------------------------------------------------


@from_text
@pytest.mark.parametrize("start_norm", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("feature_norm", [0.0, 1.0, 10.0])
def test_before_training_the_answers_are_those_of_zero_shot(
    kind: type[ElevaterL2P], start_norm: float, feature_norm: float
) -> None:
    head = kind(TEXT, start_norm=start_norm, feature_norm=feature_norm, epochs=0).fit(X, Y)
    np.testing.assert_array_equal(head.predict(QUERIES), ZERO_SHOT.predict(QUERIES))
    lengths = np.linalg.norm(QUERIES, axis=1, keepdims=True) if feature_norm == 0 else feature_norm
    if start_norm:  # the published equations: zᵀ(start_norm · W)
        expected = ZERO_SHOT.logits(QUERIES) / 100 * lengths * start_norm
        np.testing.assert_allclose(head.logits(QUERIES), expected, rtol=1e-5)
    elif feature_norm:
        np.testing.assert_allclose(head.logits(QUERIES), ZERO_SHOT.logits(QUERIES), rtol=1e-5)


def test_without_a_length_the_start_is_as_sharp_as_zero_shot_on_average() -> None:
    head = ElevaterL2P(TEXT, feature_norm=0.0, epochs=0).fit(X, Y)
    sharpness = np.linalg.norm(head.weight_, axis=1) * np.linalg.norm(X, axis=1).mean()
    np.testing.assert_allclose(sharpness, 100, rtol=1e-5)


def test_before_training_r2p_knows_nothing() -> None:
    head = ElevaterR2P(TEXT, epochs=0).fit(X, Y)
    np.testing.assert_array_equal(head.predict_proba(QUERIES), 0.25)


def test_with_batch_normalisation_the_start_is_not_zero_shot() -> None:
    head = ElevaterL2P(TEXT, batch_norm=True, epochs=0).fit(X, Y)
    assert (head.predict(QUERIES) != ZERO_SHOT.predict(QUERIES)).any()


# -- features before the projection --------------------------------------------------------------


@pytest.mark.parametrize("feature_norm", [0.0, 10.0])
def test_l1p_starts_with_the_answers_of_zero_shot_on_projected_features(
    feature_norm: float,
) -> None:
    head = ElevaterL1P(TEXT, projection=PROJECTION, feature_norm=feature_norm, epochs=0)
    head.fit(BEFORE, Y)
    expected = ZeroShot(TEXT).fit(AFTER, Y).predict(AFTER_QUERIES)
    np.testing.assert_array_equal(head.predict(BEFORE_QUERIES), expected)
    assert head.weight_.shape == (4, 24) and head.n_features_in_ == 24


def test_l1p_and_l2p_start_at_the_same_logits() -> None:
    """On features as they come, from class embeddings of length 1: as published."""
    published = {"feature_norm": 0.0, "start_norm": 1.0, "epochs": 0}
    two = ElevaterL2P(TEXT, **published).fit(AFTER, Y)
    one = ElevaterL1P(TEXT, projection=PROJECTION, **published).fit(BEFORE, Y)
    expected = two.logits(AFTER_QUERIES)
    np.testing.assert_allclose(one.logits(BEFORE_QUERIES), expected, rtol=1e-4, atol=1e-5)


def test_the_text_is_not_brought_to_unit_length_after_the_projection() -> None:
    """Its rows have different lengths there, and with unit ones the answers would differ."""
    stretched = PROJECTION * np.linspace(0.1, 5, 16)
    head = ElevaterL1P(TEXT, projection=stretched, epochs=0).fit(BEFORE, Y)
    np.testing.assert_allclose(head.text_, short(TEXT) @ stretched.T, rtol=1e-5)
    expected = ZeroShot(TEXT).fit(BEFORE @ stretched, Y).predict(BEFORE_QUERIES @ stretched)
    np.testing.assert_array_equal(head.predict(BEFORE_QUERIES), expected)
    unit_rows = (short(BEFORE_QUERIES) @ short(head.text_).T).argmax(axis=1)
    assert (unit_rows != expected).any()


def test_l1p_learns_in_the_wider_space() -> None:
    """Where classes differ in a direction that the projection drops, L-2P cannot tell them."""
    dropped = np.linalg.svd(PROJECTION)[0][:, -1]  # orthogonal to all columns of Π
    assert np.abs(dropped @ PROJECTION).max() < 1e-9
    same = np.tile(BEFORE.mean(axis=0), (12, 1)) + 0.01 * RNG.normal(size=BEFORE.shape)
    before = same + 2 * np.outer(np.where(Y % 2, 1.0, -1.0), dropped)
    text = np.tile(TEXT[:1], (4, 1))
    one = ElevaterL1P(text, projection=PROJECTION).fit(before, Y % 2)
    two = ElevaterL2P(text).fit(before @ PROJECTION, Y % 2)
    assert one.score(before, Y % 2) == 1
    assert two.predict_proba(before @ PROJECTION)[np.arange(12), Y % 2].mean() < 0.9


def test_a_projection_goes_with_templates_and_without_text() -> None:
    templates = TEXT[:, None] + 0.1 * RNG.normal(size=(4, 3, 16))
    pooled = short(short(templates).mean(axis=1))
    found = ElevaterL1P(templates, projection=PROJECTION, epochs=0).fit(BEFORE, Y)
    np.testing.assert_allclose(found.text_, pooled @ PROJECTION.T, rtol=1e-4, atol=1e-4)
    means = np.stack([short(AFTER)[c == Y].mean(axis=0) for c in range(4)])
    found = ElevaterL1P(projection=PROJECTION, epochs=0).fit(BEFORE, Y)
    np.testing.assert_allclose(found.text_, short(means) @ PROJECTION.T, rtol=1e-4, atol=1e-4)


def test_features_before_a_projection_that_is_not_given_are_refused() -> None:
    with pytest.raises(InputError, match=r"before the projection.* together with that projection"):
        ElevaterL1P(TEXT).fit(BEFORE, Y)


def test_a_projection_of_other_features_is_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(24, 16\): expected \(16, D\)"):
        ElevaterL1P(TEXT, projection=PROJECTION).fit(X, Y)
    with pytest.raises(ValueError, match=r"class embeddings have shape \(4, 15\)"):
        ElevaterL1P(TEXT[:, 1:], projection=PROJECTION).fit(BEFORE, Y)
    with pytest.raises(ValueError, match=r"(?i)nan"):
        ElevaterL1P(TEXT, projection=np.where(PROJECTION > 2, np.nan, PROJECTION)).fit(BEFORE, Y)


def test_class_embeddings_in_the_space_of_the_features_make_l1p_the_same_as_l2p() -> None:
    """A tower without a projection gives such features."""
    one, two = (kind(TEXT, epochs=10).fit(X, Y) for kind in (ElevaterL1P, ElevaterL2P))
    np.testing.assert_array_equal(one.logits(QUERIES), two.logits(QUERIES))


def test_the_projection_comes_from_the_task_and_is_no_setting() -> None:
    assert "projection" not in ElevaterL1P(projection=PROJECTION).settings()


# -- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [False, True])
@every_head
def test_equal_to_pytorchs_optimiser(kind: type[ElevaterR2P], batch_norm: bool) -> None:
    """Full batches: SGD, Nesterov momentum 0.9, coupled decay, cosine to 0; BatchNorm1d."""
    x = torch.tensor(10 * short(X), dtype=torch.float32)
    start = 0 * TEXT if kind is ElevaterR2P else 10 * short(TEXT)
    layer = torch.nn.Linear(16, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(start))
        layer.bias.zero_()
    # momentum=None: running averages over equal batches are those of the batch.
    norm = torch.nn.BatchNorm1d(16, affine=False, momentum=None) if batch_norm else None
    settings = {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
    optimiser = torch.optim.SGD(layer.parameters(), **settings)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20)
    for _ in range(20):
        optimiser.zero_grad()
        logits = layer(norm(x) if norm else x)
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(Y)).backward()
        optimiser.step()
        schedule.step()
    head = kind(TEXT, batch_norm=batch_norm, epochs=20, weight_decay=0.01).fit(X, Y)
    x = torch.tensor(10 * short(QUERIES), dtype=torch.float32)
    if norm:
        # Variance over 12 images: running averages hold it divided by 11, training by 12.
        norm.running_var *= 11 / 12
        x = norm.eval()(x)
    expected = layer(x).detach().numpy()
    np.testing.assert_allclose(
        head.logits(QUERIES), expected, rtol=0, atol=1e-3 * np.abs(expected).max()
    )


@every_head
def test_training_lowers_the_loss_on_the_support(kind: type[ElevaterR2P]) -> None:
    def loss(epochs: int) -> float:
        head = kind(TEXT, epochs=epochs).fit(X, Y)
        return float(-np.log(head.predict_proba(X)[np.arange(12), Y]).mean())

    assert loss(50) < 0.7 * loss(0)


@every_head
def test_features_of_any_length_train_the_same_classifier(kind: type[ElevaterR2P]) -> None:
    found, expected = (kind(TEXT, epochs=10).fit(rows, Y) for rows in (short(X), X))
    np.testing.assert_allclose(found.logits(short(QUERIES)), expected.logits(QUERIES), atol=1e-3)


@every_head
def test_features_may_stay_as_they_come(kind: type[ElevaterR2P]) -> None:
    head = kind(TEXT, feature_norm=0.0, epochs=10).fit(X, Y)
    expected = QUERIES @ head.weight_.astype(np.float64).T + head.bias_
    np.testing.assert_allclose(head.logits(QUERIES), expected, rtol=1e-12)


@from_text
def test_a_class_without_images_keeps_its_class_embedding(kind: type[ElevaterL2P]) -> None:
    rows = Y != 2
    head = kind(TEXT, weight_decay=0.1).fit(X[rows], Y[rows])
    np.testing.assert_allclose(head.weight_[2], 10 * short(TEXT)[2], rtol=1e-5)
    assert head.bias_[2] == 0


@pytest.mark.parametrize("batch_norm", [False, True])
def test_r2p_never_predicts_a_class_without_images(batch_norm: bool) -> None:
    rows = Y != 2
    head = ElevaterR2P(TEXT, batch_norm=batch_norm).fit(X[rows], Y[rows])
    assert (head.predict_proba(np.concatenate([QUERIES, TEXT]))[:, 2] == 0).all()


def test_r2p_does_not_look_at_the_text() -> None:
    found, expected = (ElevaterR2P(text, epochs=5).fit(X, Y) for text in (TEXT, TEXT[::-1]))
    np.testing.assert_array_equal(found.logits(QUERIES), expected.logits(QUERIES))


def test_r2p_refuses_images_of_one_class() -> None:
    with pytest.raises(InputError, match=r"images alone, and all of them are of one class .1."):
        ElevaterR2P(TEXT).fit(X[3:6], Y[3:6])


@pytest.mark.parametrize("name", ["elevater-l2p", "elevater-l1p"])
@pytest.mark.parametrize("shots", [1, 4])
def test_above_zero_shot_on_real_features(whu: Callable[..., Any], name: str, shots: int) -> None:
    """By more than 2 points as it comes; no published figure exists there."""
    task, X_test, y_test = whu("vit-b-32", shots, 1)
    zero_shot = ZeroShot(**task.head_arguments()).fit(task.X, task.y).score(X_test, y_test)
    assert select(name, task, "fixed").score(X_test, y_test) > zero_shot + 0.02
