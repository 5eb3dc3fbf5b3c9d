"""Which columns a shifted test set answers: by name, by WordNet id, by number."""

from __future__ import annotations

import numpy as np
import pytest

from handful.benchmark.same_classes import columns_of
from handful.datasets.imagenet import class_mask, imagenet_classes
from handful.errors import InputError


def test_classes_are_matched_by_name_whatever_their_order() -> None:
    found = columns_of(("dog", "ant"), ("ant", "bee", "cat", "dog"), "few", "all")
    assert found.tolist() == [3, 0]
    assert found.dtype == np.int64


@pytest.mark.parametrize("seed", [0, 1])
def test_200_classes_of_imagenet_by_name_and_by_id(seed: int) -> None:
    """As ImageNet-A and -R: 200 sorted WordNet ids are 200 rising columns."""
    classes = imagenet_classes()
    ids = sorted(np.random.default_rng(seed).choice(list(classes), 200, replace=False).tolist())
    positions = [list(classes).index(one) for one in ids]
    names = [classes[one] for one in ids]
    learnt = tuple(classes.values())
    assert columns_of(names, learnt, "A", "ImageNet").tolist() == positions
    assert columns_of(ids, learnt, "A", "ImageNet").tolist() == positions
    assert class_mask(names).tolist() == positions
    assert positions == sorted(positions)


def test_numbered_folders_are_class_indices_though_read_as_text() -> None:
    """ImageNetV2's folders, as a reader that sorts texts gives them: 0, 1, 10, 100, 101, …"""
    as_text = sorted(str(number) for number in range(1000))
    assert as_text[:4] == ["0", "1", "10", "100"]
    found = columns_of(as_text, tuple(imagenet_classes().values()), "V2", "ImageNet")
    assert found[:4].tolist() == [0, 1, 10, 100]
    assert sorted(found.tolist()) == list(range(1000))


@pytest.mark.parametrize(
    ("classes", "learnt", "told"),
    [
        (("ant", "cow"), ("ant", "bee"), r"few has the class 'cow', which all has not \(1 of 2\)"),
        (("ant", "ant"), ("ant", "bee"), "few has two classes called 'ant'"),
        (("ant", "bee"), ("ant", "bee", "bee"), "all has two classes called 'bee'"),
        (("0", "2"), ("ant", "bee"), "few has the class '0'"),
        (("n01440764",), ("ant", "bee"), "few has the class 'tench'"),
    ],
)
def test_what_cannot_be_matched(
    classes: tuple[str, ...], learnt: tuple[str, ...], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        columns_of(classes, learnt, "few", "all")
