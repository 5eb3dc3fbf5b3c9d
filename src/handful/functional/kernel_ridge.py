"""Kernel ridge regression with a prior mean, solved once for many penalties.

f(x) = f₀(x) + k(x, F)·(K + λI)⁻¹·R, with K = k(F, F) and R = Y − f₀(F): what the prior leaves
unexplained of the support, spread to its surroundings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Spectrum", "coefficients", "probabilities"]


def coefficients(kernel: Tensor, residual: Tensor, penalty: float) -> Tensor:
    """(K + λI)⁻¹·R by one Cholesky factor.

    Args:
        kernel: K, symmetric positive semi-definite, float64 ``(n, n)``.
        residual: R, ``(n, C)``.
        penalty: λ > 0.
    """
    shifted = kernel.clone()
    shifted.diagonal().add_(penalty)
    return torch.cholesky_solve(residual, torch.linalg.cholesky(shifted))


@dataclass(frozen=True)
class Spectrum:
    """K = V·diag(d)·Vᵀ: one decomposition serves every λ.

    Attributes:
        values: d ≥ 0, ``(n,)``.
        vectors: V, ``(n, n)``.
    """

    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, kernel: Tensor) -> Spectrum:
        """Decompose a symmetric positive semi-definite kernel matrix, float64 ``(n, n)``."""
        values, vectors = torch.linalg.eigh(kernel)
        return cls(values.clamp_min(0), vectors)

    def leave_one_out(self, residual: Tensor, penalty: float) -> Tensor:
        """Return what is left of R, each row predicted from all others.

        Row i is [(K + λI)⁻¹R]ᵢ / [(K + λI)⁻¹]ᵢᵢ, which is what explicit refits without row i give.

        Args:
            residual: R, ``(n, C)``.
            penalty: λ > 0.
        """
        shrunk = self.vectors / (self.values + penalty)
        own = (shrunk * self.vectors).sum(dim=1)
        return shrunk @ (self.vectors.T @ residual) / own[:, None]


def probabilities(values: Tensor) -> Tensor:
    """Clip values that should lie in [0, 1] at 1e-12, and divide each row by its sum."""
    clipped = values.clamp_min(1e-12)
    return clipped / clipped.sum(dim=-1, keepdim=True)
