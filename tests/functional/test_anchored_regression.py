"""Regression from a start: optimum, metric, limits; scikit-learn's solution of the same problem."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from handful.functional.anchored_regression import anchored_regression, within_class_root

RNG = np.random.default_rng(0)
LABELS = torch.arange(5).repeat_interleave(6)
SAMPLES = torch.from_numpy(RNG.normal(size=(5, 12)))[LABELS] + torch.from_numpy(
    RNG.normal(size=(30, 12))
)
START = 2 * torch.from_numpy(RNG.normal(size=(30, 5)))


def standard(samples: Tensor) -> Tensor:
    """As the function sees them: centred, of mean squared length 1, with a channel of ones."""
    moved = samples - samples.mean(dim=0)
    moved = moved / (moved**2).sum(dim=1).mean().sqrt()
    return torch.cat([moved, torch.ones(len(moved), 1, dtype=moved.dtype)], dim=1)


def test_gradient_vanishes_at_the_solution() -> None:
    """Σᵢ (pᵢ − yᵢ)·xᵢ + λδ = 0, in the coordinates of the penalty."""
    penalty = 0.5
    delta, bias = anchored_regression(SAMPLES, LABELS, START[None], penalty)
    logits = START + SAMPLES @ delta[0].T + bias[0]
    wrong = torch.softmax(logits, dim=1) - torch.nn.functional.one_hot(LABELS, 5)
    places = standard(SAMPLES)
    pull = places.T @ wrong
    solution = torch.linalg.lstsq(places, logits - START).solution
    assert float((pull + penalty * solution).abs().max()) < 1e-3 * float(pull.abs().max())


def test_from_zero_it_is_scikit_learns_probe() -> None:
    penalty = 0.3
    delta, bias = anchored_regression(SAMPLES, LABELS, torch.zeros(1, 30, 5), penalty)
    probe = LogisticRegression(C=1 / penalty, fit_intercept=False, max_iter=5000, tol=1e-10)
    expected = probe.fit(standard(SAMPLES), LABELS).predict_log_proba(standard(SAMPLES))
    found = torch.log_softmax(SAMPLES @ delta[0].T + bias[0], dim=1)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_large_penalty_leaves_the_start() -> None:
    delta, bias = anchored_regression(SAMPLES, LABELS, START[None], 1e9)
    assert float(delta.abs().max()) < 1e-6 and float(bias.abs().max()) < 1e-6


def test_starts_are_problems_of_their_own() -> None:
    both = anchored_regression(SAMPLES, LABELS, torch.stack([START, 0 * START]), 0.3)
    for position, start in enumerate((START, 0 * START)):
        alone = anchored_regression(SAMPLES, LABELS, start[None], 0.3)
        for together, one in zip(both, alone, strict=True):
            np.testing.assert_allclose(together[position], one[0], atol=2e-3)


def test_a_sample_of_weight_two_is_two_samples() -> None:
    twice = torch.cat([SAMPLES, SAMPLES])
    expected = anchored_regression(twice, LABELS.repeat(2), START.repeat(2, 1)[None], 0.3)
    found = anchored_regression(SAMPLES, LABELS, START[None], 0.3, weights=torch.full((30,), 2.0))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_the_scale_of_the_features_does_not_matter() -> None:
    """Of another encoder, say: the penalty means the same."""
    delta, bias = anchored_regression(SAMPLES, LABELS, START[None], 0.3)
    scaled, scaled_bias = anchored_regression(7 * SAMPLES, LABELS, START[None], 0.3)
    np.testing.assert_allclose(7 * scaled, delta, atol=2e-3)
    np.testing.assert_allclose(scaled_bias, bias, atol=2e-3)


def test_the_root_makes_the_classes_round() -> None:
    root = within_class_root(SAMPLES, LABELS, 5, shrinkage=1e-9)
    assert root is not None
    means = torch.stack([SAMPLES[c == LABELS].mean(dim=0) for c in range(5)])
    off = (SAMPLES - means[LABELS]) @ root
    covariance = off.T @ off
    identity = torch.eye(12, dtype=torch.float64) * covariance.diagonal().mean()
    np.testing.assert_allclose(covariance, identity, atol=1e-5 * float(identity.max()))


def test_whole_shrinkage_is_the_euclidean_metric() -> None:
    root = within_class_root(SAMPLES, LABELS, 5, shrinkage=1.0)
    np.testing.assert_allclose(root, torch.eye(12), atol=1e-12)


def test_one_sample_per_class_has_no_metric() -> None:
    assert within_class_root(SAMPLES[::6], LABELS[::6], 5, 0.5) is None
