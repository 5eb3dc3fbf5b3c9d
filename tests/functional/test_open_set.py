"""Open-set scores against scipy and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from handful.functional.open_set import (
    cache_affinity,
    centred_cosines,
    concept_matching,
    energy,
    maximum_logit,
    nearest_support,
)

RNG = np.random.default_rng(0)
COSINES = RNG.uniform(-1, 1, size=(7, 9))
LABELS = np.array([0, 0, 1, 3, 3, 3, 1, 0, 3])  # class 2 has no images
HIDDEN = RNG.random((7, 9)) < 0.3
HIDDEN[0, LABELS == 1] = True  # one image may see none of a class
SEEN = torch.from_numpy(np.where(HIDDEN, -math.inf, COSINES))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize("temperature", [0.01, 1.0, 7.0])
def test_scores_of_logits(temperature: float) -> None:
    logits = torch.from_numpy(COSINES)
    np.testing.assert_allclose(
        concept_matching(logits, temperature), softmax(COSINES / temperature, axis=1).max(axis=1)
    )
    np.testing.assert_allclose(
        energy(logits, temperature), temperature * logsumexp(COSINES / temperature, axis=1)
    )
    np.testing.assert_array_equal(maximum_logit(logits), COSINES.max(axis=1))


def test_temperatures_of_the_papers() -> None:
    logits = torch.from_numpy(COSINES)
    np.testing.assert_array_equal(concept_matching(logits), concept_matching(logits, 1.0))
    np.testing.assert_array_equal(energy(logits), energy(logits, 1.0))


def test_energy_of_large_logits_is_finite() -> None:
    assert energy(torch.tensor([[1e4, 0.0]]).double()).item() == 1e4


def test_nearest_support_of_each_class() -> None:
    found = nearest_support(SEEN, torch.from_numpy(LABELS), 4)
    expected = [
        [
            max(
                (COSINES[i, j] for j in range(9) if LABELS[j] == c and not HIDDEN[i, j]),
                default=-math.inf,
            )
            for c in range(4)
        ]
        for i in range(7)
    ]
    np.testing.assert_array_equal(found, expected)
    assert found[0, 1] == found[0, 2] == -math.inf


def test_cache_affinity_is_the_mean_vote_of_the_images_that_are_seen() -> None:
    found = cache_affinity(SEEN, torch.from_numpy(LABELS), 4, 5.0)
    for i in range(7):
        for c in range(4):
            votes = [
                math.exp(-5 * (1 - COSINES[i, j]))
                for j in range(9)
                if LABELS[j] == c and not HIDDEN[i, j]
            ]
            expected = math.log(np.mean(votes)) if votes else -math.inf
            assert found[i, c].item() == pytest.approx(expected)


@pytest.mark.parametrize("own_centre", [False, True])
def test_centred_cosines(own_centre: bool) -> None:
    features, means = RNG.normal(size=(6, 5)), RNG.normal(size=(3, 5))
    centre = RNG.normal(size=(6, 5) if own_centre else 5)
    found = centred_cosines(*(torch.from_numpy(a) for a in (features, means, centre)))
    for i in range(6):
        middle = centre[i] if own_centre else centre
        for c in range(3):
            expected = cosine(features[i] - middle, means[c] - middle)
            assert found[i, c].item() == pytest.approx(expected)


def test_a_mean_that_is_the_centre_is_like_nothing() -> None:
    """So it is where one class is left, the centre being the mean of the means."""
    features, mean = RNG.normal(size=(4, 6)), RNG.normal(size=6)
    found = centred_cosines(
        torch.from_numpy(features), torch.from_numpy(mean[None]), torch.from_numpy(mean)
    )
    np.testing.assert_allclose(found, 0, atol=1e-5)
    itself = centred_cosines(*(torch.from_numpy(a) for a in (mean[None], features, mean)))
    np.testing.assert_allclose(itself, 0, atol=1e-5)
