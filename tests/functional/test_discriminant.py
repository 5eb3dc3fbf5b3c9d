"""Gaussian discriminant analysis against its formula, written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.functional.discriminant import gaussian_discriminant, predict_means, solve_ridge
from handful.functional.normalise import unit


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
TEXT = unit(normal(4, 12, seed=1))


def images(width: int = 12, labels: torch.Tensor = LABELS, noise: float = 0.6) -> torch.Tensor:
    return unit(normal(4, width, seed=2)[labels] + noise * normal(len(labels), width, seed=3))


X = images()


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(1e-3, 1e3), st.integers(0, 100))
def test_ridge_of_either_side_is_the_inverse(m: int, d: int, ridge: float, seed: int) -> None:
    rows, targets = normal(m, d, seed=seed), normal(3, d, seed=seed + 1)
    inverse = torch.linalg.inv(rows.T @ rows + ridge * torch.eye(d, dtype=torch.float64))
    found = solve_ridge(rows, ridge, targets)
    torch.testing.assert_close(found, targets @ inverse, rtol=1e-8, atol=1e-8 / ridge)


@pytest.mark.parametrize("rows", [3, 30])
def test_the_precision_is_symmetric_and_positive(rows: int) -> None:
    found = solve_ridge(normal(rows, 8), 0.3, torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(found, found.T)
    assert (torch.linalg.eigvalsh(found) > 0).all()


def published(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P = D·pinv((N − 1)·Σ̂ + tr(Σ̂)·I), from numpy's covariance of the centred images."""
    means = np.stack([x[y == c].mean(axis=0) for c in range(4)])
    covariance = np.cov((x - means[y]).T, ddof=1)
    (n, d) = x.shape
    precision = d * np.linalg.pinv((n - 1) * covariance + np.trace(covariance) * np.eye(d))
    weight = means @ precision
    return weight, -np.log(4) - (weight * means).sum(axis=1) / 2


