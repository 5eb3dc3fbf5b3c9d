"""The overlap of paired and unpaired cosines, against loops over all pairs and known cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import roc_auc_score

from handful.functional import overlap
from handful.functional.overlap import PairCosines, feature_variance, modality_gap, pair_cosines


def drawn(seed: int, n: int = 30, d: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    centres = torch.randn(3, d, generator=generator)
    return centres[labels] + torch.randn(n, d, generator=generator), labels


@given(st.integers(0, 100), st.sampled_from([4, 7, 2048]))
def test_against_a_loop_over_pairs(seed: int, block: int) -> None:
    """Whatever the size of the blocks; AUROC is exact up to the width of a bin."""
    x, y = drawn(seed)
    before, overlap._BLOCK = overlap._BLOCK, block
    try:
        found = pair_cosines(x, y)
    finally:
        overlap._BLOCK = before
    cosines: dict[bool, list[float]] = {True: [], False: []}
    for i, j in itertools.combinations(range(len(x)), 2):
        value = torch.nn.functional.cosine_similarity(x[i], x[j], dim=0)
        cosines[bool(y[i] == y[j])].append(float(value))
    for kind, counts, place in ((True, found.paired, 0), (False, found.unpaired, 1)):
        assert counts.sum() == len(cosines[kind])
        assert found.means[place] == pytest.approx(np.mean(cosines[kind]), abs=1e-5)
        assert found.deviations[place] == pytest.approx(np.std(cosines[kind]), abs=1e-4)
        histogram, _ = np.histogram(cosines[kind], found.edges.numpy())
        # A cosine on an edge may fall to either side of it.
        assert abs(np.cumsum(histogram) - np.cumsum(counts.numpy())).max() <= 1
    truth = [1] * len(cosines[True]) + [0] * len(cosines[False])
    exact = roc_auc_score(truth, cosines[True] + cosines[False])
    assert found.auroc == pytest.approx(exact, abs=0.02)


def of(paired: list[int], unpaired: list[int]) -> PairCosines:
    edges = torch.linspace(-1, 1, len(paired) + 1)
    return PairCosines(edges, torch.tensor(paired), torch.tensor(unpaired), (0.5, 0.1), (0.1, 0.1))


def test_equal_and_disjoint_distributions() -> None:
    equal = of([1, 2, 3], [10, 20, 30])
    assert (equal.overlap, equal.auroc) == (pytest.approx(1), pytest.approx(0.5))
    assert equal.divergence == pytest.approx(0)
    apart = of([0, 0, 5], [7, 1, 0])
    assert (apart.overlap, apart.divergence, apart.auroc) == (0, pytest.approx(1), pytest.approx(1))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=8))
def test_divergence_is_that_of_scipy_and_both_are_symmetric(counts: list[tuple[int, int]]) -> None:
    p, q = ([c[i] for c in counts] for i in (0, 1))
    if not sum(p) or not sum(q):
        return
    assert of(p, q).divergence == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-9)
    assert of(p, q).overlap == pytest.approx(of(q, p).overlap)
    assert of(p, q).auroc == pytest.approx(1 - of(q, p).auroc)


def test_separation_variance_and_gap() -> None:
    assert of([1, 1], [1, 1]).separation == pytest.approx(4)
    x = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    assert feature_variance(x) == pytest.approx(0.25)  # of 1 and 0
    assert modality_gap(x, torch.tensor([[-1.0, 0.0], [0.0, -1.0]])) == pytest.approx(2**0.5)


def test_merged_bins_hold_the_same_pairs() -> None:
    found = pair_cosines(*drawn(0), bins=40)
    same = found.merged(4)
    assert (same.paired.sum(), same.unpaired.sum()) == (found.paired.sum(), found.unpaired.sum())
    assert torch.equal(same.edges, torch.linspace(-1, 1, 41)[::4])
    assert same.paired.tolist() == [int(found.paired[i : i + 4].sum()) for i in range(0, 40, 4)]
    # Wider bins can only hide differences.
    assert same.overlap >= found.overlap
    assert same.divergence <= found.divergence + 1e-12
    assert (same.means, same.separation) == (found.means, found.separation)
    with pytest.raises(ValueError, match="cannot be merged by 7"):
        found.merged(7)
