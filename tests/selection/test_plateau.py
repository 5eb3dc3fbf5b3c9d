"""Which of several equally good settings is taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.selection.plateau import middle_of_plateau

DECADES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
BLENDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(
    ("values", "scores", "default", "taken"),
    [
        (DECADES, [1, 2, 9, 2, 1, 1], None, 2),  # one best
        (DECADES, [1, 9, 9, 9, 1, 1], None, 2),  # the middle of three
        (DECADES, [9, 1, 9, 9, 9, 1], 1e-3, 3),  # the longest, however near the default is
        (DECADES, [9, 9, 9, 9, 9, 9], 1.0, 3),  # two are next to the middle: the default's side
        (DECADES, [9, 9, 9, 9, 9, 9], 0.1, 2),
        (DECADES, [9, 9, 1, 1, 1, 1], 100.0, 1),
        (BLENDS, [9, 9, 9, 1, 1, 1], 0.8, 1),
        (BLENDS, [9, 9, 9, 9, 9, 9], 0.2, 2),
        (BLENDS, [9, 9, 9, 9, 9, 9], 0.9, 3),
        (BLENDS, [1, 1, 1, 1, 1, 9], 0.2, 5),
        ((5.0,), [3], None, 0),
    ],
)
def test_middle_of_the_longest_plateau(
    values: tuple[float, ...], scores: list[int], default: float | None, taken: int
) -> None:
    assert middle_of_plateau(values, scores, default) == taken


def test_positive_values_are_measured_on_the_log_axis() -> None:
    """Of 1, 2, 4, 50, 100 the middle on the log axis is 10: next to it, by ratio, is 4; on the
    axis itself it would be 50."""
    values = (1.0, 2.0, 4.0, 50.0, 100.0)
    assert middle_of_plateau(values, [1] * 5) == 2
    # Three decades beat two, although ninety units beat one.
    assert middle_of_plateau((1e-3, 1e-2, 0.1, 1.0, 3.0, 10, 100), [9, 9, 9, 9, 1, 9, 9]) in (1, 2)


def test_values_from_zero_are_measured_as_they_are() -> None:
    """0 to 0.5 is shorter than 0.6 to 1.2, whatever the number of grid points."""
    values = (0.0, 0.1, 0.2, 0.5, 0.55, 0.6, 0.9, 1.2)
    assert middle_of_plateau(values, [9, 9, 9, 9, 1, 9, 9, 9]) == 6


@pytest.mark.parametrize(
    ("values", "scores", "default", "taken"),
    [
        (BLENDS, [9, 1, 1, 1, 9, 1], 0.8, 4),
        (BLENDS, [9, 1, 1, 1, 9, 1], 0.2, 0),
        (BLENDS, [9, 9, 1, 1, 9, 9], 0.9, 4),
        (BLENDS, [9, 9, 1, 1, 9, 9], 0.15, 1),
        # 0.6 − 0.4 is 0.19999999999999996: equally long all the same.
        (BLENDS, [9, 9, 1, 9, 9, 1], 0.8, 4),
        (BLENDS, [1, 9, 9, 1, 9, 9], 0.2, 1),
        (DECADES, [9, 1, 1, 1, 1, 9], 10.0, 5),
    ],
)
def test_of_equally_long_plateaus_the_one_nearest_the_default(
    values: tuple[float, ...], scores: list[int], default: float, taken: int
) -> None:
    """Ties go to the centre of the longest plateau, then to the value nearest the default."""
    assert middle_of_plateau(values, scores, default) == taken


@settings(deadline=None)
@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=12, unique=True).map(sorted),
    st.data(),
    st.booleans(),
)
def test_against_a_plain_reading_of_the_rule(
    exponents: list[int], data: st.DataObject, use_default: bool
) -> None:
    """Grid points at whole tenths of a decade, so that lengths are exact numbers."""
    scores = data.draw(
        st.lists(st.integers(0, 1), min_size=len(exponents), max_size=len(exponents))
    )
    default = data.draw(st.integers(-40, 40)) if use_default else None
    runs: list[list[int]] = []
    for i, score in enumerate(scores):
        if score == max(scores):
            if i and scores[i - 1] == score:
                runs[-1].append(i)
            else:
                runs.append([i])
    longest = max(exponents[run[-1]] - exponents[run[0]] for run in runs)
    allowed = set()
    for run in runs:
        if exponents[run[-1]] - exponents[run[0]] == longest:
            twice_middle = exponents[run[0]] + exponents[run[-1]]
            nearest = min(abs(2 * exponents[i] - twice_middle) for i in run)
            allowed |= {i for i in run if abs(2 * exponents[i] - twice_middle) == nearest}
    if default is not None:
        near = min(abs(exponents[i] - default) for i in allowed)
        allowed = {i for i in allowed if abs(exponents[i] - default) == near}
    taken = middle_of_plateau(
        [10 ** (e / 10) for e in exponents],
        scores,
        None if default is None else 10 ** (default / 10),
    )
    assert taken in allowed


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_a_best_value_is_taken(scores: list[int]) -> None:
    values = np.geomspace(0.1, 10, len(scores)).tolist()
    assert scores[middle_of_plateau(values, scores)] == max(scores)
