"""The head of DINO: from a feature to many scores. Here a random projection that never learns."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from handful.functional.bottleneck import layer_start
from handful.functional.normalise import unit

__all__ = ["RandomHead"]

_SPREAD = 0.02  # of the weights, as in DINO and most vision transformers


class RandomHead(nn.Module):
    """D → hidden → hidden → narrow, GELU in between; to unit length; cosines with random vectors.

    Args:
        dim: D.
        hidden: width of the two wide layers.
        narrow: width before the last layer.
        outputs: number of scores.
        seed: of the weights, which are frozen.
    """

    def __init__(self, dim: int, *, hidden: int, narrow: int, outputs: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        sizes = (dim, hidden, hidden, narrow)
        for i, (inputs, width) in enumerate(pairwise(sizes)):
            weight = torch.empty(width, inputs)
            nn.init.trunc_normal_(weight, std=_SPREAD, generator=generator)
            self.register_buffer(f"weight{i}", weight)
        vectors = layer_start(narrow, outputs, generator).T.contiguous()
        self.register_buffer("vectors", unit(vectors))

    def forward(self, features: Tensor) -> Tensor:
        """Return scores ``(N, outputs)`` of features ``(N, D)``."""
        weights = [getattr(self, f"weight{i}") for i in range(3)]
        states = F.gelu(F.linear(features, weights[0]))
        states = F.linear(F.gelu(F.linear(states, weights[1])), weights[2])
        return F.linear(unit(states), self.vectors)  # type: ignore[arg-type]
