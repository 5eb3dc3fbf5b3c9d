"""GraphAdapter's small graphs: what a class embedding takes from the nodes of all classes.

For every class c there is a graph of t_c and M nodes n_1 … n_M (the class embeddings, or the mean
image of each class). Its edges are cosines, negative ones cut to 0, plus the identity, made
symmetric: Â = D^(−1/2)·(A + I)·D^(−1/2). Only the row of t_c in Â·X is used, and that row has a
closed form, so the C graphs of (M + 1)² edges are never built:

    a_cj = max(cos(t_c, n_j), 0),    d_c = 2 + Σ_j a_cj,    ρ_j = Σ_k max(cos(n_j, n_k), 0)
    row_c = (2 / d_c)·t_c + Σ_j a_cj / √(d_c·(ρ_j + 1 + a_cj)) · n_j

It depends on nothing that is trained. Then o_c = tanh(row_c·Θ + b_c) with Θ and b trained.
"""

from __future__ import annotations

import torch
from torch import Tensor

from handful.functional.normalise import unit

__all__ = ["class_graph", "graph_output", "grouped_graphs", "in_own_span"]


def class_graph(embeddings: Tensor, nodes: Tensor, compared: Tensor | None = None) -> Tensor:
    """Return the row of t_c in Â·X for each class; time and memory linear in classes × nodes.

    Args:
        embeddings: t, ``(..., C, D)``. Lengths count in X, not in Â.
        nodes: n, ``(..., M, D)``; a row of zeros is no node.
        compared: the same nodes in another space, in which they are compared with each other.

    Returns:
        ``(..., C, D)``.
    """
    directions = unit(nodes)
    edges = (unit(embeddings) @ directions.mT).clamp_min(0)
    directions = directions if compared is None else unit(compared)
    among_nodes = (directions @ directions.mT).clamp_min(0).sum(dim=-1)
    own_degree = 2 + edges.sum(dim=-1, keepdim=True)
    degrees = among_nodes[..., None, :] + 1 + edges
    return 2 / own_degree * embeddings + edges / torch.sqrt(own_degree * degrees) @ nodes


def grouped_graphs(
    embeddings: Tensor, nodes: Tensor, groups: int, compared: Tensor | None = None
) -> Tensor:
    """Deal the M nodes to G groups, node j to group j mod G, and make a graph of each.

    Arguments as in :func:`class_graph`.

    Returns:
        ``(..., G, C, D)``, where G is ``groups``, or M if that is less.
    """
    groups = min(groups, nodes.shape[-2])
    compared = nodes if compared is None else compared
    dealt = [[part[..., g::groups, :] for part in (nodes, compared)] for g in range(groups)]
    return torch.stack([class_graph(embeddings, *parts) for parts in dealt], dim=-3)


def in_own_span(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Write the rows in an orthonormal basis of their span, where that is narrower than D.

    What a matrix Θ makes of the rows is what Q·Θ makes of their coordinates, so that ``(r, D)``
    numbers need be trained instead of ``(D, D)``.

    Args:
        rows: ``(..., M, D)``.

    Returns:
        coordinates ``(..., M, r)`` and basis Q ``(..., r, D)`` with coordinates·Q = rows;
        r = min(M, D). The basis is that of the singular vectors, which does not depend on the
        order of the rows.
    """
    count, width = rows.shape[-2:]
    if count >= width:
        return rows, torch.eye(width, dtype=rows.dtype).expand(*rows.shape[:-2], width, width)
    # In double precision: singular values that are close together leave their vectors loose.
    left, values, basis = torch.linalg.svd(rows.double(), full_matrices=False)
    return (left * values[..., None, :]).to(rows.dtype), basis.to(rows.dtype)


def graph_output(
    rows: Tensor, weights: Tensor, biases: Tensor, image_share: float | Tensor
) -> Tensor:
    """o_c = (1 − λ)·ō_c + λ·ō'_c: each graph's mean over groups of tanh(row_c·Θ + b_c), mixed.

    Args:
        rows: of the graphs of texts, then of those of images, ``(..., 2, G, C, r)``.
        weights: Θ of both, ``(..., 2, r, D)``.
        biases: b of both, ``(..., 2, C, D)``.
        image_share: λ, 0.3 in the published code.

    Returns:
        ``(..., C, D)``, every entry within −1 and 1.
    """
    mapped = (rows.flatten(-3, -2) @ weights).reshape(*rows.shape[:-1], -1)
    texts, images = torch.tanh(mapped + biases[..., None, :, :]).mean(dim=-3).unbind(dim=-3)
    return (1 - image_share) * texts + image_share * images
