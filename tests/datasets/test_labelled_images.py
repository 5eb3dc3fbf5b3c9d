"""Labelled images: what they promise, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handful.datasets.images import ImageSource, LabelledImages
from handful.errors import InputError

NAMES = ("cat", "dog")


def some(*labels: int, names: tuple[str, ...] = NAMES, prefix: str = "") -> LabelledImages:
    paths = tuple(Path(f"{prefix}{i}.jpg") for i in range(len(labels)))
    return LabelledImages(paths, np.array(labels, dtype=np.int64), names)


def test_take_keeps_labels_and_groups_with_their_paths() -> None:
    paths = tuple(Path(f"{i}.jpg") for i in range(3))
    images = LabelledImages(paths, np.array([0, 1, 1]), NAMES, ("a", "b", "c"))
    taken = images.take([2, 0])
    assert len(taken) == 2
    assert taken.paths == (Path("2.jpg"), Path("0.jpg"))
    assert taken.labels.tolist() == [1, 0]
    assert taken.groups == ("c", "a")
    assert taken.class_names == NAMES


def test_counts_include_classes_without_images() -> None:
    assert some(1, 1).counts().tolist() == [0, 2]
    assert some().counts().tolist() == [0, 0]


def test_labels_cannot_be_changed_and_are_a_copy() -> None:
    given = np.array([0, 1])
    images = LabelledImages((Path("a"), Path("b")), given, NAMES)
    with pytest.raises(ValueError, match="read-only"):
        images.labels[0] = 1
    given[0] = 1
    assert images.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "names", "says"),
    [
        ([0], NAMES, "2 images but labels of shape"),
        ([0, 2], NAMES, "label 2 has no class name"),
        ([0, -1], NAMES, "label -1 has no class name"),
        ([0.0, 1.0], NAMES, "float64"),
        ([0, 1], ("cat", "cat"), "'cat' stands for two labels"),
        ([0, 1], ("cat", " "), "a class name is empty"),
    ],
)
def test_refused(labels: list[float], names: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        LabelledImages((Path("a"), Path("b")), np.array(labels), names)  # type: ignore[arg-type]


def test_one_group_per_image() -> None:
    with pytest.raises(InputError, match="1 groups"):
        LabelledImages((Path("a"), Path("b")), np.array([0, 1]), NAMES, ("g",))


def test_source_refuses_what_cannot_be_learned() -> None:
    with pytest.raises(InputError, match="mine has only one class, 'cat'"):
        ImageSource(some(0, names=("cat",)), None, None, "mine")
    with pytest.raises(InputError, match="mine has no training images of 'dog'"):
        ImageSource(some(0, 0), None, None, "mine")
    with pytest.raises(InputError, match="mine has no training images"):
        ImageSource(some(), None, None, "mine")


def test_source_refuses_splits_that_do_not_fit_together() -> None:
    with pytest.raises(InputError, match="test images have other classes"):
        ImageSource(some(0, 1), None, some(0, names=("dog", "cat"), prefix="t"), "mine")
    with pytest.raises(InputError, match=r"0\.jpg is both a train and a test image"):
        ImageSource(some(0, 1), None, some(0), "mine")


def test_a_class_name_that_is_no_text_is_refused() -> None:
    """Folder names are bytes; what is not UTF-8 in them comes as a lone surrogate."""
    with pytest.raises(InputError, match=r"'caf\\udce9' is not readable text"):
        LabelledImages((Path("1.jpg"),), np.array([0]), ("caf\udce9",))
