"""Paired tests against enumeration, printed tables and scipy."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest
from bench_rows import run
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from handful.benchmark.significance import compare, holm, mcnemar, signed_rank

# -- signed ranks ----------------------------------------------------------------------------------


def by_enumeration(differences: list[float]) -> float:
    """Share of all signs whose rank sum is at least as far from the middle."""
    found = np.array([d for d in differences if d])
    rank = stats.rankdata(np.abs(found))
    middle = rank.sum() / 2
    seen = abs(rank[found > 0].sum() - middle)
    signs = itertools.product((0, 1), repeat=len(found))
    return float(np.mean([abs(np.dot(s, rank) - middle) >= seen - 1e-9 for s in signs]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-4, 4), max_size=9))
def test_signed_rank_with_ties_and_zeros_is_exact(steps: list[int]) -> None:
    assert signed_rank([s / 625 for s in steps]) == pytest.approx(by_enumeration(steps))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-99, 99).filter(bool), min_size=1, max_size=45, unique_by=abs))
def test_signed_rank_without_ties_is_scipys(steps: list[int]) -> None:
    assert signed_rank(steps) == pytest.approx(stats.wilcoxon(steps, method="exact").pvalue)


def test_signed_rank_of_a_printed_table() -> None:
    """Nine pairs, rank sum 5: the table of critical values has it at 5 % two-sided (p = 0.039)."""
    assert signed_rank([1, 2, 3, 4, -5, 6, 7, 8, 9]) == pytest.approx(0.0391, abs=1e-4)
    assert signed_rank([1, 2, 3, 4, 5, -6, 7, 8, 9]) > 0.05


def test_equal_methods_do_not_differ() -> None:
    assert signed_rank([0.0] * 12) == 1
    assert signed_rank([]) == 1


def test_last_bits_do_not_part_ties() -> None:
    """0.9 − 0.8 and 0.4 − 0.3 are equal differences of accuracies, but not equal numbers."""
    small, large = 0.9 - 0.8, 0.4 - 0.3
    assert small < large
    found = signed_rank([-small, large, large, large])
    assert found == pytest.approx(by_enumeration([-1, 1, 1, 1]))
    assert found != pytest.approx(by_enumeration([-1, 2, 2, 2]))


# -- Holm ------------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    """4 · 0.005, 3 · 0.01, then 2 · 0.03, and 0.04, which may not be below that."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_what_its_definition_says(p: list[float]) -> None:
    """A hypothesis is rejected at a level if all with smaller p are, each at level / left."""
    for value, corrected in zip(p, holm(p), strict=True):
        steps = [min(1, q * sum(other >= q for other in p)) for q in p if q <= value]
        assert corrected == pytest.approx(max(steps))


# -- several methods -------------------------------------------------------------------------------


def test_compare_pairs_what_both_have() -> None:
    up = {i: 0.5 + i / 100 for i in range(1, 8)}
    flat = dict.fromkeys(range(20), 0.5)
    found = compare({"best": up, "flat": flat}, "best")["flat"]
    assert (found.pairs, found.comparisons, found.needed) == (7, 1, 6)
    assert found.p == found.corrected == pytest.approx(2 / 2**7)


def test_what_is_significant_is_so_after_the_correction() -> None:
    """Rank sum 5 of nine: p = 0.039, and twice that among two."""
    best = dict.fromkeys(range(9), 0.5)
    other = {i: 0.5 + (i if i == 5 else -i) / 100 for i in range(1, 10)}
    methods = {"best": {i: best[i - 1] for i in range(1, 10)}, "a": other}
    assert compare(methods, "best")["a"].different is True
    found = compare({**methods, "b": other}, "best")["a"]
    assert found.p == pytest.approx(0.0391, abs=1e-4)
    assert found.corrected == pytest.approx(2 * found.p)
    assert found.different is False


@pytest.mark.parametrize(("others", "needed"), [(1, 6), (2, 7), (3, 7), (4, 8), (16, 10)])
def test_too_few_pairs_are_not_tested(others: int, needed: int) -> None:
    """With the fewest pairs the smallest p, Holm-corrected, is below 0.05; with one less it is not.

    That smallest p is 2 / 2ⁿ, times the number of comparisons.
    """
    assert others * 2 / 2**needed < 0.05 <= others * 2 / 2 ** (needed - 1)

    def all_up(pairs: int) -> bool | None:
        low = dict.fromkeys(range(pairs), 0.1)
        methods = {"best": {i: 0.5 + i / 100 for i in range(pairs)}}
        methods |= {f"m{i}": low for i in range(others)}
        return compare(methods, "best")["m0"].different

    assert all_up(needed) is True
    assert all_up(needed - 1) is None


# -- McNemar ---------------------------------------------------------------------------------------


def test_mcnemar_by_hand() -> None:
    """One image against seven: 2 · (C(8,0) + C(8,1)) / 2⁸."""
    first = run(right=[True] * 3 + [True] + [False] * 7 + [False] * 2)
    second = run(right=[True] * 3 + [False] + [True] * 7 + [False] * 2)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (1, 7)
    assert found.p == pytest.approx(2 * (comb(8, 0) + comb(8, 1)) / 2**8)
    assert mcnemar(second, first).p == found.p
    assert mcnemar(first, first).p == 1


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=70))
def test_mcnemar_is_scipys_binomial_test(bits: list[tuple[bool, bool]]) -> None:
    one, other = sum(a and not b for a, b in bits), sum(b and not a for a, b in bits)
    found = mcnemar(run(right=[a for a, _ in bits]), run(right=[b for _, b in bits]))
    assert (found.only_first, found.only_second) == (one, other)
    if one + other:
        assert found.p == pytest.approx(stats.binomtest(one, one + other).pvalue)


def test_mcnemar_needs_one_draw() -> None:
    with pytest.raises(ValueError, match="not the same draw"):
        mcnemar(run(right=[True] * 8), run(right=[True] * 9))
