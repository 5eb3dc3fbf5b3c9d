"""GraphAdapter: the published outputs, its limits, and what the span and the folding leave out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import Oracle, OracleInputs, assert_agree
from torch import Tensor

from handful.functional.bottleneck import residual_blend
from handful.functional.class_graph import graph_output, grouped_graphs
from handful.functional.cosine import cosine_logits
from handful.methods import graph_adapter
from handful.methods.graph_adapter import GraphAdapter
from handful.methods.zero_shot import ZeroShot

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(5, 16))
Y = np.repeat(np.arange(5), 3)
X = CENTRES[Y] + 0.5 * RNG.normal(size=(15, 16))
TEXT = CENTRES + 0.8 * RNG.normal(size=(5, 16))
QUERIES = CENTRES[RNG.integers(5, size=30)] + 0.8 * RNG.normal(size=(30, 16))
ZERO_SHOT = ZeroShot(TEXT).fit(X, Y).logits(QUERIES)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def graph_rows(head: GraphAdapter, X: np.ndarray, Y: np.ndarray) -> tuple[Tensor, Tensor]:
    """n·W and the rows of its graphs of texts and of images, in all D numbers."""
    images = [unit_rows(X[c == Y]).sum(axis=0) / max(1, (c == Y).sum()) for c in range(5)]
    text, means = (
        head.text_norm * torch.from_numpy(a) for a in (unit_rows(TEXT), np.stack(images))
    )
    return text, torch.stack([grouped_graphs(text, nodes, head.groups) for nodes in (text, means)])


def from_theta(head: GraphAdapter, X: np.ndarray, Y: np.ndarray, theta: Tensor) -> np.ndarray:
    """The adapted class embeddings, from a full Θ (2, D, D) and the head's biases."""
    text, rows = graph_rows(head, X, Y)
    biases = torch.from_numpy(head.biases_).double()
    output = graph_output(rows, theta.double(), biases, head.image_share)
    return unit_rows(residual_blend(output, text, head.blend).numpy())


# -- the published code ------------------------------------------------------------------------


@pytest.mark.parametrize(("groups", "tag"), [(1, ""), (4, "_4groups")])
def test_published_equations(
    oracle_inputs: OracleInputs,
    oracle: Oracle,
    groups: int,
    tag: str,
) -> None:
    published = oracle("graph_adapter")
    classes = len(published[f"graph_output{tag}"])
    text, means = oracle_inputs.text[:classes], published["class_means"][:classes]
    rows = torch.stack([grouped_graphs(text, nodes, groups) for nodes in (text, means)])
    weights = torch.stack([published["gcn_text_weight"], published["gcn_image_weight"]])
    biases = torch.stack([published["gcn_text_bias"], published["gcn_image_bias"]])[:, :classes]
    output = graph_output(rows, weights, biases, 0.3)
    assert_agree(output, published[f"graph_output{tag}"])
    adapted = residual_blend(output, text, 0.3)
    assert_agree(adapted, published[f"text_features{tag}"])
    assert_agree(cosine_logits(oracle_inputs.queries, adapted, 100.0), published[f"logits{tag}"])


@pytest.mark.parametrize(("groups", "tag"), [(1, ""), (4, "_4groups")])
def test_published_outputs_of_the_head(
    oracle_inputs: OracleInputs,
    oracle: Oracle,
    monkeypatch: pytest.MonkeyPatch,
    groups: int,
    tag: str,
) -> None:
    """Started at the given parameters, in the span of the rows, and not trained."""
    published = oracle("graph_adapter")
    classes = len(published[f"graph_output{tag}"])
    weights = torch.stack([published["gcn_text_weight"], published["gcn_image_weight"]])
    biases = torch.stack([published["gcn_text_bias"], published["gcn_image_bias"]])[:, :classes]
    monkeypatch.setattr(graph_adapter, "_initial", lambda *_: (weights, biases))
    text = oracle_inputs.text[:classes].numpy()
    own = oracle_inputs.labels < classes
    head = GraphAdapter(text, blend=0.3, groups=groups, text_norm=1.0, epochs=0)
    head.fit(oracle_inputs.support[own].numpy(), oracle_inputs.labels[own].numpy())
    assert_agree(head.logits(oracle_inputs.queries.numpy()), published[f"logits{tag}"])