@pytest.mark.parametrize("width", [5, 12, 40])
def test_without_prior_it_is_the_published_formula(width: int) -> None:
    """More images than dimensions, about as many, and fewer."""
    x = images(width)
    weight, bias = gaussian_discriminant(x, LABELS, normal(4, width))
    expected_weight, expected_bias = published(x.numpy(), LABELS.numpy())
    np.testing.assert_allclose(weight, expected_weight, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(bias, expected_bias, rtol=1e-9)


@pytest.mark.parametrize("prior", [1.0, 16.0])
@pytest.mark.parametrize("width", [5, 12, 40])
def test_the_prior_is_scatter_around_the_predicted_means(prior: float, width: int) -> None:
    x, text = images(width), unit(normal(4, width, seed=1))
    means = torch.stack([x[c == LABELS].mean(dim=0) for c in range(4)])
    around = x - predict_means(x, LABELS, text)[LABELS]
    inside = x - means[LABELS]
    scatter = inside.T @ inside + prior * around.T @ around / 10
    ridge = scatter.trace() / 9 * torch.eye(width, dtype=torch.float64)
    expected = means @ (width * torch.linalg.inv(scatter + ridge))
    weight, bias = gaussian_discriminant(x, LABELS, text, prior=prior)
    torch.testing.assert_close(weight, expected)
    torch.testing.assert_close(bias, -math.log(4) - (expected * means).sum(dim=1) / 2)


@pytest.mark.parametrize("prior", [0.0, 16.0])
def test_equals_scikit_learn_with_the_same_covariance(prior: float) -> None:
    """Up to a positive factor, and a constant in every class."""
    from sklearn.base import BaseEstimator
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    means = torch.stack([X[c == LABELS].mean(dim=0) for c in range(4)])
    rows = X - means[LABELS]
    if prior:
        around = X - predict_means(X, LABELS, TEXT)[LABELS]
        rows = torch.cat([rows, math.sqrt(prior / 10) * around])
    scatter = rows.T @ rows
    covariance = (scatter + scatter.trace() / 9 * torch.eye(12, dtype=torch.float64)).numpy()

    class Given(BaseEstimator):  # type: ignore[misc]
        def fit(self, X: np.ndarray) -> Given:
            self.covariance_ = covariance
            return self

    reference = LinearDiscriminantAnalysis(
        solver="lsqr", covariance_estimator=Given(), priors=np.full(4, 1 / 4)
    ).fit(X.numpy(), LABELS.numpy())
    weight, bias = gaussian_discriminant(X, LABELS, TEXT, prior=prior)
    queries = unit(normal(30, 12, seed=7))
    found, expected = (queries @ weight.T + bias).numpy(), reference.decision_function(queries)
    found, expected = (a - a.mean(axis=1, keepdims=True) for a in (found, expected))
    factor = (found * expected).sum() / (expected**2).sum()
    assert factor == pytest.approx(12)  # D
    np.testing.assert_allclose(found, factor * expected, rtol=1e-7, atol=1e-9)


def test_the_order_of_the_classes_does_not_matter() -> None:
    order = torch.tensor([2, 0, 3, 1])
    place = torch.argsort(order)
    weight, bias = gaussian_discriminant(X, LABELS, TEXT, prior=16.0)
    found, found_bias = gaussian_discriminant(X, place[LABELS], TEXT[order], prior=16.0)
    torch.testing.assert_close(found, weight[order])
    torch.testing.assert_close(found_bias, bias[order])


def test_without_any_variation_it_is_the_nearest_class_mean() -> None:
    """One image per class, and names that predict it exactly, or no prior."""
    x = unit(normal(4, 12))
    for text, prior in ((x, 16.0), (x.float(), 16.0), (TEXT, 0.0)):
        weight, bias = gaussian_discriminant(x, torch.arange(4), text, prior=prior)
        torch.testing.assert_close(weight, 12 * x)
        torch.testing.assert_close(bias, torch.full_like(bias, -math.log(4) - 6))


def test_one_image_per_class_is_not_degenerate_with_names() -> None:
    x = images(labels=torch.arange(4))
    weight, _ = gaussian_discriminant(x, torch.arange(4), TEXT, prior=16.0)
    assert torch.linalg.matrix_rank(weight) == 4
    assert not torch.allclose(unit(weight), unit(x), atol=1e-2)  # not the identity either


def test_means_are_predicted_by_the_best_gain() -> None:
    """One unknown g: least squares of the centred images on the centred names."""
    centred = X - X.mean(dim=0)
    named = TEXT - TEXT[LABELS].mean(dim=0)
    column, target = named[LABELS].flatten()[:, None], centred.flatten()[:, None]
    gain = torch.linalg.lstsq(column, target).solution[0, 0]
    torch.testing.assert_close(predict_means(X, LABELS, TEXT), X.mean(dim=0) + gain * named)


def test_means_that_follow_the_names_are_found_exactly() -> None:
    """Of a class without images, too."""
    labels = torch.tensor([0, 1, 1, 3])
    shift = normal(12, seed=4)
    found = predict_means(shift + 0.3 * TEXT[labels], labels, TEXT)
    torch.testing.assert_close(found, shift + 0.3 * TEXT)


def test_equal_names_predict_the_mean_of_all() -> None:
    found = predict_means(X, LABELS, TEXT[:1].expand(4, 12))
    torch.testing.assert_close(found, X.mean(dim=0).expand(4, 12))


def test_a_class_without_images_has_the_predicted_mean() -> None:
    here = LABELS != 2
    weight, bias = gaussian_discriminant(X[here], LABELS[here], TEXT, prior=16.0)
    predicted = predict_means(X[here], LABELS[here], TEXT)[2]
    # u_c·m = 2·(−log C − b_c) where m is the mean of class c.
    assert float(weight[2] @ predicted) == pytest.approx(2 * (-math.log(4) - float(bias[2])))
    assert torch.isfinite(weight).all() and torch.isfinite(bias).all()
