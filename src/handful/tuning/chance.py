"""Seeds from several numbers, such as that of a run and that of a step."""

from __future__ import annotations

import numpy as np

__all__ = ["mixed"]


def mixed(*numbers: int) -> int:
    """Return one seed for all the numbers in their order."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
