"""What the published code of a method was given and returned, and how near one must come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Oracle", "OracleInputs", "assert_agree"]

Oracle = Callable[[str], dict[str, Tensor]]


@dataclass(frozen=True)
class OracleInputs:
    """Unit vectors of ViT-B/32, 19 classes, 4 images each.

    Attributes:
        support: F ``(76, 512)``, class by class.
        labels: their classes, int64.
        queries: x ``(40, 512)``.
        text: Wᵀ ``(19, 512)``.
        prompts: the first 16 prompts of each class ``(19, 16, 512)``.
    """

    support: Tensor
    labels: Tensor
    queries: Tensor
    text: Tensor
    prompts: Tensor


def assert_agree(found: Tensor | np.ndarray, published: Tensor, tolerance: float = 1e-4) -> None:
    """max|a − b| ≤ 1e-4 max|b|, the tolerance that the oracles are stated with."""
    a, b = torch.as_tensor(found).double(), published.double()
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= tolerance * float(b.abs().max())
