"""GraphAdapter's graphs: the closed form against the whole graph, node by node."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from handful.functional.class_graph import (
    class_graph,
    graph_output,
    grouped_graphs,
    in_own_span,
)
from handful.functional.normalise import unit


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def from_the_whole_graph(
    embeddings: Tensor, nodes: Tensor, compared: Tensor | None = None
) -> Tensor:
    """Â·X of each class in full, then its first row."""
    rows = []
    for embedding in embeddings:
        members = torch.cat([embedding[None], nodes])
        cosines = torch.stack([unit(a) @ unit(b) for a in members for b in members])
        cosines = cosines.reshape(len(members), -1)
        if compared is not None:
            cosines[1:, 1:] = unit(compared) @ unit(compared).T
        edges = cosines.clamp_min(0) + torch.eye(len(members))
        scale = torch.diag(edges.sum(dim=1) ** -0.5)
        rows.append((scale @ edges @ scale @ members)[0])
    return torch.stack(rows)


@settings(deadline=None, max_examples=30)
@given(
    classes=st.integers(1, 5),
    count=st.integers(1, 6),
    width=st.integers(1, 7),
    length=st.floats(0.1, 30),
    seed=st.integers(0, 99),
)
def test_the_closed_form_is_the_first_row_of_the_whole_graph(
    classes: int, count: int, width: int, length: float, seed: int
) -> None:
    embeddings = normal(classes, width, seed=seed)
    nodes = length * normal(count, width, seed=seed + 100)
    expected = from_the_whole_graph(embeddings, nodes)
    torch.testing.assert_close(class_graph(embeddings, nodes), expected)


def test_a_class_among_the_nodes_is_there_twice_as_published() -> None:
    embeddings = normal(5, 8)
    expected = from_the_whole_graph(embeddings, embeddings)
    torch.testing.assert_close(class_graph(embeddings, embeddings), expected)


@pytest.mark.parametrize("groups", [1, 2])
def test_nodes_may_be_compared_with_each_other_in_another_space(groups: int) -> None:
    embeddings, nodes, other = normal(4, 8), normal(6, 8, seed=1), normal(6, 8, seed=2)
    found = grouped_graphs(embeddings, nodes, groups, other)
    for group in range(groups):
        dealt = nodes[group::groups], other[group::groups]
        torch.testing.assert_close(found[group], from_the_whole_graph(embeddings, *dealt))
    assert (found - grouped_graphs(embeddings, nodes, groups)).abs().max() > 1e-3


def test_a_row_of_zeros_is_no_node() -> None:
    embeddings, nodes = normal(4, 8), normal(6, 8, seed=1)
    gaps = nodes.clone()
    gaps[[1, 4]] = 0
    left = nodes[[0, 2, 3, 5]]
    torch.testing.assert_close(class_graph(embeddings, gaps), class_graph(embeddings, left))
    torch.testing.assert_close(class_graph(embeddings, 0 * nodes), embeddings)


def test_the_order_of_nodes_does_not_matter() -> None:
    embeddings, nodes = normal(4, 8), normal(6, 8, seed=1)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(
        class_graph(embeddings, nodes[order]), class_graph(embeddings, nodes)
    )


def test_nodes_that_point_away_take_no_part() -> None:
    embeddings = normal(1, 8)
    torch.testing.assert_close(class_graph(embeddings, -3 * embeddings), embeddings)


def test_lengths_count_in_the_features_and_not_in_the_edges() -> None:
    embeddings, nodes = normal(4, 8), normal(6, 8, seed=1)
    torch.testing.assert_close(
        class_graph(9 * embeddings, 9 * nodes), 9 * class_graph(embeddings, nodes)
    )


def test_runs_in_front_are_independent() -> None:
    embeddings, nodes = normal(3, 4, 8), normal(3, 6, 8, seed=1)
    together = class_graph(embeddings, nodes)
    for one, e, n in zip(together, embeddings, nodes, strict=True):
        torch.testing.assert_close(one, class_graph(e, n))


@pytest.mark.parametrize("count", [8, 7, 5])
def test_groups_are_dealt_by_the_remainder_whatever_the_number(count: int) -> None:
    embeddings, nodes = normal(count, 8), normal(count, 8, seed=1)
    found = grouped_graphs(embeddings, nodes, 4)
    assert found.shape == (4, count, 8)
    for g in range(4):
        members = nodes[torch.arange(count) % 4 == g]
        torch.testing.assert_close(found[g], class_graph(embeddings, members))


def test_no_more_groups_than_nodes() -> None:
    embeddings = normal(3, 8)
    torch.testing.assert_close(
        grouped_graphs(embeddings, embeddings, 10), grouped_graphs(embeddings, embeddings, 3)
    )


def test_one_group_is_the_whole() -> None:
    embeddings, nodes = normal(3, 8), normal(5, 8, seed=1)
    found = grouped_graphs(embeddings, nodes, 1)
    torch.testing.assert_close(found, class_graph(embeddings, nodes)[None])


@pytest.mark.parametrize(("count", "width"), [(3, 8), (8, 8), (12, 8)])
def test_rows_in_their_own_span(count: int, width: int) -> None:
    rows = normal(2, count, width)
    coordinates, basis = in_own_span(rows)
    r = min(count, width)
    assert coordinates.shape == (2, count, r) and basis.shape == (2, r, width)
    torch.testing.assert_close(coordinates @ basis, rows)
    torch.testing.assert_close(basis @ basis.mT, torch.eye(r, dtype=rows.dtype).expand(2, r, r))
    theta = normal(2, width, width, seed=1)
    torch.testing.assert_close(coordinates @ (basis @ theta), rows @ theta)


def test_the_basis_does_not_depend_on_the_order_of_the_rows() -> None:
    """Up to the sign of each vector, which Adam does not see."""
    rows, order = normal(4, 8), torch.tensor([2, 0, 3, 1])
    basis, other = in_own_span(rows)[1], in_own_span(rows[order])[1]
    torch.testing.assert_close((basis * other).sum(dim=1).abs(), torch.ones_like(basis[:, 0]))


def test_output_follows_its_equation() -> None:
    rows, weights, biases = normal(2, 3, 5, 6), normal(2, 6, 7, seed=1), normal(2, 5, 7, seed=2)
    expected = torch.zeros(5, 7, dtype=rows.dtype)
    for share, graph in ((0.8, 0), (0.2, 1)):
        for group in range(3):
            for c in range(5):
                mapped = rows[graph, group, c] @ weights[graph] + biases[graph, c]
                expected[c] += share / 3 * torch.tanh(mapped)
    found = graph_output(rows, weights, biases, 0.2)
    torch.testing.assert_close(found, expected)
    assert float(graph_output(1e3 * rows, weights, biases, 0.2).abs().max()) <= 1


def test_output_of_runs_in_front_is_independent() -> None:
    shapes = [(4, 2, 3, 5, 6), (4, 2, 6, 7), (4, 2, 5, 7)]
    parts = [normal(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    together = graph_output(*parts, 0.3)
    for one, *own in zip(together, *parts, strict=True):
        torch.testing.assert_close(one, graph_output(*own, 0.3))
