"""ZS-LP and CLAP: published outputs and gradient, the pull and its limits, the text's length."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Oracle, OracleInputs, assert_agree

from handful.functional.cosine import cosine_logits
from handful.functional.prototype_pull import MULTIPLIERS, class_multipliers, pull_penalty
from handful.methods.clap import Clap, ZeroShotLinearProbe
from handful.methods.zero_shot import ZeroShot

# Classes near each other, as cosines of CLIP are, so that at a scale of 100 the text errs.
RNG = np.random.default_rng(0)
CENTRES = 2 * RNG.normal(size=16) + 0.5 * RNG.normal(size=(4, 16))
Y = np.repeat(np.arange(4), 3)
X = CENTRES[Y] + 0.3 * RNG.normal(size=(12, 16))
TEXT = CENTRES + 0.4 * RNG.normal(size=(4, 16))
QUERIES = CENTRES[RNG.integers(4, size=30)] + 0.5 * RNG.normal(size=(30, 16))
ZERO_SHOT = ZeroShot(TEXT).fit(X, Y).logits(QUERIES)

VARIANTS = {"class": "", **{how: f"_{how}" for how in MULTIPLIERS if how != "class"}}
both = pytest.mark.parametrize("kind", [ZeroShotLinearProbe, Clap])


def loss(head: ZeroShotLinearProbe) -> float:
    return float(-np.log(head.predict_proba(X)[np.arange(12), Y]).mean())


def drift(head: ZeroShotLinearProbe) -> float:
    return float(np.linalg.norm(head.prototypes_ - np.float32(head.text_norm) * head.text_))


# -- the published code ------------------------------------------------------------------------


@pytest.mark.parametrize("how", VARIANTS)
def test_published_multipliers_and_penalty(
    oracle_inputs: OracleInputs, oracle: Oracle, how: Any
) -> None:
    published, text = oracle("clap"), oracle_inputs.text
    zero_shot = cosine_logits(oracle_inputs.support, text, 100.0)
    multipliers = class_multipliers(zero_shot, oracle_inputs.labels, how)
    assert_agree(multipliers, published[f"multipliers{VARIANTS[how]}"])
    penalty = pull_penalty(text + published["perturbation"], text, multipliers)
    assert_agree(penalty[None], published[f"penalty{VARIANTS[how]}"])
    if how == "class":
        longer = pull_penalty(9 * (text + published["perturbation"]), 9 * text, multipliers)
        assert_agree(longer[None], published["penalty_norm9"])
        assert_agree(multipliers, published["multipliers_norm9"])


def test_published_logits_loss_and_gradient(oracle_inputs: OracleInputs, oracle: Oracle) -> None:
    published, text = oracle("clap"), oracle_inputs.text
    prototypes = (text + published["perturbation"]).requires_grad_()
    logits = cosine_logits(oracle_inputs.queries, prototypes, 100.0)
    assert_agree(logits.detach(), published["logits"])
    logits = cosine_logits(oracle_inputs.support, prototypes, 100.0)
    total = torch.nn.functional.cross_entropy(logits, oracle_inputs.labels)
    total = total + pull_penalty(prototypes, text, published["multipliers"])
    assert_agree(total.detach()[None], published["support_loss_total"])
    total.backward()
    assert prototypes.grad is not None
    assert_agree(prototypes.grad, published["grad_prototypes"])


@both
def test_published_prototypes_in_the_head(
    oracle_inputs: OracleInputs, oracle: Oracle, kind: type[ZeroShotLinearProbe]
) -> None:
    head = kind(oracle_inputs.text.numpy(), epochs=0)
    head.fit(oracle_inputs.support.numpy(), oracle_inputs.labels.numpy())
    head.prototypes_ = (oracle_inputs.text + oracle("clap")["perturbation"]).numpy()
    assert_agree(head.logits(oracle_inputs.queries.numpy()), oracle("clap")["logits"])


# -- training ----------------------------------------------------------------------------------


@both
def test_without_training_it_is_zero_shot(kind: type[ZeroShotLinearProbe]) -> None:
    for norm in (1.0, 9.0):
        head = kind(TEXT, epochs=0, text_norm=norm).fit(X, Y)
        np.testing.assert_allclose(np.linalg.norm(head.prototypes_, axis=1), norm, rtol=1e-6)
        np.testing.assert_allclose(head.logits(QUERIES), ZERO_SHOT, rtol=1e-5, atol=1e-5)


def by_hand(multipliers: np.ndarray, epochs: int, lr: float) -> np.ndarray:
    """Full batches: momentum 0.9, one epoch at 1e-5, then a cosine; then the pull, in float64."""
    x, text = (torch.from_numpy(a / np.linalg.norm(a, axis=1, keepdims=True)) for a in (X, TEXT))
    start = 9 * text
    prototypes, velocity = start.clone(), torch.zeros_like(start)
    for epoch in range(epochs):
        rate = lr * (1 + np.cos(np.pi * epoch / epochs)) / 2 if epoch else 1e-5
        trained = prototypes.clone().requires_grad_()
        logits = 100 * x @ torch.nn.functional.normalize(trained).T
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(Y)).backward()
        velocity = 0.9 * velocity + trained.grad
        prototypes = prototypes - rate * velocity
        shrink = 1 / (1 + 2 * 10 * rate * torch.from_numpy(multipliers)[:, None] / 4)
        prototypes = start + (prototypes - start) * shrink
    return prototypes.numpy()


def test_training_by_hand() -> None:
    probabilities = ZeroShot(TEXT).fit(X, Y).predict_proba(X)
    multipliers = np.array([probabilities[c == Y, c].mean() for c in range(4)])
    head = Clap(TEXT, epochs=10).fit(X, Y)
    np.testing.assert_allclose(head.prototypes_, by_hand(multipliers, 10, 0.1), atol=1e-4)
    probe = ZeroShotLinearProbe(TEXT, epochs=10).fit(X, Y)
    np.testing.assert_allclose(probe.prototypes_, by_hand(np.zeros(4), 10, 0.1), atol=1e-4)
    assert np.abs(probe.prototypes_ - head.prototypes_).max() > 0.01


def test_it_stands_still_where_the_gradient_of_its_loss_is_zero() -> None:
    """Of cross-entropy and penalty together, and not of the penalty at a tenth of its strength."""
    # At this scale training comes to rest.
    head = Clap(TEXT, logit_scale=20.0, multipliers="balanced", epochs=200).fit(X, Y)
    x, text = (torch.from_numpy(a / np.linalg.norm(a, axis=1, keepdims=True)) for a in (X, TEXT))
    prototypes = torch.from_numpy(head.prototypes_).double().requires_grad_()
    logits = 20 * x @ torch.nn.functional.normalize(prototypes).T
    entropy = torch.nn.functional.cross_entropy(logits, torch.from_numpy(Y))
    (pushed,) = torch.autograd.grad(entropy, prototypes)
    held = 2 / 4 * (prototypes.detach() - 9 * text)
    torch.testing.assert_close(held, -pushed, rtol=0.01, atol=0.01 * float(pushed.abs().max()))


def test_training_lowers_the_loss_on_the_support() -> None:
    assert loss(ZeroShotLinearProbe(TEXT).fit(X, Y)) < 0.5 * loss(
        ZeroShotLinearProbe(TEXT, epochs=0).fit(X, Y)
    )


# -- the pull ----------------------------------------------------------------------------------


def test_no_pull_is_zs_lp() -> None:
    probe = ZeroShotLinearProbe(TEXT, epochs=50).fit(X, Y)
    head = Clap(TEXT, strength=0.0, epochs=50).fit(X, Y)
    np.testing.assert_array_equal(head.prototypes_, probe.prototypes_)


@pytest.mark.parametrize("how", MULTIPLIERS)
def test_an_infinite_pull_gives_the_prototypes_exactly(how: str) -> None:
    head = Clap(TEXT, strength=1e30, multipliers=how, epochs=50).fit(X, Y)
    start = np.float32(9.0) * head.text_
    np.testing.assert_array_equal(head.prototypes_, start)


@pytest.mark.parametrize("how", MULTIPLIERS)
def test_the_drift_falls_as_the_pull_grows(how: str) -> None:
    """Far beyond 360, where the published training gives numbers that are none."""
    strengths = [0.0, 0.1, 1.0, 10.0, 1e3, 1e6]
    heads = [Clap(TEXT, strength=s, multipliers=how, epochs=30) for s in strengths]
    found = [drift(head.fit(X, Y)) for head in heads]
    assert all(a > b for a, b in pairwise(found))
    assert found[-1] < 1e-4 * found[0]


def test_the_better_the_text_the_nearer_a_class_stays() -> None:
    """Two classes whose texts are exchanged drift further than those whose texts are right."""
    exchanged = CENTRES[[1, 0, 2, 3]]
    heads = [kind(exchanged, epochs=100).fit(X, Y) for kind in (ZeroShotLinearProbe, Clap)]
    free, held = (np.linalg.norm(h.prototypes_ - 9 * h.text_, axis=1) for h in heads)
    assert (held[:2] / free[:2]).min() > (held[2:] / free[2:]).max()


# -- what counts and what does not ---------------------------------------------------------------


@both
def test_a_class_without_images_stays_at_its_class_embedding(
    kind: type[ZeroShotLinearProbe],
) -> None:
    rows = Y != 2
    head = kind(TEXT, epochs=50).fit(X[rows], Y[rows])
    np.testing.assert_array_equal(head.prototypes_[2], np.float32(9.0) * head.text_[2])
    np.testing.assert_allclose(head.logits(QUERIES)[:, 2], ZERO_SHOT[:, 2], rtol=1e-5, atol=1e-5)
    assert not np.allclose(head.prototypes_[1], 9 * head.text_[1], atol=0.01)


def test_the_length_is_a_setting_and_not_that_of_the_class_embeddings() -> None:
    """A step is 81 times as large for unit prototypes: at 81 times the rate 9 does the same."""
    fitted = [ZeroShotLinearProbe(k * TEXT, epochs=20).fit(X, Y).logits(QUERIES) for k in (1, 8)]
    np.testing.assert_array_equal(*fitted)
    short = ZeroShotLinearProbe(TEXT, text_norm=1.0, epochs=10, lr=0.01).fit(X, Y)
    long = ZeroShotLinearProbe(TEXT, text_norm=9.0, epochs=10, lr=0.81).fit(X, Y)
    # Nearly: the slow first epoch is at 1e-5 whatever the rate.
    np.testing.assert_allclose(short.logits(QUERIES), long.logits(QUERIES), atol=0.1)
    assert np.abs(short.logits(QUERIES) - ZERO_SHOT).max() > 1
