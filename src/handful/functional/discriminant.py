"""Gaussian discriminant analysis: one Gaussian per class, one covariance for all of them.

The covariance of a handful of images is poor, and of one image per class there is none. Here the
images' distances from what the names predict of them count beside those from the class means.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["gaussian_discriminant", "predict_means", "solve_ridge"]

# Unit samples vary by less than this (mean square) only by rounding.
_NOTHING = 1e-10


def predict_means(samples: Tensor, labels: Tensor, text: Tensor) -> Tensor:
    """Predict class means from names: m_c = x̄ + g·(w_c − w̄), g by least squares.

    One gain g for all classes and directions bridges the gap between images and names.

    Args:
        samples: x, ``(N, D)``.
        labels: int64 ``(N,)``.
        text: w, ``(C, D)``.

    Returns:
        ``(C, D)``. Where all names are equal, x̄ for every class.
    """
    centre, text_centre = samples.mean(dim=0), text[labels].mean(dim=0)
    named = text - text_centre
    along = (named[labels] * (samples - centre)).sum()
    length = (named[labels] ** 2).sum()
    gain = along / length if length > _NOTHING * len(labels) else torch.zeros_like(along)
    return centre + gain * named


def solve_ridge(rows: Tensor, ridge: Tensor | float, targets: Tensor) -> Tensor:
    """Return T·(AᵀA + ρ·I)⁻¹, by a Cholesky factor of the smaller of D × D and M × M.

    With fewer rows than columns, (AᵀA + ρI)⁻¹ = (I − Aᵀ(AAᵀ + ρI)⁻¹A) / ρ.

    Args:
        rows: A, ``(M, D)``.
        ridge: ρ > 0.
        targets: T, ``(C, D)``.
    """
    if rows.shape[0] >= rows.shape[1]:
        return torch.cholesky_solve(targets.T, _factor(rows.T @ rows, ridge)).T
    inside = torch.cholesky_solve(rows @ targets.T, _factor(rows @ rows.T, ridge))
    return (targets - inside.T @ rows) / ridge


def gaussian_discriminant(
    samples: Tensor,
    labels: Tensor,
    text: Tensor,
    *,
    prior: float = 0.0,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return u_c = P·μ_c and b_c = −log C − ½·μ_cᵀPμ_c (Wang et al., 2024, with a prior).

        P = D·(S + (tr S / (N − 1))·I)⁻¹,    S = ΔᵀΔ + (τ/N)·RᵀR

    Δ are the samples less their class mean, R the samples less the mean that
    :func:`predict_means` gives their class: the covariance around the names counts as τ samples.
    τ = 0 is the published formula. A class without samples has the predicted mean. Where S is
    nothing but rounding, P = D·I.

    Args:
        samples: unit, ``(N, D)``; views count as samples.
        labels: int64 ``(N,)``.
        text: unit class embeddings ``(C, D)``.
        prior: τ ≥ 0.
        weights: how much the deviations of each sample count in both parts of S ``(N,)``; None: 1.

    Returns:
        u ``(C, D)`` and b ``(C,)``, float64.
    """
    samples, text = samples.double(), text.double()
    (n, width), n_classes = samples.shape, len(text)
    counts = torch.bincount(labels, minlength=n_classes)[:, None]
    predicted = predict_means(samples, labels, text)
    sums = torch.zeros_like(text).index_add_(0, labels, samples)
    means = torch.where(counts > 0, sums / counts.clamp_min(1), predicted)
    rows = samples - means[labels]
    if prior > 0:
        around_names = samples - predicted[labels]
        rows = torch.cat([rows, math.sqrt(prior / n) * around_names])
    if weights is not None:
        rows = rows * weights.double().sqrt().repeat(len(rows) // n)[:, None]
    scatter = (rows**2).sum()
    if scatter > _NOTHING * n:
        weight = width * solve_ridge(rows, scatter / max(n - 1, 1), means)
    else:
        weight = width * means
    return weight, -math.log(n_classes) - (weight * means).sum(dim=1) / 2


def _factor(gram: Tensor, ridge: Tensor | float) -> Tensor:
    gram.diagonal().add_(ridge)
    factor: Tensor = torch.linalg.cholesky(gram)
    return factor
