"""Drawn scenes: the same pictures each time, true captions, nothing held out is trained on."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from captions import NUMBERS, UNNAMED, VALUES, caption, codes, describes
from draw import GROUNDS, INKS, STYLES, draw, draw_class
from shapes import DISTANCES
from train import Recipe, draw_pool
from vocabulary import (
    COLOURS,
    HELD_OUT,
    KINDS,
    SHAPES,
    TASKS,
    TEXTURES,
    TRAINED,
    Scene,
    class_name,
    random_scene,
)

from handful.datasets.folder import read_folder
from handful.datasets.images import ImageSource

DRAW = Path(__file__).resolve().parents[2] / "benchmarks" / "scenes" / "draw.py"


@pytest.mark.parametrize("style", STYLES)
def test_a_picture_is_determined_by_seed_class_and_number(style: str) -> None:
    kind = HELD_OUT[7]
    first = draw_class(kind, 3, 5, style)
    np.testing.assert_array_equal(draw_class(kind, 2, 5, style), first[:2])
    assert first[0].shape == (48, 48, 3)
    assert first[0].dtype == np.uint8
    others = [*first, draw_class(kind, 1, 6, style)[0], draw_class(HELD_OUT[8], 1, 5, style)[0]]
    assert len({picture.tobytes() for picture in others}) == 5


def test_the_styles_differ_in_every_picture() -> None:
    for plain, sketch in zip(*(draw_class(KINDS[0], 5, 0, s) for s in STYLES), strict=True):
        assert np.abs(plain.astype(int) - sketch).mean() > 5


def test_an_object_is_drawn_in_its_colour_inside_its_outline() -> None:
    # A large plain object covers a tenth of the picture at least; its ink is far from the ground.
    for shape, colour in (("square", "red"), ("circle", "yellow"), ("heart", "purple")):
        rng = np.random.default_rng(3)
        pixels = draw(Scene(shape, colour, "plain", "large", "gray", 1), rng).astype(float)
        to_ink = np.linalg.norm(pixels - INKS[colour], axis=2)
        to_ground = np.linalg.norm(pixels - GROUNDS["gray"], axis=2)
        assert 0.08 < (to_ink < to_ground).mean() < 0.35


@pytest.mark.parametrize(
    ("shape", "fold"),
    [("triangle", 3), ("square", 4), ("cross", 4), ("star", 5), ("hexagon", 6), ("heart", 1)],
)
def test_shapes_have_their_symmetries_and_no_others(shape: str, fold: int) -> None:
    y, x = np.mgrid[-1.5:1.5:64j, -1.5:1.5:64j].astype(np.float32)
    inside = DISTANCES[shape](x, y) < 0
    np.testing.assert_array_equal(inside, inside[:, ::-1])  # left and right
    for turns in range(2, 8):
        angle = 2 * np.pi / turns
        turned = DISTANCES[shape](
            np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        )
        differing = ((turned < 0) ^ inside).sum() / inside.sum()
        if fold % turns == 0:
            assert differing < 0.02  # the rim, where float32 decides
        else:
            assert differing > 0.02


def test_held_out_is_a_fifth_and_leaves_every_pair_of_values_to_training() -> None:
    assert set(HELD_OUT) | set(TRAINED) == set(KINDS)
    assert not set(HELD_OUT) & set(TRAINED)
    assert 0.18 < len(HELD_OUT) / len(KINDS) < 0.22
    for first, second in combinations(range(3), 2):
        seen = {(kind[first], kind[second]) for kind in TRAINED}
        values = (SHAPES, COLOURS, TEXTURES)
        assert seen == set(product(values[first], values[second]))


def test_tasks_keep_to_their_side() -> None:
    for task in ("held-out", "fine"):
        assert set(TASKS[task]) <= set(HELD_OUT)
    for task in ("generic", "trained"):
        assert set(TASKS[task]) <= set(TRAINED)
    assert 20 <= len(TASKS["held-out"]) <= 30
    assert len(TASKS["generic"]) >= 40


def test_training_sees_and_reads_nothing_that_is_held_out() -> None:
    scenes, _ = draw_pool(Recipe(pictures=3000))
    assert {scene.kind for scene in scenes} == set(TRAINED)  # 308 kinds, about ten times each
    rng = np.random.default_rng(0)
    for scene in scenes:
        text, named = caption(scene, rng)
        assert describes(named[None], codes(scene)[None]).all()
        if (named[:3] != UNNAMED).all():
            assert tuple(VALUES[i][named[i]] for i in range(3)) not in HELD_OUT
        assert not any(class_name(kind) in text for kind in HELD_OUT)


def test_a_caption_says_what_it_names_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        scene = random_scene(TRAINED[rng.integers(len(TRAINED))], rng)
        text, named = caption(scene, rng)
        phrase, _, ground = text.strip(".").partition(" on a ")
        words = {
            word.removesuffix("s").removesuffix("crosse") or "cross" for word in phrase.split()
        }
        words |= {"cross"} if "cross" in phrase else set()
        said = {
            0: words & set(SHAPES),
            1: words & set(COLOURS),
            2: words & set(TEXTURES),
            3: words & {"small", "large"},
            4: {ground.removesuffix(" background")} - {""},
            5: {NUMBERS.index(word) + 1 for word in words & set(NUMBERS)},
        }
        for i, values in enumerate(VALUES):
            assert said[i] == (set() if named[i] == UNNAMED else {values[named[i]]}), text


def test_describes_compares_what_is_named() -> None:
    rng = np.random.default_rng(2)
    scenes = [random_scene(TRAINED[rng.integers(40)], rng) for _ in range(40)]
    named = np.stack([caption(scene, rng)[1] for scene in scenes])
    are = np.stack([codes(scene) for scene in scenes])
    true = describes(named, are)
    for i, j in product(range(40), range(40)):
        parts = [n in (UNNAMED, a) for n, a in zip(named[i], are[j], strict=True)]
        assert true[i, j] == all(parts)
    assert 0.025 < true.mean() < 0.5  # more than the diagonal, less than all


def test_the_command_writes_folders_that_handful_reads(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    command = [sys.executable, DRAW, out, "--task", "fine", "--images", "2", "--style", "sketch"]
    subprocess.run(command, check=True)
    source = read_folder(out)
    assert isinstance(source, ImageSource)
    assert set(source.train.class_names) == {class_name(kind) for kind in TASKS["fine"]}
    assert len(source.train.labels) == 2 * len(TASKS["fine"])
