"""Random views: deterministic, different from each other, inside the image."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful.encoders.views import CENTRE, View, random_views
from handful.errors import InputError

sides = st.integers(1, 3000)


@given(sides, sides, st.integers(0, 20), st.integers(0, 5), st.text(max_size=8))
def test_crops_lie_inside_the_image(
    width: int, height: int, index: int, seed: int, key: str
) -> None:
    view = View(index, seed)
    (left, top, right, bottom), mirror = view.crop(width, height, key)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert mirror in (False, True)
    assert view.crop(width, height, key) == view.crop(width, height, key)


@given(st.integers(200, 2000), st.floats(0.75, 1.33), st.integers(0, 50))
def test_area_and_ratio_are_within_their_ranges(side: int, shape: float, index: int) -> None:
    width, height = side, round(side * shape)
    for scale in ((0.08, 1.0), (0.5, 1.0), (0.3, 0.3)):
        (left, top, right, bottom), _ = View(index, scale=scale).crop(width, height, "k")
        w, h = right - left, bottom - top
        # Sides are rounded to whole pixels, and the smallest is √(0.08 · 200 · 150 · 0.75) = 42.
        assert scale[0] * 0.97 <= w * h / (width * height) <= scale[1] * 1.03
        assert 0.75 * 0.97 <= w / h <= 4 / 3 * 1.03


def test_where_no_crop_fits_the_middle_is_taken() -> None:
    # Half of a 10 × 1000 strip needs a ratio far below 3/4; the largest allowed is 10 × 13.
    assert View(0).crop(10, 1000, "k")[0] == (0, 493, 10, 506)
    assert View(0).crop(1000, 10, "k")[0] == (493, 0, 506, 10)


def test_crops_cover_their_range_and_half_are_mirrored() -> None:
    draws = [View(0, scale=(0.08, 1.0)).crop(400, 400, str(key)) for key in range(2000)]
    areas = [(r - x) * (b - y) / 160_000 for (x, y, r, b), _ in draws]
    assert min(areas) < 0.1
    assert max(areas) > 0.9
    lefts = [x / (400 - (r - x)) for (x, _, r, _), _ in draws if r - x < 400]
    assert abs(sum(lefts) / len(lefts) - 0.5) < 0.05  # uniform; standard error below 0.01
    mirrored = sum(mirror for _, mirror in draws) / len(draws)
    assert abs(mirrored - 0.5) < 0.05  # 4.5 standard deviations


def test_crops_reach_both_edges() -> None:
    draws = [View(0, scale=(0.5, 0.6)).crop(4, 4, str(key))[0] for key in range(200)]
    assert {left for left, _, right, _ in draws if right - left == 3} == {0, 1}
    assert {top for _, top, _, bottom in draws if bottom - top == 3} == {0, 1}


def test_index_seed_key_and_scale_all_change_the_crop() -> None:
    crops = {
        View(0).crop(500, 400, "a"),
        View(1).crop(500, 400, "a"),
        View(0, seed=1).crop(500, 400, "a"),
        View(0).crop(500, 400, "b"),
        View(0, scale=(0.4, 1.0)).crop(500, 400, "a"),
    }
    assert len(crops) == 5


def test_every_process_draws_the_same() -> None:
    code = "from handful.encoders.views import *; print(View(3, 7).crop(640, 480, 'abc'))"
    expected = str(View(3, 7).crop(640, 480, "abc"))
    for hash_seed in ("1", "2"):
        answer = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.strip() == expected


def test_identity() -> None:
    assert CENTRE.identity == "centre"
    views = [*random_views(3), *random_views(2, seed=1), *random_views(2, scale=(0.08, 1)), CENTRE]
    assert len({view.identity for view in views}) == 8


def test_random_views() -> None:
    assert random_views(0) == ()
    assert random_views(2, 5, (0.08, 1.0)) == (View(0, 5, (0.08, 1.0)), View(1, 5, (0.08, 1.0)))
    # More views add to the first ones, so that features encoded before are used again.
    assert random_views(10)[:4] == random_views(4)
    with pytest.raises(InputError, match="number of views is -1"):
        random_views(-1)
    for scale in ((0.0, 1.0), (0.6, 0.5), (0.5, 1.1)):
        with pytest.raises(InputError, match="scale of the random crops"):
            random_views(1, scale=scale)
