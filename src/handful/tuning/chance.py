"""Chance from several numbers, such as the seed of a run and the number of a step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["mixed", "shuffled"]


def mixed(*numbers: int) -> int:
    """Return one seed for all the numbers in their order."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def shuffled(count: int, *numbers: int) -> npt.NDArray[np.int64]:
    """Return 0 to ``count`` − 1 in an order that follows from all the numbers."""
    generator = torch.Generator().manual_seed(mixed(*numbers))
    return torch.randperm(count, generator=generator).numpy()
