"""Dropout whose masks follow from a number for each row, not from the place of the row in a batch.

A batch may then be cut into parts, or shared out among processes and devices, and every row still
loses the same entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from handful.tuning.bottlenecks import Bottleneck

__all__ = ["KeyedDropout", "Keys", "drop_by_keys"]

_BITS = 0xFFFFFFFF


@dataclass(eq=False)
class Keys:
    """The numbers that the rows of the next forward pass go by.

    Attributes:
        rows: int64 ``(N,)``, 0 to 2³² − 1.
    """

    rows: Tensor | None = None


class KeyedDropout(nn.Dropout):
    """Drop a share of the entries of ``(N, …)`` in training mode, and scale up the others.

    Args:
        share: of the entries that is dropped.
        keys: of the rows, set before every pass.
        number: of this layer: others drop other entries.
    """

    def __init__(self, share: float, keys: Keys, number: int) -> None:
        super().__init__(share)
        self.keys, self.number = keys, number

    def forward(self, states: Tensor) -> Tensor:
        if not self.training or not self.p:
            return states
        rows = self.keys.rows
        assert rows is not None and len(rows) == len(states)
        places = torch.arange(states[0].numel(), device=states.device)
        own = _scattered(rows ^ _scattered(rows.new_tensor(self.number + 1)))
        drawn = _scattered(own[:, None] ^ _scattered(places)[None])
        kept = (drawn >= round(self.p * _BITS)).view_as(states)
        return states * kept / (1 - self.p)


def drop_by_keys(adapter: nn.Module, share: float) -> Keys:
    """Put keyed dropout into all bottlenecks of a module; return where the keys are to be set."""
    keys = Keys()
    found = [module for module in adapter.modules() if isinstance(module, Bottleneck)]
    for number, bottleneck in enumerate(found):
        bottleneck.drop = KeyedDropout(share, keys, number)
    return keys


def _scattered(x: Tensor) -> Tensor:
    """Map 32-bit numbers, in int64, one to one to others that look random (lowbias32, C. Wellons).

    Whole numbers are the same on every device, which generators are not.
    """
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _BITS
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _BITS
    return x ^ (x >> 16)
