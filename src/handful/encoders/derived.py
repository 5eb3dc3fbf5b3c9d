"""Encoders whose image features follow from those of another one, without the image."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from handful.encoders.protocol import Encoder

__all__ = ["DerivedEncoder"]


@runtime_checkable
class DerivedEncoder(Protocol):
    """An encoder on top of another; only the other's features need to be kept in a store.

    Attributes:
        base: the encoder underneath, which prepares the pictures in the same way.
    """

    base: Encoder

    def derive(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return its features ``(…, D')``, not normalised, of those of the base ``(…, D)``."""
        ...
