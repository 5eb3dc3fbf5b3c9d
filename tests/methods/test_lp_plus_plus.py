"""LP++: the published outputs step by step, and what the steps must and must not depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from oracles import Oracle, OracleInputs, assert_agree

from handful.functional.normalise import unit
from handful.functional.step_sizes import blend_step, first_blend, weight_step
from handful.methods import lp_plus_plus
from handful.methods.lp_plus_plus import LPPlusPlus
from handful.methods.zero_shot import ZeroShot

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 16))
Y = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
X = CENTRES[Y] + 0.5 * RNG.normal(size=(10, 16))
VIEWS = X[:, None] + 0.3 * RNG.normal(size=(10, 5, 16))
TEXT = CENTRES + 0.8 * RNG.normal(size=(4, 16))
QUERIES = CENTRES[RNG.integers(4, size=30)] + 0.8 * RNG.normal(size=(30, 16))


def short(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def fitted(rows: np.ndarray = X, labels: np.ndarray = Y, **settings: Any) -> LPPlusPlus:
    return LPPlusPlus(TEXT, **{"class_weight": "none", **settings}).fit(rows, labels)


# -- the published code ----------------------------------------------------------------------------


def test_published_constants(oracle_inputs: OracleInputs, oracle: Oracle) -> None:
    i, published = oracle_inputs, oracle("lp_plus_plus")
    similarity = i.support @ i.text.T
    assert_agree(weight_step(i.support)[None], published["lr_w"])
    assert_agree(blend_step(similarity)[None], published["lr_alpha"])
    assert_agree(first_blend(similarity, i.labels)[None], published["alpha_init"])


@pytest.mark.parametrize("steps", [0, 1, 20, 40])
@pytest.mark.parametrize("alpha_grad", ["accumulate", "fresh"])
def test_published_steps(
    oracle_inputs: OracleInputs,
    oracle: Oracle,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    alpha_grad: str,
) -> None:
    """With the given bias. The two gradients differ by 1e-4 of the logits after 20 steps, so the
    tolerance is 1e-5; up to one step they are the same."""
    i, published = oracle_inputs, oracle("lp_plus_plus")
    monkeypatch.setattr(lp_plus_plus, "_first_bias", lambda *_: published["bias_init"])
    head = LPPlusPlus(i.text.numpy(), steps=steps, alpha_grad=alpha_grad)
    head.fit(i.support.numpy(), i.labels.numpy())
    logits = head.logits(i.queries.numpy())
    if steps == 0:
        assert_agree(head.weight_, published["weight_init"])
        assert_agree(logits, published["query_logits_init"], 1e-5)
        assert_agree(head.logits(i.support.numpy()), published["support_logits_init"], 1e-5)
        return
    mended = "mended_" if alpha_grad == "fresh" and steps > 1 else ""
    assert_agree(logits, published[f"{mended}query_logits_after_{steps}"], 1e-5)
    assert_agree(head.weight_, published[f"{mended}weight_after_{steps}"])
    moved = head.blend_ - published["alpha_init"].numpy()
    expected = (published[f"{mended}alpha_after_{steps}"] - published["alpha_init"]).numpy()
    np.testing.assert_allclose(moved, expected, atol=5e-5, rtol=0)
    if not mended:
        assert_agree(head.bias_, published[f"bias_after_{steps}"])


# -- its equations ---------------------------------------------------------------------------------


def reference(
    x: torch.Tensor, y: torch.Tensor, steps: int, accumulate: bool, views: int = 1
) -> dict[str, Any]:
    """By automatic differentiation and PyTorch's SGD, in float64, in the space of the features."""
    text = unit(torch.from_numpy(TEXT))
    similarity = x @ text.T
    weight = (torch.zeros_like(text).index_add_(0, y, x) / views).requires_grad_()
    bias = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    blend = first_blend(similarity, y).expand(4).clone().requires_grad_()
    optimiser = torch.optim.SGD([weight, bias], lr=float(weight_step(x)), momentum=0.9)
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        if not accumulate:
            blend.grad = None
        logits = x @ weight.T + bias + blend * similarity
        torch.nn.functional.cross_entropy(logits, y).backward()
        optimiser.step()
        if step % 10 == 0:
            assert blend.grad is not None
            blend.data -= blend_step(similarity) * blend.grad
    return {"weight_": weight, "bias_": bias, "blend_": blend}


