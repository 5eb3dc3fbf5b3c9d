"""Number by number against what the published code of Tip-Adapter and CLIP-Adapter returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from handful.functional.bottleneck import bottleneck, residual_blend
from handful.functional.cosine import cosine_logits
from handful.functional.kernel import cache_votes
from handful.functional.normalise import unit
from handful.methods.clip_adapter import ClipAdapter
from handful.methods.tip_adapter import TipAdapter, TipAdapterF
from handful.methods.zero_shot import ZeroShot

TIP_PAIRS = [(1.0, 5.5), (2.0, 1.0), (0.5, 10.0)]
BLENDS = [0.2, 0.6]


@dataclass(frozen=True)
class Inputs:
    """Support F (76, 512), its labels, queries x (40, 512), text prototypes W (19, 512)."""

    support: Tensor
    labels: Tensor
    queries: Tensor
    text: Tensor


@pytest.fixture(scope="module")
def inputs(shared: Path) -> Inputs:
    """Built afresh from the rule that the oracles state, and compared with their row numbers."""
    data = load_file(shared / "data/whu-rs19/features/clip-vit-b-32.safetensors")
    x, y = unit(data["image_features"].float()), data["labels"]
    rng = np.random.RandomState(1)
    drawn = [rng.permutation(np.flatnonzero(y.numpy() == c)) for c in range(19)]
    support = np.concatenate([rows[:4] for rows in drawn])
    test = np.setdiff1d(np.arange(len(y)), np.concatenate([rows[:20] for rows in drawn]))
    for name in ("tip_adapter", "clip_adapter"):
        oracle = load_file(shared / "data/oracles" / f"{name}.safetensors")
        np.testing.assert_array_equal(oracle["support_index"], support)
        np.testing.assert_array_equal(oracle["query_index"], test[:40])
    text = unit(data["text_features_average"].float())
    return Inputs(x[support], y[support], x[test[:40]], text)


@pytest.fixture(scope="module")
def tip(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "data/oracles/tip_adapter.safetensors")


@pytest.fixture(scope="module")
def clip(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "data/oracles/clip_adapter.safetensors")


def assert_agree(found: Tensor | np.ndarray, published: Tensor) -> None:
    """max|a − b| ≤ 1e-4 max|b|, the tolerance that the oracles are stated with."""
    a, b = torch.as_tensor(found).double(), published.double()
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= 1e-4 * float(b.abs().max())


# -- Tip-Adapter -----------------------------------------------------------------------------------


def test_zero_shot_logits(inputs: Inputs, tip: dict[str, Tensor]) -> None:
    assert_agree(cosine_logits(inputs.queries, inputs.text, 100.0), tip["zero_shot_logits"])
    head = ZeroShot(inputs.text.numpy()).fit(inputs.support.numpy(), inputs.labels.numpy())
    assert_agree(head.logits(inputs.queries.numpy()), tip["zero_shot_logits"])


@pytest.mark.parametrize(("blend", "sharpness"), TIP_PAIRS)
def test_tip_adapter_equations(
    inputs: Inputs, tip: dict[str, Tensor], blend: float, sharpness: float
) -> None:
    affinity = inputs.queries @ inputs.support.T
    assert_agree(affinity, tip["affinity"])
    votes = cache_votes(affinity, inputs.labels, 19, sharpness)
    assert_agree(votes, tip[f"cache_logits_b{sharpness:g}"])
    logits = cosine_logits(inputs.queries, inputs.text, 100.0) + blend * votes
    assert_agree(logits, tip[f"logits_a{blend:g}_b{sharpness:g}"])


@pytest.mark.parametrize(("blend", "sharpness"), TIP_PAIRS)
def test_tip_adapter_heads(
    inputs: Inputs, tip: dict[str, Tensor], blend: float, sharpness: float
) -> None:
    """F without training is Tip-Adapter, so the same numbers hold for it."""
    text, X, y = inputs.text.numpy(), inputs.support.numpy(), inputs.labels.numpy()
    for head in (
        TipAdapter(text, blend=blend, sharpness=sharpness),
        TipAdapterF(text, blend=blend, sharpness=sharpness, epochs=0),
    ):
        found = head.fit(X, y).logits(inputs.queries.numpy())
        assert_agree(found, tip[f"logits_a{blend:g}_b{sharpness:g}"])


# -- CLIP-Adapter ----------------------------------------------------------------------------------


def adapted(x: Tensor, down: Tensor, up: Tensor, blend: float) -> Tensor:
    return unit(residual_blend(bottleneck(x, down, up), x, blend))


def test_bottleneck_output(inputs: Inputs, clip: dict[str, Tensor]) -> None:
    found = bottleneck(inputs.queries, clip["down_weight"].T, clip["up_weight"].T)
    assert_agree(found, clip["adapter_output"])


@pytest.mark.parametrize("blend", BLENDS)
def test_clip_adapter_head(inputs: Inputs, clip: dict[str, Tensor], blend: float) -> None:
    head = ClipAdapter(inputs.text.numpy(), blend=blend, epochs=0)
    head.fit(inputs.support.numpy(), inputs.labels.numpy())
    assert head.down_.shape == clip["down_weight"].T.shape
    head.down_, head.up_ = clip["down_weight"].T.numpy(), clip["up_weight"].T.numpy()
    queries = inputs.queries.numpy()
    assert_agree(head.transform(queries), clip[f"blended_unit_r{blend:g}"])
    assert_agree(head.logits(queries), clip[f"logits_r{blend:g}"])


@pytest.mark.parametrize("blend", BLENDS)
def test_clip_adapter_equations_loss_and_gradients(
    inputs: Inputs, clip: dict[str, Tensor], blend: float
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
