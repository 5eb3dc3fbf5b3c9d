"""Length and direction of feature vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["parts_of", "unit", "unit_parts"]

_TINY = 1e-12


def unit(vectors: Tensor) -> Tensor:
    """Scale vectors along the last axis to length one: unit(v) = v / max(‖v‖₂, 1e-12)."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths.clamp_min(_TINY)


def parts_of(vectors: Tensor, widths: Sequence[int]) -> tuple[Tensor, ...]:
    """Take features of several encoders, side by side ``(..., Σ widths)``, apart."""
    return torch.split_with_sizes(vectors, list(widths), dim=-1)


def unit_parts(vectors: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """Take features of several encoders apart, each of them unit."""
    return [unit(part) for part in parts_of(vectors, widths)]