@pytest.mark.parametrize("alpha_grad", ["fresh", "accumulate"])
@pytest.mark.parametrize("images", [10, 40])
def test_steps_follow_the_gradient(alpha_grad: str, images: int) -> None:
    """Fewer images than dimensions, where the span is enough, and more."""
    labels = np.resize(Y, images)
    rows = CENTRES[labels] + 0.9 * RNG.normal(size=(images, 16))
    head = fitted(rows, labels, steps=35, alpha_grad=alpha_grad)
    accumulate = alpha_grad == "accumulate"
    expected = reference(
        unit(torch.from_numpy(rows)), torch.from_numpy(labels), 35, accumulate=accumulate
    )
    for name, value in expected.items():
        want = value.detach().numpy()
        np.testing.assert_allclose(getattr(head, name), want, atol=1e-3 * abs(want).max())


def test_without_a_probe_and_one_blend_for_all_it_is_zero_shot() -> None:
    head = fitted(steps=0)
    head.weight_ = np.zeros_like(head.weight_)
    assert np.ptp(head.blend_) == 0 and head.blend_[0] > 0 and (head.bias_ == 0).all()
    np.testing.assert_array_equal(head.predict(QUERIES), ZeroShot(TEXT).fit(X, Y).predict(QUERIES))


def test_training_lowers_the_loss_on_the_support() -> None:
    wrong = np.roll(Y, 1)  # labels that names and images speak against

    def loss(steps: int) -> float:
        probabilities = fitted(labels=wrong, steps=steps).predict_proba(X)
        return float(-np.log(probabilities[np.arange(10), wrong]).mean())

    assert loss(300) < 0.5 * loss(30) < 0.25 * loss(0)


def test_the_start_sums_over_images_and_averages_over_views() -> None:
    views = np.repeat(X[:, None], 3, axis=1)
    for head in (
        fitted(steps=0),
        LPPlusPlus(TEXT, steps=0, class_weight="none").fit(X, Y, views=views),
    ):
        expected = np.stack([short(X[c == Y]).sum(axis=0) for c in range(4)])
        np.testing.assert_allclose(head.weight_, expected, atol=1e-5)


def test_every_view_is_a_sample_in_every_step() -> None:
    head = LPPlusPlus(TEXT, steps=25, class_weight="none").fit(X, Y, views=VIEWS)
    samples, labels = unit(torch.from_numpy(VIEWS.reshape(-1, 16))), np.repeat(Y, 5)
    expected = reference(samples, torch.from_numpy(labels), 25, accumulate=False, views=5)
    for name, value in expected.items():
        want = value.detach().numpy()
        np.testing.assert_allclose(getattr(head, name), want, atol=1e-3 * abs(want).max())


# -- runs ------------------------------------------------------------------------------------------


def test_numbers_of_steps_are_read_off_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Selection asks for several numbers of steps on equal data: they cost no more than one."""
    stacked = []
    descend = lp_plus_plus._descend

    def counted(supports: Any, *args: Any, **kwargs: Any) -> Any:
        stacked.append(len(supports))
        return descend(supports, *args, **kwargs)

    monkeypatch.setattr(lp_plus_plus, "_descend", counted)
    noisy = X + 0.1
    data = [(X, Y, None), (noisy, Y, None)] * 3
    how = (5, 5, 17, 17, 0, 0)
    heads = [LPPlusPlus(TEXT, steps=steps, class_weight="none") for steps in how]
    LPPlusPlus.fit_many(heads, data)
    assert stacked == [2]
    for head, (rows, labels, _) in zip(heads, data, strict=True):
        alone = fitted(rows, labels, steps=head.steps)
        np.testing.assert_allclose(head.weight_, alone.weight_, atol=1e-4)
        np.testing.assert_allclose(head.blend_, alone.blend_, rtol=1e-4)


def test_a_random_bias_comes_from_the_seed() -> None:
    def bias(**settings: Any) -> np.ndarray:
        return fitted(steps=0, random_bias=True, **settings).bias_

    np.testing.assert_array_equal(bias(random_state=1), bias(random_state=1))
    assert not np.array_equal(bias(random_state=1), bias(random_state=2))
    draws = np.concatenate([bias(random_state=seed) for seed in range(50)])
    assert 0.24 < abs(draws).max() <= 0.25  # 1 / sqrt(16)
    assert draws.min() < -0.2 and abs(draws.mean()) < 0.05


def test_seeds_play_no_part_otherwise() -> None:
    np.testing.assert_array_equal(fitted(random_state=1).weight_, fitted(random_state=2).weight_)


def test_heads_of_other_seeds_are_runs_of_their_own() -> None:
    heads = [LPPlusPlus(TEXT, steps=3, random_bias=True, random_state=s) for s in (1, 2)]
    LPPlusPlus.fit_many(heads, [(X, Y, None)] * 2)
    for seed, head in zip((1, 2), heads, strict=True):
        alone = fitted(steps=3, random_bias=True, random_state=seed)
        np.testing.assert_allclose(head.bias_, alone.bias_, atol=1e-5)
