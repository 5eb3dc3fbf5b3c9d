"""TaskRes: the published outputs and gradients, its limits, the length of texts, its training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import Oracle, OracleInputs, assert_agree

from handful.functional.cosine import cosine_logits
from handful.functional.task_residual import residual_text
from handful.methods import task_res
from handful.methods.task_res import TaskRes
from handful.methods.zero_shot import ZeroShot

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 16))
Y = np.repeat(np.arange(4), 3)
X = CENTRES[Y] + 0.5 * RNG.normal(size=(12, 16))
TEXT = CENTRES + 0.8 * RNG.normal(size=(4, 16))
QUERIES = CENTRES[RNG.integers(4, size=30)] + 0.8 * RNG.normal(size=(30, 16))
ZERO_SHOT = ZeroShot(TEXT).fit(X, Y).logits(QUERIES)


def loss(head: TaskRes) -> float:
    return float(-np.log(head.predict_proba(X)[np.arange(12), Y]).mean())


# -- the published code ------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "tag"), [(1.0, ""), (9.0, "_norm9")])
def test_published_equations_loss_and_gradient(
    oracle_inputs: OracleInputs, oracle: Oracle, norm: float, tag: str
) -> None:
    published = oracle("taskres")
    residual = published["residual"].clone().requires_grad_()
    text = residual_text(oracle_inputs.text, residual, 0.5, norm)
    logits = cosine_logits(oracle_inputs.queries, text, 100.0)
    assert_agree(logits.detach(), published[f"logits{tag}"])
    logits = cosine_logits(oracle_inputs.support, text, 100.0)
    found = torch.nn.functional.cross_entropy(logits, oracle_inputs.labels)
    assert_agree(found.detach()[None], published[f"support_loss{tag}"])
    (gradient,) = torch.autograd.grad(found, residual)
    assert_agree(gradient, published[f"grad_residual{tag}"])


@pytest.mark.parametrize(("norm", "tag"), [(1.0, ""), (9.0, "_norm9")])
def test_published_outputs_of_the_head(
    oracle_inputs: OracleInputs, oracle: Oracle, norm: float, tag: str
) -> None:
    published = oracle("taskres")
    head = TaskRes(oracle_inputs.text.numpy(), blend=0.5, text_norm=norm, epochs=1)
    head.fit(oracle_inputs.support.numpy(), oracle_inputs.labels.numpy())
    assert head.residual_.shape == published["residual"].shape
    head.residual_ = published["residual"].numpy()
    assert_agree(head.logits(oracle_inputs.queries.numpy()), published[f"logits{tag}"])


# -- limits --------------------------------------------------------------------------------------


def test_without_residual_it_is_zero_shot() -> None:
    head = TaskRes(TEXT, epochs=1).fit(X, Y)
    head.residual_ = np.zeros_like(head.residual_)
    np.testing.assert_allclose(head.logits(QUERIES), ZERO_SHOT, rtol=1e-12)


def test_blend_zero_is_zero_shot_and_learns_nothing() -> None:
    head = TaskRes(TEXT, blend=0.0).fit(X, Y)
    np.testing.assert_allclose(head.logits(QUERIES), ZERO_SHOT, rtol=1e-12)
    assert not head.residual_.any()


@pytest.mark.parametrize("k", [0.1, 3.0])
def test_only_the_product_of_blend_and_residual_counts(k: float) -> None:
    text, residual = torch.from_numpy(TEXT), torch.randn(4, 16, dtype=torch.float64)
    expected = residual_text(text, residual, 0.5, 9.0)
    torch.testing.assert_close(residual_text(text, residual / k, 0.5 * k, 9.0), expected)
    torch.testing.assert_close(residual_text(text, k * residual, 0.5, 9.0 * k), expected)
    torch.testing.assert_close(residual_text(k * text, residual, 0.5, 9.0), expected)


@pytest.mark.parametrize("enhanced", [False, True])
def test_the_length_of_the_text_that_is_given_does_not_matter(enhanced: bool) -> None:
    """Only ``text_norm`` does: a power of two leaves every digit as it is."""
    given = [
        TaskRes(k * TEXT, enhanced=enhanced, epochs=20).fit(X, Y).logits(QUERIES) for k in (1, 8)
    ]
    np.testing.assert_array_equal(*given)
    other = TaskRes(TEXT, enhanced=enhanced, epochs=20, text_norm=1.0).fit(X, Y).logits(QUERIES)
    assert np.abs(other - given[0]).max() > 1


# -- training --------------------------------------------------------------------------------------


def test_training_lowers_the_loss_on_the_support() -> None:
    assert loss(TaskRes(TEXT).fit(X, Y)) < 0.7 * loss(TaskRes(TEXT, blend=0.0, epochs=1).fit(X, Y))


def test_the_first_step_goes_against_the_gradient() -> None:
    """One of Adam at 1e-5: every number by as much."""
    x, text = (torch.from_numpy(a / np.linalg.norm(a, axis=1, keepdims=True)) for a in (X, TEXT))
    residual = torch.zeros(4, 16, dtype=torch.float64, requires_grad=True)
    logits = cosine_logits(x, residual_text(text, residual, 0.5, 9.0), 5.0)
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(Y)).backward()
    assert residual.grad is not None
    found = TaskRes(TEXT, epochs=1, logit_scale=5.0).fit(X, Y).residual_
    np.testing.assert_allclose(found, -1e-5 * np.sign(residual.grad.numpy()), rtol=0.02)


def test_weight_decay_is_a_part_of_the_gradient() -> None:
    """By hand: Adam, from torch, with the decay coupled."""
    head = TaskRes(TEXT, epochs=30).fit(X, Y)
    x, text = (
        torch.from_numpy(a / np.linalg.norm(a, axis=1, keepdims=True)).float() for a in (X, TEXT)
    )
    residual = torch.zeros(4, 16, requires_grad=True)
    optimiser = torch.optim.Adam([residual], lr=2e-3, weight_decay=5e-4)
    for epoch in range(30):
        lr = 2e-3 * (1 + np.cos(np.pi * epoch / 30)) / 2 if epoch else 1e-5
        optimiser.param_groups[0]["lr"] = lr
        logits = cosine_logits(x, residual_text(text, residual, 0.5, 9.0), 100.0)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(Y)).backward()
        optimiser.step()
    np.testing.assert_allclose(head.residual_, residual.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(("shots", "epochs"), [(1, 100), (4, 100), (5, 200)])
def test_as_many_epochs_as_in_the_paper(shots: int, epochs: int) -> None:
    """By the class with the most images: the other two have one."""
    y = np.array([0] * shots + [1, 2])
    images = np.random.default_rng(1).normal(size=(len(y), 16))
    left_out, given, other = (
        TaskRes(TEXT[:3], epochs=e).fit(images, y).residual_ for e in (0, epochs, 300 - epochs)
    )
    np.testing.assert_array_equal(left_out, given)
    assert np.abs(left_out - other).max() > 1e-3


def test_a_class_without_images_keeps_its_embedding() -> None:
    rows = Y != 2
    head = TaskRes(TEXT).fit(X[rows], Y[rows])
    assert not head.residual_[2].any() and head.residual_[[0, 1, 3]].all()
    np.testing.assert_allclose(head.logits(QUERIES)[:, 2], ZERO_SHOT[:, 2], rtol=1e-12)


def test_many_heads_in_parts_are_the_same_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit so low that every head is trained alone."""

    def fitted() -> list[np.ndarray]:
        heads = [TaskRes(TEXT, blend=b, epochs=20, enhanced=b > 1) for b in (0.0, 0.5, 1.0, 2.0)]
        TaskRes.fit_many(heads, [(X, Y, None)] * 4)
        return [h.logits(QUERIES) for h in heads]

    together = fitted()
    monkeypatch.setattr(task_res, "_TOGETHER", 1)
    for alone, one in zip(fitted(), together, strict=True):
        np.testing.assert_allclose(alone, one, atol=1e-3)