# -- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 4])
def test_blend_zero_is_zero_shot(groups: int) -> None:
    """Up to the single precision that the adapted embeddings are kept in."""
    head = GraphAdapter(TEXT, blend=0.0, groups=groups, epochs=5).fit(X, Y)
    np.testing.assert_allclose(head.logits(QUERIES), ZERO_SHOT, rtol=0, atol=1e-4)


def test_at_blend_zero_nothing_is_learned() -> None:
    """The loss does not depend on Θ, and no weight decay draws it to 0."""
    before, after = (GraphAdapter(TEXT, blend=0.0, epochs=e).fit(X, Y) for e in (0, 5))
    np.testing.assert_array_equal(after.weights_, before.weights_)


def test_blend_one_is_the_graphs_alone_within_tanh() -> None:
    alone = GraphAdapter(TEXT, blend=1.0, epochs=0, text_norm=1e4).fit(X, Y)
    # Nearly every tanh is −1 or 1, so that the mix of both is ±(0.7 + 0.3) or ±(0.7 − 0.3).
    size = np.abs(alone.adapted_)
    size /= size.max(axis=1, keepdims=True)
    assert np.isclose(size[:, :, None], [1.0, 0.4], atol=1e-2).any(axis=2).mean() > 0.9


@pytest.mark.parametrize("groups", [1, 2, 4, 7])
@pytest.mark.parametrize("epochs", [0, 8])
def test_the_folded_embeddings_are_those_of_a_full_theta(groups: int, epochs: int) -> None:
    """Θ stays at its start outside of the span of the rows, where it is never applied."""
    head = GraphAdapter(TEXT, groups=groups, epochs=epochs, blend=0.6).fit(X, Y)
    start, _ = graph_adapter._initial(5, 16, 0)
    theta = start.double()
    rows = graph_rows(head, X, Y)[1].flatten(1, 2)
    if rows.shape[1] < 16:
        _, _, basis = torch.linalg.svd(rows, full_matrices=False)
        # The sign of a singular vector is free; that of the head's shows in what it learned.
        learned = torch.from_numpy(head.weights_).double()
        signs = torch.sign((learned * (basis @ theta)).sum(dim=-1, keepdim=True))
        theta = theta + basis.mT @ (signs * learned - basis @ theta)
    else:
        theta = torch.from_numpy(head.weights_).double()
    np.testing.assert_allclose(head.adapted_, from_theta(head, X, Y, theta), atol=1e-5)


def test_shape_of_what_is_trained() -> None:
    head = GraphAdapter(TEXT, epochs=1).fit(X, Y)
    assert head.weights_.shape == (2, 5, 16) and head.biases_.shape == (2, 5, 16)
    assert GraphAdapter(TEXT, groups=2, epochs=1).fit(X, Y).weights_.shape == (2, 10, 16)
    assert GraphAdapter(TEXT, groups=4, epochs=1).fit(X, Y).weights_.shape == (2, 16, 16)
    np.testing.assert_allclose(np.linalg.norm(head.adapted_, axis=1), 1, rtol=1e-6)


def test_starts_as_published() -> None:
    """Θ uniform within ±1/√D; 2 × 64 × 64 draws know their spread to about 1 %."""
    weights, biases = graph_adapter._initial(3, 64, 5)
    assert weights.shape == (2, 64, 64) and biases.shape == (2, 3, 64)
    assert float(weights.abs().max()) <= 1 / 8
    assert float(weights.std()) == pytest.approx(1 / 8 / np.sqrt(3), rel=0.03)
    assert not biases.any()


