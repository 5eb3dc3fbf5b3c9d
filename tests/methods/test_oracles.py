"""Number by number against what the published code of Tip-Adapter, its successors with a corrected
space and CLIP-Adapter returns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import Oracle, OracleInputs, assert_agree
from torch import Tensor

from handful.functional.bottleneck import bottleneck, residual_blend
from handful.functional.cosine import cosine_logits
from handful.functional.kernel import cache_votes
from handful.functional.normalise import unit
from handful.methods.clip_adapter import ClipAdapter
from handful.methods.tip_adapter import TipAdapter, TipAdapterF, TipAdapterPlusPlus
from handful.methods.tip_x import TipXPlusPlus
from handful.methods.zero_shot import ZeroShot

TIP_PAIRS = [(1.0, 5.5), (2.0, 1.0), (0.5, 10.0)]
BLENDS = [0.2, 0.6]


@pytest.fixture(scope="module")
def inputs(oracle_inputs: OracleInputs) -> OracleInputs:
    return oracle_inputs


@pytest.fixture(scope="module")
def tip(oracle: Oracle) -> dict[str, Tensor]:
    return oracle("tip_adapter")


@pytest.fixture(scope="module")
def clip(oracle: Oracle) -> dict[str, Tensor]:
    return oracle("clip_adapter")


# -- Tip-Adapter -----------------------------------------------------------------------------------


def test_zero_shot_logits(inputs: OracleInputs, tip: dict[str, Tensor]) -> None:
    assert_agree(cosine_logits(inputs.queries, inputs.text, 100.0), tip["zero_shot_logits"])
    head = ZeroShot(inputs.text.numpy()).fit(inputs.support.numpy(), inputs.labels.numpy())
    assert_agree(head.logits(inputs.queries.numpy()), tip["zero_shot_logits"])


@pytest.mark.parametrize(("blend", "sharpness"), TIP_PAIRS)
def test_tip_adapter_equations(
    inputs: OracleInputs, tip: dict[str, Tensor], blend: float, sharpness: float
) -> None:
    affinity = inputs.queries @ inputs.support.T
    assert_agree(affinity, tip["affinity"])
    votes = cache_votes(affinity, inputs.labels, 19, sharpness)
    assert_agree(votes, tip[f"cache_logits_b{sharpness:g}"])
    logits = cosine_logits(inputs.queries, inputs.text, 100.0) + blend * votes
    assert_agree(logits, tip[f"logits_a{blend:g}_b{sharpness:g}"])


@pytest.mark.parametrize(("blend", "sharpness"), TIP_PAIRS)
def test_tip_adapter_heads(
    inputs: OracleInputs, tip: dict[str, Tensor], blend: float, sharpness: float
) -> None:
    """F without training is Tip-Adapter, so the same numbers hold for it."""
    text, X, y = inputs.text.numpy(), inputs.support.numpy(), inputs.labels.numpy()
    for head in (
        TipAdapter(text, blend=blend, sharpness=sharpness),
        TipAdapterF(text, blend=blend, sharpness=sharpness, epochs=0),
    ):
        found = head.fit(X, y).logits(inputs.queries.numpy())
        assert_agree(found, tip[f"logits_a{blend:g}_b{sharpness:g}"])


# -- Tip-Adapter++ and Tip-X++ ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def imo(oracle: Oracle) -> dict[str, Tensor]:
    return oracle("imo")


def corrected(inputs: OracleInputs, imo: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Support and queries in both spaces."""
    keys = torch.cat([inputs.support, imo["adapted_keys"]], dim=1)
    return keys.numpy(), torch.cat([inputs.queries, imo["adapted_query"]], dim=1).numpy()


@pytest.mark.parametrize(("blend", "sharpness"), [(1.0, 5.5), (4.0, 10.0)])
def test_tip_adapter_in_a_corrected_space(
    inputs: OracleInputs, imo: dict[str, Tensor], blend: float, sharpness: float
) -> None:
    text, labels = inputs.text.numpy(), inputs.labels.numpy()
    X, queries = corrected(inputs, imo)
    published = imo[f"tip_pp_logits_a{blend:g}_b{sharpness:g}"]
    for head in (
        TipAdapterPlusPlus(text, blend=blend, sharpness=sharpness),
        TipAdapterF(text, blend=blend, sharpness=sharpness, similarity="corrected", epochs=0),
    ):
        fitted = head.fit(X, labels)
        assert_agree(fitted.logits(queries), published)
        assert_agree(fitted.zero_shot_logits(queries), imo["zero_shot_logits"])
    plain = TipAdapter(text, blend=blend, sharpness=sharpness)
    found = plain.fit(inputs.support.numpy(), labels).logits(inputs.queries.numpy())
    assert_agree(found, imo[f"tip_logits_a{blend:g}_b{sharpness:g}"])
    with pytest.raises(AssertionError):  # the oracle can tell
        assert_agree(found, published)