# -- enhanced --------------------------------------------------------------------------------------


def test_enhanced_tunes_a_projection_and_starts_there() -> None:
    plain, enhanced = (TaskRes(TEXT, enhanced=e, epochs=1).fit(X, Y) for e in (False, True))
    assert plain.projection_.shape == (0, 16) and enhanced.projection_.shape == (16, 16)
    off = np.abs(enhanced.projection_ - np.eye(16))
    # 50 epochs, one of them at 1e-5, of at most 1e-4: a little more than half of it, for a cosine.
    assert 1e-5 < off.max() < 50 * 1e-4
    base = enhanced.text_ @ enhanced.projection_
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    enhanced.residual_ = np.zeros_like(enhanced.residual_)
    np.testing.assert_allclose(enhanced.transform_text(TEXT), base, atol=1e-6)
    plain.residual_ = np.zeros_like(plain.residual_)
    assert loss(enhanced) < loss(plain)


def test_the_residual_is_trained_from_the_projected_embeddings() -> None:
    enhanced = TaskRes(TEXT, enhanced=True, epochs=40).fit(X, Y)
    projected = TaskRes(enhanced.text_ @ enhanced.projection_, epochs=40).fit(X, Y)
    np.testing.assert_allclose(enhanced.residual_, projected.residual_, atol=1e-4)


# -- texts -----------------------------------------------------------------------------------------


def test_transform_text_gives_unit_embeddings_that_make_the_logits() -> None:
    head = TaskRes(TEXT, epochs=20).fit(X, Y)
    adapted = head.transform_text(TEXT)
    np.testing.assert_allclose(np.linalg.norm(adapted, axis=1), 1)
    short = QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True)
    np.testing.assert_allclose(100 * short @ adapted.T, head.logits(QUERIES), atol=1e-4)
    np.testing.assert_allclose(head.transform_text(7 * TEXT), adapted, rtol=1e-12)


def test_transform_text_refuses_other_classes() -> None:
    head = TaskRes(TEXT, epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match=r"shape \(3, 16\): expected \(4, 16\)"):
        head.transform_text(TEXT[:3])


def test_settings_out_of_range_are_refused() -> None:
    for name, value in (("blend", -0.1), ("text_norm", 0.0), ("enhanced", 1)):
        with pytest.raises(ValueError, match=name):
            TaskRes(TEXT, **{name: value}).fit(X, Y)
