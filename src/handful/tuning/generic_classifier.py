"""The linear classifier that teaches a correction, and is thrown away."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from handful.functional.bottleneck import layer_start
from handful.functional.normalise import unit

__all__ = ["READS", "GenericClassifier"]

READS = ("raw", "unit", "cosine")

_COSINES = 10.0  # factor on them: at 100 the classifier alone brings the loss to 0


class GenericClassifier(nn.Module):
    """G·z + g (``raw``), G·(s·unit(z)) + g (``unit``), or 10·cos(G, z) (``cosine``).

    Args:
        dim: D.
        classes: C.
        reads: one of ``READS``.
        logit_scale: s.
        seed: of the random start, that of a linear layer.
    """

    def __init__(self, dim: int, classes: int, reads: str, logit_scale: float, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        rows = layer_start(dim, classes, generator, bias=True)
        self.weight = nn.Parameter(rows[:-1].T.contiguous())
        self.bias = nn.Parameter(rows[-1].clone()) if reads != "cosine" else None
        self.reads, self.logit_scale = reads, logit_scale

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``(N, C)`` of corrected features ``(N, D)``."""
        if self.reads == "cosine":
            return _COSINES * unit(features) @ unit(self.weight).T
        if self.reads == "unit":
            features = self.logit_scale * unit(features)
        return nn.functional.linear(features, self.weight, self.bias)
