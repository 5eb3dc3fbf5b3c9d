"""Image features in two spaces side by side, ``[original | corrected]``, ``(..., 2·D)``.

The original space is that of the text, D wide: there images are compared with names. In the
corrected one images are compared with images. Features of one space, ``(..., D)``, are both, so
that no equation needs to know which it was given. Parts are copied to lie like features of one
space, which makes two equal halves and one space the same to the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from handful.functional.normalise import unit

__all__ = ["compared", "original", "unit_in_each"]


def original(features: Tensor, width: int) -> Tensor:
    """Return the part that is compared with text, ``width`` columns.

    Raises:
        ValueError: the features are neither ``width`` nor twice as wide.
    """
    _check(features, width)
    return features[..., :width].contiguous()


def compared(features: Tensor, width: int) -> Tensor:
    """Return the part that is compared with images, ``width`` columns.

    Raises:
        ValueError: the features are neither ``width`` nor twice as wide.
    """
    _check(features, width)
    return features[..., -width:].contiguous()


def unit_in_each(features: Tensor, width: int) -> Tensor:
    """Bring features to length 1 in each space."""
    if features.shape[-1] == width:
        return unit(features)
    return torch.cat([unit(original(features, width)), unit(compared(features, width))], dim=-1)


def _check(features: Tensor, width: int) -> None:
    if features.shape[-1] not in (width, 2 * width):
        raise ValueError(
            f"features have width {features.shape[-1]}: expected {width}, or {2 * width} in two "
            "spaces"
        )
