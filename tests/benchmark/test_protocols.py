"""Who draws what: CoOp's published lists, the anchors of WHU-RS19, and what a draw never does."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful.benchmark.one_run import Run, run_once, task_of
from handful.benchmark.protocols import PROTOCOLS, draw
from handful.benchmark.source import Source
from handful.benchmark.sources import features_source
from handful.datasets.sampling import few_shot
from handful.errors import InputError
from handful.features.contents import Features

BACKBONES = ("rn50", "vit-b-32", "vit-l-14")
SHOTS = (1, 2, 4, 8, 16)
SEEDS = (1, 2, 3)


def source_of(labels: np.ndarray, split: np.ndarray | None = None, names: int = 0) -> Source:
    """A source whose features nobody looks at."""
    classes = tuple(f"class {c}" for c in range(max(names, int(labels.max()) + 1)))
    features = Features(np.ones((len(labels), 2), np.float32), labels, split=split)
    return Source("a source", (), features, labels, classes, "")


@pytest.fixture(scope="module")
def whu(shared: Path) -> Callable[[str], Source]:
    return cache(
        lambda b: features_source(shared / "data/whu-rs19/features" / f"clip-{b}.safetensors")
    )


# -- coop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shots", SHOTS)
@pytest.mark.parametrize(("name", "file"), [("dtd", "DescribableTextures"), ("eurosat", "EuroSAT")])
def test_coop_draws_the_published_lists(
    shared: Path, name: str, file: str, shots: int, seed: int
) -> None:
    folder = shared / "data" / "coop-splits"
    lists = _split_file(folder / f"split_zhou_{file}.json")
    published = json.loads((folder / f"fewshot/{name}/shot_{shots}-seed_{seed}.json").read_text())
    # The three lists mixed in one file, each in its order.
    split = np.repeat([0, 1, 2], [len(one) for one in lists])
    split = np.random.default_rng(0).permutation(split)
    rows = [np.flatnonzero(split == part) for part in range(3)]
    labels = np.empty_like(split)
    for place, one in zip(rows, lists, strict=True):
        labels[place] = one
    drawn = draw("coop", source_of(labels, split), shots, seed)
    assert drawn.support.tolist() == rows[0][published["train"]["indices"]].tolist()
    assert drawn.validation is not None
    assert drawn.validation.tolist() == rows[1][published["val"]["indices"]].tolist()
    assert drawn.test.tolist() == rows[2].tolist()
    assert labels[drawn.support].tolist() == [one["label"] for one in published["train"]["data"]]


@cache
def _split_file(path: Path) -> list[np.ndarray]:
    split = json.loads(path.read_bytes())
    return [np.array([label for _, label, _ in split[part]]) for part in ("train", "val", "test")]


@pytest.mark.parametrize("split", [None, np.zeros(30, np.int64)])
def test_coop_without_a_test_split_tests_on_all_others(split: np.ndarray | None) -> None:
    """A folder of class folders has no split, and its features file is all split 0."""
    drawn = draw("coop", source_of(np.repeat([0, 1, 2], 10), split), 4, 1)
    assert drawn.validation is None
    assert len(drawn.support) == 12
    assert sorted([*drawn.support, *drawn.test]) == list(range(30))


def test_coop_without_a_test_split_leaves_validation_images_alone() -> None:
    labels, split = np.tile([0, 1], 12), np.repeat([0, 1], 12)
    drawn = draw("coop", source_of(labels, split), 2, 1)
    assert drawn.validation is not None
    assert set(drawn.validation) <= set(range(12, 24))
    assert sorted([*drawn.support, *drawn.test]) == list(range(12))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shots", SHOTS)
def test_coop_without_validation_images_takes_training_images_that_are_left(
    shots: int, seed: int
) -> None:
    """ImageNet, whose validation images are its test: rules 2 and 3 of an honest protocol.

    Written once more from the rule: class by class as they first appear, K of each, and with the
    same generator min(K, 4) of each among those that are left, in their order.
    """
    mixed = np.random.default_rng(7)
    labels = mixed.permutation(np.repeat([0, 1, 2], 30))
    split = mixed.permutation(np.repeat([0, 2], [75, 15]))
    pool = [row for row in range(90) if split[row] == 0]
    by_class = {c: [row for row in pool if labels[row] == c] for c in labels[pool].tolist()}
    generator = random.Random(seed)
    support = {c: generator.sample(rows, shots) for c, rows in by_class.items()}
    left = {c: [row for row in rows if row not in support[c]] for c, rows in by_class.items()}
    validation = {c: generator.sample(rows, min(shots, 4)) for c, rows in left.items()}

    drawn = draw("coop", source_of(labels, split), shots, seed)
    assert drawn.support.tolist() == [row for rows in support.values() for row in rows]
    assert drawn.validation is not None
    assert drawn.validation.tolist() == [row for rows in validation.values() for row in rows]
    assert drawn.test.tolist() == np.flatnonzero(split == 2).tolist()


def test_coop_takes_what_is_left_of_small_classes() -> None:
    counts = {0: 9, 1: 6, 2: 4}  # training images; 4 are for learning
    labels = np.repeat([*counts, *counts], [*counts.values(), 2, 2, 2])
    split = np.repeat([0, 2], [19, 6])
    drawn = draw("coop", source_of(labels, split), 4, 1)
    assert drawn.validation is not None
    assert Counter(labels[drawn.validation].tolist()) == {0: 4, 1: 2}
    # And where nothing is left of any class, there are none.
    labels, split = np.tile([0, 1], 5), np.repeat([0, 2], [8, 2])
    assert draw("coop", source_of(labels, split), 4, 1).validation is None


@pytest.mark.parametrize("seed", SEEDS)
def test_other_sources_draw_as_if_there_were_no_such_rule(seed: int) -> None:
    """With validation images of its own, or without a test split: by the sampler alone."""
    labels = np.tile([0, 1, 2], 30)
    with_own = np.repeat([0, 1, 2], 30)
    drawn = draw("coop", source_of(labels, with_own), 4, seed)
    alone = few_shot(labels[:30], 4, seed, labels[30:60])
    assert alone.validation is not None and drawn.validation is not None
    assert drawn.support.tolist() == alone.support.tolist()
    assert drawn.validation.tolist() == (30 + alone.validation).tolist()
    without = draw("coop", source_of(labels), 4, seed)
    assert without.support.tolist() == few_shot(labels, 4, seed).support.tolist()
    assert without.validation is None
    assert len(without.test) == 90 - 12


def test_coop_refuses_what_it_cannot_draw() -> None:
    source = source_of(np.array([0] * 8 + [1] * 3 + [2] * 5))
    with pytest.raises(InputError) as error:
        draw("coop", source, 4, 1)
    assert str(error.value) == (
        "a source has 3 images of 'class 1' to learn from: the protocol coop cannot draw 4 shots."
    )
    with pytest.raises(InputError, match="has no image left for the test at 2 shots"):
        draw("coop", source_of(np.array([0, 0, 1, 1])), 2, 1)
    # Nothing to learn from at all.
    with pytest.raises(InputError, match="has 0 images of 'class 0'"):
        draw("coop", source_of(np.array([0, 1]), np.array([2, 2])), 1, 1)


def test_a_class_that_only_the_text_knows_is_drawn_nothing_of() -> None:
    labels, split = np.array([0, 0, 1, 1, 2]), np.array([0, 2, 0, 2, 2])
    drawn = draw("coop", source_of(labels, split), 1, 1)
    assert drawn.support.tolist() == [0, 2]
    assert drawn.test.tolist() == [1, 3, 4]


# -- whu -------------------------------------------------------------------------------------------


def anchors_draw(y: np.ndarray, k: int, s: int) -> tuple[list[int], list[int], list[int]]:
    """The protocol as reference/anchors.md of the shared data states it."""
    rng = np.random.RandomState(s)
    support, validation, taken = [], [], set()
    for c in range(19):
        p = rng.permutation(np.where(y == c)[0])
        support += p[:16][:k].tolist()
        validation += p[16 : 16 + min(k, 4)].tolist()
        taken |= set(p[:20].tolist())
    return support, validation, [row for row in range(len(y)) if row not in taken]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_whu_draws_the_subsets_of_the_anchors(whu: Callable[[str], Source], backbone: str) -> None:
    source = whu(backbone)
    for shots in SHOTS:
        for seed in SEEDS:
            drawn = draw("whu", source, shots, seed)
            support, validation, test = anchors_draw(source.labels, shots, seed)
            assert drawn.validation is not None
            assert drawn.support.tolist() == support
            assert drawn.validation.tolist() == validation
            assert drawn.test.tolist() == test
            assert len(test) == 625


# anchors.md, mean of seeds 1, 2, 3, in per cent; zero-shot is the same for every number of shots.
ZERO_SHOT = {"rn50": 70.7, "vit-b-32": 80.9, "vit-l-14": 85.0}
NEAREST_MEAN = {
    "rn50": (72.6, 83.1, 86.3, 88.3, 91.3),
    "vit-b-32": (79.7, 89.6, 92.3, 93.9, 95.1),
    "vit-l-14": (90.1, 96.0, 96.5, 97.3, 97.5),
}


@pytest.mark.parametrize("shots", SHOTS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_zero_shot_reaches_the_anchors(
    whu: Callable[[str], Source], backbone: str, shots: int
) -> None:
    source = whu(backbone)
    found = []
    for seed in SEEDS:
        drawn = draw("whu", source, shots, seed)
        run = Run(source.digest, "whu", "val", shots, seed, "zero-shot")
        found.append(run_once(run, source, drawn, task_of(source, drawn, "val"))["accuracy"])
    assert 100 * np.mean(found) == pytest.approx(ZERO_SHOT[backbone], abs=0.1)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_nearest_class_mean_on_the_drawn_rows_reaches_the_anchors(
    whu: Callable[[str], Source], backbone: str
) -> None:
    """Computed here, from the draws alone: it is the draws that are examined."""
    source = whu(backbone)
    x = source.features.image_features
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    for shots, expected in zip(SHOTS, NEAREST_MEAN[backbone], strict=True):
        found = []
        for seed in SEEDS:
            drawn = draw("whu", source, shots, seed)
            support, y = x[drawn.support], source.labels[drawn.support]
            means = np.stack([support[y == c].mean(axis=0) for c in range(19)])
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            right = (x[drawn.test] @ means.T).argmax(axis=1) == source.labels[drawn.test]
            found.append(100 * right.mean())
        assert np.mean(found) == pytest.approx(expected, abs=0.1), shots


def test_whu_refuses_what_it_cannot_draw() -> None:
    source = source_of(np.repeat([0, 1], [21, 20]))
    with pytest.raises(InputError, match="16 shots at most, not 17"):
        draw("whu", source, 17, 1)
    with pytest.raises(InputError, match=r"more than 20 images per class, but 'class 1' of"):
        draw("whu", source, 1, 1)
    draw("whu", source_of(np.repeat([0, 1], 21)), 16, 1)


# -- both ------------------------------------------------------------------------------------------


def test_unknown_protocol() -> None:
    with pytest.raises(InputError, match=r"no protocol 'cop'\. Did you mean 'coop'\?"):
        draw("cop", source_of(np.array([0, 1])), 1, 1)


@st.composite
def sources(draw_: st.DrawFn) -> Source:
    counts = draw_(st.lists(st.integers(21, 30), min_size=2, max_size=4))
    labels = np.repeat(np.arange(len(counts)), counts)
    generator = np.random.default_rng(draw_(st.integers(0, 2**32)))
    labels = generator.permutation(labels)
    splits = draw_(st.sampled_from([(0,), (0, 1), (0, 1, 2), (0, 2)]))
    # Every class has rows of every split, in this order.
    split = np.array([splits[np.flatnonzero(labels == c).tolist().index(i) % len(splits)]
                      for i, c in enumerate(labels)])  # fmt: skip
    return source_of(labels, split)


@given(
    st.sampled_from(list(PROTOCOLS)), sources(), st.sampled_from([1, 2, 5]), st.integers(0, 1000)
)
def test_no_row_is_drawn_for_two_purposes(
    protocol: str, source: Source, shots: int, seed: int
) -> None:
    drawn = draw(protocol, source, shots, seed)
    validation = np.array([], np.int64) if drawn.validation is None else drawn.validation
    every = [*drawn.support, *validation, *drawn.test]
    assert len(set(every)) == len(every)
    assert set(every) <= set(range(len(source.labels)))
    assert set(Counter(source.labels[drawn.support].tolist()).values()) == {shots}
    if len(validation):
        assert set(Counter(source.labels[validation].tolist()).values()) == {min(shots, 4)}
    assert set(source.labels[drawn.test]) == set(source.labels)
    again = draw(protocol, source, shots, seed)
    assert again.support.tolist() == drawn.support.tolist()
    assert again.test.tolist() == drawn.test.tolist()
