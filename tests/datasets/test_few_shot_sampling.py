"""The few-shot sampler against the subsets that CoOp published, and its promises."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful.datasets.catalogue import catalogue, inventory
from handful.datasets.images import LabelledImages
from handful.datasets.sampling import few_shot
from handful.errors import InputError

PUBLISHED = ("dtd", "eurosat")
OTHERS = ("caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "ucf101")
DATA = "data"  # what the published paths put before the folder of the data set


@pytest.fixture(scope="module")
def splits_of(
    shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, LabelledImages]]:
    """The official split of a data set, as the catalogue reads it, without its images."""
    root = tmp_path_factory.mktemp("splits") / DATA

    @cache
    def splits(name: str) -> dict[str, LabelledImages]:
        entry = catalogue()[name]
        home = root / entry.folder
        (home / entry.images).mkdir(parents=True)
        shutil.copy(shared / "data" / "coop-splits" / entry.file, home)
        return inventory(entry, root).splits

    return splits


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_subsets(
    shared: Path,
    splits_of: Callable[[str], dict[str, LabelledImages]],
    name: str,
    shots: int,
    seed: int,
) -> None:
    folder = shared / "data" / "coop-splits" / "fewshot" / name
    expected = json.loads((folder / f"shot_{shots}-seed_{seed}.json").read_text())
    splits = splits_of(name)
    drawn = few_shot(splits["train"].labels, shots, seed, splits["val"].labels)
    assert drawn.validation is not None
    for word, indices in (("train", drawn.support), ("val", drawn.validation)):
        part = expected[word]
        assert indices.tolist() == part["indices"]  # in order, too
        chosen = splits[word].take(indices)
        assert [path.as_posix().rpartition(f"/{DATA}/")[2] for path in chosen.paths] == [
            Path(item["impath"]).relative_to(DATA).as_posix() for item in part["data"]
        ]
        assert chosen.labels.tolist() == [item["label"] for item in part["data"]]


@pytest.mark.parametrize("name", OTHERS)
def test_subsets_of_the_other_splits(
    splits_of: Callable[[str], dict[str, LabelledImages]], name: str
) -> None:
    """By the same code; no lists of them are at hand: this is what any list must be."""
    splits = splits_of(name)
    classes = len(splits["train"].class_names)
    lists = set()
    for shots in (1, 2, 4, 8, 16):
        for seed in (1, 2, 3):
            drawn = few_shot(
                splits["train"].labels, shots, seed, splits["val"].labels, on_few="keep"
            )
            assert drawn.validation is not None
            support = splits["train"].take(drawn.support)
            assert support.counts().tolist() == [
                min(shots, there) for there in splits["train"].counts().tolist()
            ]
            assert splits["val"].take(drawn.validation).counts().tolist() == [
                min(shots, 4, there) for there in splits["val"].counts().tolist()
            ]
            assert len(set(support.paths)) == len(support) <= shots * classes
            lists.add(support.paths)
    assert len(lists) == 15


labels_of_classes = st.lists(st.integers(0, 5), min_size=1, max_size=60)


@given(labels_of_classes, labels_of_classes, st.integers(1, 8), st.integers(0, 2**32))
def test_each_class_gets_its_shots_or_all_it_has(
    labels: list[int], others: list[int], shots: int, seed: int
) -> None:
    drawn = few_shot(labels, shots, seed, others, on_few="keep")
    assert drawn.validation is not None
    for given_labels, indices, most in (
        (labels, drawn.support, shots),
        (others, drawn.validation, min(shots, 4)),
    ):
        assert indices.dtype == np.int64
        assert len(set(indices.tolist())) == len(indices)
        wanted = {label: min(most, count) for label, count in Counter(given_labels).items()}
        assert Counter(given_labels[i] for i in indices) == wanted
        # class by class, in the order of first appearance
        assert list(dict.fromkeys(given_labels[i] for i in indices)) == list(
            dict.fromkeys(given_labels)
        )


@given(labels_of_classes, st.integers(1, 4), st.integers(0, 1000), st.integers(0, 1000))
def test_global_random_state_is_neither_read_nor_changed(
    labels: list[int], shots: int, seed: int, elsewhere: int
) -> None:
    random.seed(elsewhere)
    before = random.getstate()
    first = few_shot(labels, shots, seed, on_few="keep").support
    assert random.getstate() == before
    random.seed(elsewhere + 1)
    assert np.array_equal(first, few_shot(labels, shots, seed, on_few="keep").support)


def test_small_classes_are_kept_whole_and_draw_nothing() -> None:
    """As the reference does: ``items if len(items) < shots else random.sample(items, shots)``."""
    labels = [2, 0, 1, 2, 0, 1, 0, 1, 1, 0]
    drawn = few_shot(labels, 4, 3, on_few="keep").support.tolist()
    generator = random.Random(3)
    zero = generator.sample([1, 4, 6, 9], 4)
    one = generator.sample([2, 5, 7, 8], 4)
    assert drawn == [0, 3, *zero, *one]


def test_too_few_images_are_refused_by_name() -> None:
    labels = [0] * 8 + [1] * 3 + [2] * 2
    with pytest.raises(InputError) as error:
        few_shot(labels, 4, 1, class_names=("dam", "hammer", "scissors"))
    assert str(error.value) == (
        "4 shots were asked for, but 'hammer' has 3, 'scissors' has 2:"
        " ask for at most 2, or --shots all to use every image."
    )
    with pytest.raises(InputError, match="'1' has 3"):
        few_shot(labels, 4, 1)
    assert len(few_shot(labels, 2, 1).support) == 6


def test_few_validation_images_are_never_refused() -> None:
    drawn = few_shot([0, 0, 1, 1], 2, 1, [0, 1, 1, 1])
    assert drawn.validation is not None
    assert len(drawn.validation) == 3
    assert few_shot([0, 0, 1, 1], 2, 1).validation is None


@given(labels_of_classes, st.integers(1, 8), st.integers(0, 2**32))
def test_validation_from_the_rest_leaves_the_support_as_it_is(
    labels: list[int], shots: int, seed: int
) -> None:
    drawn = few_shot(labels, shots, seed, on_few="keep", validation_from_rest=True)
    assert drawn.support.tolist() == few_shot(labels, shots, seed, on_few="keep").support.tolist()
    left = {c: min(shots, 4, max(n - shots, 0)) for c, n in Counter(labels).items()}
    validation = [] if drawn.validation is None else drawn.validation.tolist()
    assert Counter(labels[i] for i in validation) == Counter(left)
    assert not {*validation} & {*drawn.support.tolist()}
    assert (drawn.validation is None) == (sum(left.values()) == 0)


def test_validation_images_of_their_own_are_preferred() -> None:
    both = [
        few_shot([0, 1] * 9, 3, 1, [0, 1] * 5, validation_from_rest=rest).validation
        for rest in (False, True)
    ]
    assert both[0] is not None and both[1] is not None
    assert both[0].tolist() == both[1].tolist()


@pytest.mark.parametrize(("shots", "seed"), [(0, 1), (-1, 1), (1, -1)])
def test_impossible_numbers(shots: int, seed: int) -> None:
    with pytest.raises(InputError, match="expected"):
        few_shot([0, 1], shots, seed)
