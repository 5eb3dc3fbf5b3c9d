"""Many texts that begin alike, through a text tower, with nothing computed twice.

In a causal tower no place sees what follows it, so that the beginning that all texts share has one
set of states: its keys and values are computed once and every text attends to them. The rests lie
one after another as rows of one matrix, without padding; attention sees them as a rectangle for
each length. The last block is computed for the last place of each text alone.

In a tower whose places see everything, texts are computed whole, those of one length together.

Gradients are those of the plain computation. Where activations would take too much memory, texts
are computed in parts, each of them once more in the backward pass (Chen et al., "Training deep nets
with sublinear memory cost", 2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from handful.tuning.towers import TextTower

__all__ = ["ACTIVATIONS", "encode_rests"]

ACTIVATIONS = 2**30
"""Bytes of activations that may be kept for the backward pass at once."""

# What a place keeps in every block, in widths of the tower: what two layer norms were given, query,
# key and value, what attention gave, and the wide layer before and after its activation.
_KEPT = 16
# Of each first place, a text keeps the keys and values.
_KEPT_KEYS = 2

Keys = tuple[Tensor, Tensor]


def encode_rests(
    tower: TextTower, prefix: Tensor, rests: Sequence[Tensor], limit: int = ACTIVATIONS
) -> Tensor:
    """Return the features of texts that begin alike.

    The blocks of a causal tower must be CLIP's own, with nothing injected.

    Args:
        tower: reads them.
        prefix: embeddings ``(P, width)`` of the first places, the same in all texts; P >= 1 in a
            causal tower.
        rests: embeddings ``(M_i, L_i, width)`` of the places after, texts of one length together.
            The state of a text is that of its last place.
        limit: bytes of activations that are kept at once.

    Returns:
        ``(ΣM_i, D)``, not normalised, in the order of ``rests``.
    """
    before = len(prefix) * (_KEPT_KEYS if tower.causal else _KEPT)
    width = tower.width * len(tower.blocks) * prefix.element_size()
    parts = list(_parts(rests, before, limit // width))
    known = _prefix_keys(tower, prefix) if tower.causal else []

    def compute(*own: Tensor) -> Tensor:
        if tower.causal:
            return _causal(tower, len(prefix), known, own)
        return torch.cat([_whole(tower, prefix, rest) for rest in own])

    if len(parts) == 1 or not torch.is_grad_enabled():
        return torch.cat([compute(*part) for part in parts])
    again: Any = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    return torch.cat([again(compute, *part) for part in parts])


def _parts(rests: Sequence[Tensor], before: int, most: int) -> Iterator[list[Tensor]]:
    """Cut the texts, in their order, into parts of at most ``most``, or of one text.

    Counted in widths of a block: ``before`` of them for the first places of a text.
    """
    part: list[Tensor] = []
    free = most
    for rest in rests:
        text = before + rest.shape[1] * _KEPT
        while len(rest):
            if free < text and part:
                yield part
                part, free = [], most
            count = max(1, free // text)
            part.append(rest[:count])
            free -= len(part[-1]) * text
            rest = rest[count:]
    yield part


def _whole(tower: TextTower, prefix: Tensor, rest: Tensor) -> Tensor:
    texts = torch.cat([prefix.expand(len(rest), -1, -1), rest], 1)
    ends = torch.full((len(texts),), texts.shape[1] - 1, device=texts.device)
    return tower.leave(tower.through(tower.enter(texts)), ends)


def _prefix_keys(tower: TextTower, prefix: Tensor) -> list[Keys]:
    """Return keys and values of the first places in every block, ``(1, heads, P, width/heads)``."""
    shape = [(1, len(prefix))]
    states = tower.enter(prefix[None])[0]
    found: list[Keys] = []
    blocks: list[Any] = list(tower.blocks)
    for block in blocks:
        normed = block.layer_norm1(states)
        (keys,) = _asked(block, normed, shape)
        found.append(keys)
        if len(found) < len(blocks):
            (q,) = _asking(block, normed, shape)
            states = _leave(block, states, _attended(q, keys))
    return found


def _causal(
    tower: TextTower, places: int, known: Sequence[Keys], rests: Sequence[Tensor]
) -> Tensor:
    """Return the features of texts whose first ``places`` have the keys and values ``known``."""
    shapes = queries = [(len(rest), rest.shape[1]) for rest in rests]
    states = torch.cat([tower.enter(rest, places).flatten(0, 1) for rest in rests])
    blocks: list[Any] = list(tower.blocks)
    for number, (block, before) in enumerate(zip(blocks, known, strict=True)):
        normed = block.layer_norm1(states)
        asked = _asked(block, normed, shapes)
        if number == len(known) - 1:
            last = _last_places(shapes).to(states.device)
            states, normed = states[last], normed[last]
            queries = [(count, 1) for count, _ in shapes]
        asking = _asking(block, normed, queries)
        seen = [_attended(q, keys, before) for q, keys in zip(asking, asked, strict=True)]
        states = _leave(block, states, torch.cat(seen))
    return tower.leave(states[:, None], torch.zeros_like(last))


def _asking(block: Any, rows: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Return the queries of rows that are texts of these counts and lengths, one after another."""
    return _tables(block, block.self_attn.q_proj(rows), shapes)


def _asked(block: Any, rows: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Keys]:
    """Return keys and values of such rows."""
    keys = _tables(block, block.self_attn.k_proj(rows), shapes)
    return list(zip(keys, _tables(block, block.self_attn.v_proj(rows), shapes), strict=True))


def _tables(block: Any, rows: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    parts = torch.split(rows, [count * length for count, length in shapes])
    width = block.self_attn.head_dim
    return [
        part.view(count, length, -1, width).transpose(1, 2)
        for part, (count, length) in zip(parts, shapes, strict=True)
    ]


def _attended(q: Tensor, keys: Keys, before: Keys | None = None) -> Tensor:
    """Return, as rows, what each place sees of itself and of the places before it."""
    k, v = keys
    if before is not None:
        k, v = (
            torch.cat([first.expand(len(q), -1, -1, -1), own], 2)
            for first, own in zip(before, keys, strict=True)
        )
    asking, asked = q.shape[2], k.shape[2]
    mask = torch.ones(asking, asked, dtype=torch.bool, device=q.device).tril(asked - asking)
    seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return seen.transpose(1, 2).reshape(-1, q.shape[1] * q.shape[3])


def _leave(block: Any, states: Tensor, seen: Tensor) -> Tensor:
    """Return the states behind a block from those before it and what attention saw."""
    states = states + block.self_attn.out_proj(seen)
    behind: Tensor = states + block.mlp(block.layer_norm2(states))
    return behind


def _last_places(shapes: Sequence[tuple[int, int]]) -> Tensor:
    """Return the row of the last place of every text."""
    lengths = torch.cat([torch.full((count,), length) for count, length in shapes])
    return lengths.cumsum(0) - 1
