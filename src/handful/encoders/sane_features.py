"""What the features of every encoder must be, whatever its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from handful.encoders.protocol import Encoder

__all__ = ["half_precision", "senseless_features", "unit_rows"]

# On cosines, for one input in another batch: float32, and half precision.
SAME, SAME_HALF = 1e-4, 2e-3
# Equal but for rounding: the input does not reach the features.
EQUAL = 1e-9


def senseless_features(
    encoder: Encoder,
    alone: npt.NDArray[Any],
    again: npt.NDArray[Any],
    together: npt.NDArray[Any],
    what: str,
    others: str,
) -> str:
    """Say what is wrong with features; empty where nothing is.

    Args:
        encoder: whose they are.
        alone: of one input, ``(1, D)``.
        again: of the same input, encoded once more.
        together: of several inputs in one batch, ``(N, D)``, the same one first.
        what: the input in a word.
        others: the other inputs in a word or two.
    """
    if alone.shape != (1, encoder.dim) or together.shape[1:] != (encoder.dim,):
        return f"features are {alone.shape}, expected (1, {encoder.dim})"
    every = np.concatenate([alone, again, together])
    if not np.isfinite(every).all() or not every.any(axis=1).all():
        return "features are not finite, or all zero"
    same = 1 - (SAME_HALF if half_precision(encoder) else SAME)
    if (cosine := _cosine(alone, again)) < same:
        return f"one {what} encoded twice gives two features, with a cosine of {cosine:.5f}"
    if (cosine := _cosine(alone, together)) < same:
        return (
            f"a {what} alone and beside {others} gives two features, with a cosine of {cosine:.5f}:"
            " masking, padding or pooling is wrong"
        )
    if _cosine(together, together[1:]) > 1 - EQUAL:
        return f"two different {what}s have the same features"
    return ""


def half_precision(encoder: Encoder) -> bool:
    """Return whether the encoder computes in less than float32."""
    return getattr(encoder, "dtype", torch.float32) != torch.float32


def unit_rows(features: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the rows ``(N, D)`` at unit length, float64."""
    rows = features.astype(np.float64)
    unit: npt.NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Cosine of the first rows."""
    return float(unit_rows(a[:1])[0] @ unit_rows(b[:1])[0])