def test_tip_x_in_a_corrected_space(inputs: OracleInputs, imo: dict[str, Tensor]) -> None:
    """An absolute 2e-3, as the oracles say: their divergences are sums in float32."""
    X, queries = corrected(inputs, imo)
    head = TipXPlusPlus(
        inputs.text.numpy(), blend=1.5, sharpness=5.5, profile_blend=3.0, rescale="batch"
    ).fit(X, inputs.labels.numpy())
    assert (torch.from_numpy(head.logits(queries)) - imo["tip_x_pp_logits"]).abs().max() < 2e-3
    # The range among support images, replaced by what was published, is free of the batch.
    head.set_params(rescale="support")
    head.range_ = torch.cat([imo["kl_range"], imo["adapted_affinity_range"]]).float().numpy()
    assert (torch.from_numpy(head.logits(queries)) - imo["tip_x_pp_logits"]).abs().max() < 2e-3
    ((base, votes),) = head.set_params(profile_blend=0.0).sweep(queries)
    plain = base + 1.5 * votes
    profile = torch.from_numpy(head.set_params(profile_blend=1.0).logits(queries)) - plain
    assert (profile - imo["tip_x_pp_kl_logits"]).abs().max() < 2e-3


# -- CLIP-Adapter ----------------------------------------------------------------------------------


def adapted(x: Tensor, down: Tensor, up: Tensor, blend: float) -> Tensor:
    return unit(residual_blend(bottleneck(x, down, up), x, blend))


def test_bottleneck_output(inputs: OracleInputs, clip: dict[str, Tensor]) -> None:
    found = bottleneck(inputs.queries, clip["down_weight"].T, clip["up_weight"].T)
    assert_agree(found, clip["adapter_output"])


@pytest.mark.parametrize("blend", BLENDS)
def test_clip_adapter_head(inputs: OracleInputs, clip: dict[str, Tensor], blend: float) -> None:
    head = ClipAdapter(inputs.text.numpy(), blend=blend, epochs=0)
    head.fit(inputs.support.numpy(), inputs.labels.numpy())
    assert head.down_.shape == clip["down_weight"].T.shape
    head.down_, head.up_ = clip["down_weight"].T.numpy(), clip["up_weight"].T.numpy()
    queries = inputs.queries.numpy()
    assert_agree(head.transform(queries), clip[f"blended_unit_r{blend:g}"])
    assert_agree(head.logits(queries), clip[f"logits_r{blend:g}"])


@pytest.mark.parametrize("blend", BLENDS)
def test_clip_adapter_equations_loss_and_gradients(
    inputs: OracleInputs, clip: dict[str, Tensor], blend: float
) -> None:
    # The published matrices are those of linear layers, (out, in).
    down_weight = clip["down_weight"].clone().requires_grad_()
    up_weight = clip["up_weight"].clone().requires_grad_()
    down, up = down_weight.T, up_weight.T
    queries = adapted(inputs.queries, down, up, blend)
    assert_agree(queries.detach(), clip[f"blended_unit_r{blend:g}"])
    assert_agree(cosine_logits(queries, inputs.text, 100.0).detach(), clip[f"logits_r{blend:g}"])
    logits = cosine_logits(adapted(inputs.support, down, up, blend), inputs.text, 100.0)
    loss = torch.nn.functional.cross_entropy(logits, inputs.labels)
    assert_agree(loss.detach()[None], clip[f"support_loss_r{blend:g}"])
    loss.backward()
    assert down_weight.grad is not None and up_weight.grad is not None
    assert_agree(down_weight.grad, clip[f"grad_down_r{blend:g}"])
    assert_agree(up_weight.grad, clip[f"grad_up_r{blend:g}"])
