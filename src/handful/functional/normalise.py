"""Length and direction of feature vectors."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["unit"]

_TINY = 1e-12


def unit(vectors: Tensor) -> Tensor:
    """Scale vectors along the last axis to length one: unit(v) = v / max(‖v‖₂, 1e-12)."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths.clamp_min(_TINY)
