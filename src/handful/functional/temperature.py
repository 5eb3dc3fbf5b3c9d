"""Temperature and vector scaling: the softmax of rescaled logits that fits labelled images best.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (2017). Temperature
scaling divides all logits by one T > 0, which changes no answer. Vector scaling gives every class
its own scale and bias, and may change answers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["fit_temperature", "fit_vector_scaling", "log_softmax", "rescale"]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

# How far β = 1/T may go from 1 over the spread of the logits (the mean of the largest logit less
# the mean logit): beyond, probabilities are 1/C, or 0 and 1, to any precision that matters.
_LEAST, _MOST = 1e-4, 1e4


def fit_temperature(
    logits: Floats, labels: Labels, weights: Floats | None = None, pseudo_errors: float = 0.0
) -> float:
    """Return the T that minimises Σ w · −log softmax(logits / T)[label].

    The loss is convex in β = 1/T, with first derivative Σ w (Σ_c p_c z_c − z_y) and second
    Σ w Var_p(z): Newton steps, and a halving of the bracket where one would leave it. Logits times
    k give T times k. Where the minimum is at infinity (all images right: T → 0; no better than
    chance: T → ∞), T ends as far out as matters.

    Args:
        logits: ``(M, C)``.
        labels: column of the true class ``(M,)``.
        weights: of the images ``(M,)``, not negative; None: 1 each.
        pseudo_errors: so many further images, shared out evenly over the given ones, whose label is
            the runner-up: the largest logit but for the true class. Above 0, T stays finite and
            positive even where all images are right.

    Raises:
        ValueError: there are no images, or a logit is not finite.
    """
    if not len(logits) or not np.isfinite(logits).all():
        raise ValueError("a temperature needs images, and finite logits")
    weights = np.ones(len(logits)) if weights is None else weights
    target = _targets(logits, labels, float(weights.sum()), pseudo_errors)
    weights = weights / weights.sum()
    spread = float(weights @ (logits.max(axis=1) - logits.mean(axis=1)))
    if spread <= 0:
        return 1.0  # equal logits: every T gives the same probabilities
    z = (logits - logits.max(axis=1, keepdims=True)) / spread
    wanted = float(weights @ (target * z).sum(axis=1))

    def slopes(beta: float) -> tuple[float, float]:
        p = np.exp(beta * z)
        p /= p.sum(axis=1, keepdims=True)
        p *= z
        mean = p.sum(axis=1)
        p *= z
        return float(weights @ mean) - wanted, float(weights @ (p.sum(axis=1) - mean**2))

    low, high, beta = _LEAST, _MOST, 1.0
    for _ in range(100):
        slope, curvature = slopes(beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        new = beta - slope / curvature if curvature > 0 else 0.0
        if not low < new < high:
            new = float(np.sqrt(low * high))
        if abs(new - beta) <= 1e-9 * beta:
            break
        beta = new
    return spread / beta


def fit_vector_scaling(
    logits: Floats,
    labels: Labels,
    weights: Floats | None = None,
    penalty: float = 1.0,
    pseudo_errors: float = 0.0,
) -> tuple[Floats, Floats]:
    """Return scale and bias of each class, ``(C,)`` each, for :func:`rescale`.

    They minimise Σ w · loss + ``penalty`` / 2 · Σ_c ((T · scale_c − 1)² + bias_c²), T being
    :func:`fit_temperature`, as if each deviation from temperature scaling had a normal prior of
    variance 1 / ``penalty``. Convex; minimised by L-BFGS.

    Args:
        logits, labels, weights, pseudo_errors: as for :func:`fit_temperature`.
        penalty: above 0; a large one gives temperature scaling.

    Raises:
        ValueError: there are no images, a logit is not finite, or ``penalty`` is not above 0.
    """
    from scipy.optimize import minimize

    if penalty <= 0:
        raise ValueError(f"penalty is {penalty}: expected a number above 0")
    temperature = fit_temperature(logits, labels, weights, pseudo_errors)
    weights = np.ones(len(logits)) if weights is None else weights
    total = float(weights.sum())
    target = _targets(logits, labels, total, pseudo_errors)
    share = (weights / total)[:, None]
    z = _centred(logits) / temperature
    n_classes = z.shape[1]

    def loss(steps: Floats) -> tuple[float, Floats]:
        parameters = steps * unit
        change, bias = parameters[:n_classes], parameters[n_classes:]
        log_p = log_softmax(z * (1 + change) + bias)
        value = -float((share * log_p * target).sum())
        value += penalty / (2 * total) * float(parameters @ parameters)
        off = share * (np.exp(log_p) - target)
        slope = np.concatenate([(off * z).sum(axis=0), off.sum(axis=0)])
        return value, unit * (slope + penalty / total * parameters)

    # Steps in units in which the curvature at the start is about the same for all parameters.
    p = np.exp(log_softmax(z))
    spread = share * p * (1 - p)
    curvature = np.concatenate([(spread * z**2).sum(axis=0), spread.sum(axis=0)])
    unit = 1 / np.sqrt(curvature + penalty / total)
    start = np.zeros(2 * n_classes)
    options = {"gtol": 1e-4, "ftol": 1e-6, "maxiter": 1000}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x * unit
    return (1 + found[:n_classes]) / temperature, found[n_classes:]


def rescale(logits: Floats, scale: Floats, bias: Floats) -> Floats:
    """Return scale · (logits − mean logit of the image) + bias, ``(M, C)``.

    Softmax does not see a number that is added to all logits of an image; nor does this.
    """
    return _centred(logits) * scale + bias


def log_softmax(logits: Floats) -> Floats:
    """Return log softmax over the columns ``(M, C)``."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def _centred(logits: Floats) -> Floats:
    found: Floats = logits - logits.mean(axis=1, keepdims=True)
    return found


def _targets(logits: Floats, labels: Labels, images: float, pseudo_errors: float) -> Floats:
    """Return the share of each label in each image ``(M, C)``."""
    rows = np.arange(len(logits))
    share = pseudo_errors / (images + pseudo_errors)
    others = logits.copy()
    others[rows, labels] = -np.inf
    target = np.zeros_like(logits)
    target[rows, labels] = 1 - share
    target[rows, others.argmax(axis=1)] = share
    return target