# -- training --------------------------------------------------------------------------------------


def test_training_lowers_the_loss_on_the_support() -> None:
    def loss(epochs: int) -> float:
        head = GraphAdapter(TEXT, epochs=epochs).fit(X, Y)
        return float(-np.log(head.predict_proba(X)[np.arange(15), Y]).mean())

    assert loss(100) < 0.5 * loss(0)


def test_first_step_is_one_of_adam_lengthened_in_the_span() -> None:
    """At 1e-5, as the first epoch is, and √(D / r) times as far for Θ: 16 numbers, 5 rows."""
    before, after = (GraphAdapter(TEXT, epochs=e, logit_scale=5.0).fit(X, Y) for e in (0, 1))
    moved = np.abs(after.weights_ - before.weights_)
    np.testing.assert_allclose(np.median(moved), 1e-5 * np.sqrt(16 / 5), rtol=0.01)
    np.testing.assert_allclose(np.median(np.abs(after.biases_)), 1e-5, rtol=0.01)


def test_unequal_counts_and_one_shot() -> None:
    rows = np.array([0, 3, 4, 6, 9, 10, 11, 12])  # 1, 2, 1, 3 and 1 images
    head = GraphAdapter(TEXT, epochs=0).fit(X[rows], Y[rows])
    start, _ = graph_adapter._initial(5, 16, 0)
    expected = from_theta(head, X[rows], Y[rows], start)
    np.testing.assert_allclose(head.adapted_, expected, atol=1e-5)
    one = GraphAdapter(TEXT, epochs=30).fit(X[::3], Y[::3])
    assert (one.predict(X[::3]) == Y[::3]).all()


def test_a_class_without_images_keeps_its_embedding_and_is_no_node_of_the_image_graph() -> None:
    rows = Y != 2
    head = GraphAdapter(TEXT, epochs=0).fit(X[rows], Y[rows])
    np.testing.assert_allclose(head.adapted_[2], head.text_[2], atol=1e-6)
    start, _ = graph_adapter._initial(5, 16, 0)
    expected = from_theta(head, X[rows], Y[rows], start)  # a mean of zeros is no node
    seen = [0, 1, 3, 4]
    np.testing.assert_allclose(head.adapted_[seen], expected[seen], atol=1e-5)
    trained = GraphAdapter(TEXT, epochs=20).fit(X[rows], Y[rows])
    np.testing.assert_allclose(trained.adapted_[2], head.text_[2], atol=1e-6)


def test_the_image_graph_alone_counts_where_its_share_is_one() -> None:
    """Other images of the same labels change the start through their means, and only there."""
    moved = X + RNG.normal(size=X.shape)

    def start(images: np.ndarray, share: float) -> np.ndarray:
        return GraphAdapter(TEXT, epochs=0, image_share=share).fit(images, Y).adapted_

    np.testing.assert_array_equal(start(X, 0.0), start(moved, 0.0))
    assert np.abs(start(X, 1.0) - start(moved, 1.0)).max() > 1e-3


def test_settings_out_of_range_are_refused() -> None:
    for name, value in (("blend", 1.2), ("image_share", -0.1), ("groups", 0), ("text_norm", 0.0)):
        with pytest.raises(ValueError, match=name):
            GraphAdapter(TEXT, **{name: value}).fit(X, Y)


def test_many_heads_in_parts_are_the_same_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit so low that every head is trained alone."""

    def fitted() -> list[np.ndarray]:
        heads = [GraphAdapter(TEXT, blend=b, epochs=10) for b in (0.0, 0.2, 0.4, 0.6, 1.0)]
        GraphAdapter.fit_many(heads, [(X, Y, None)] * 5)
        return [h.adapted_ for h in heads]

    together = fitted()
    monkeypatch.setattr(graph_adapter, "_TOGETHER", 1)
    for alone, one in zip(fitted(), together, strict=True):
        np.testing.assert_allclose(alone, one, atol=1e-4)
