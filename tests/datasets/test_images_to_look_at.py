"""Images that are not learnt from: files to predict, and labelled images to evaluate on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handful.datasets.folder import find_images
from handful.datasets.images import ImageSource, LabelledImages
from handful.datasets.source import open_images
from handful.errors import InputError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("b/2.jpg", "b/1.png", "b/deep/3.jpg", "b/notes.txt", "b/.hidden.jpg", "a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


# -- files -----------------------------------------------------------------------------------------


def test_files_and_the_images_of_folders_in_the_order_given(place: Path) -> None:
    inside = [place / "b" / name for name in ("1.png", "2.jpg", "deep/3.jpg")]
    assert find_images([place / "a.jpg", place / "b"]) == [place / "a.jpg", *inside]
    assert find_images([place / "b", place / "a.jpg"]) == [*inside, place / "a.jpg"]
    assert find_images([place / "a.jpg"] * 2) == [place / "a.jpg"] * 2
    assert find_images([]) == []


def test_a_file_that_is_named_is_taken_whatever_it_is_called(place: Path) -> None:
    named = [place / "b" / "notes.txt", place / "b" / ".hidden.jpg"]
    assert find_images(named) == named


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("b.jpg", r"b\.jpg does not exist: expected an image file or a folder of images.*'a.jpg'"),
        ("b/deeep/3.jpg", r"deeep/3\.jpg does not exist"),
        ("empty", r"empty has no images: expected some of \.jpg"),
        ("x" * 300, "does not exist"),
    ],
)
def test_refused(place: Path, name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        find_images([place / "a.jpg", place / name])


# -- labelled images -------------------------------------------------------------------------------


def some(*labels: int, start: int = 0) -> LabelledImages:
    paths = tuple(Path(f"{start + i}.jpg") for i in range(len(labels)))
    return LabelledImages(paths, np.array(labels, dtype=np.int64), ("a", "b"))


def test_the_test_split_where_there_is_one() -> None:
    train, test = some(0, 1), some(1, start=5)
    assert ImageSource(train, None, test, "x").for_test() is test
    assert ImageSource(train, None, None, "x").for_test() is train
    validated = ImageSource(train, some(0, start=9), None, "x")
    assert validated.for_test() is train  # validation images are not taken for test images


def test_what_is_not_learnt_from_may_lack_classes() -> None:
    for train in (some(0), some()):
        source = ImageSource(train, None, some(1, start=5), "x", to_learn=False)
        assert source.for_test().labels.tolist() == [1]
        with pytest.raises(InputError):
            ImageSource(train, None, some(1, start=5), "x")
    one = LabelledImages((Path("1.jpg"),), np.array([0]), ("only",))
    assert ImageSource(one, None, None, "x", to_learn=False).for_test() is one
    with pytest.raises(InputError, match="only one class, 'only'"):
        ImageSource(one, None, None, "x")


def test_splits_are_kept_apart_all_the_same() -> None:
    with pytest.raises(InputError, match=r"0\.jpg is both a train and a test image"):
        ImageSource(some(0), None, some(1), "x", to_learn=False)


def test_every_form_may_be_looked_at(tmp_path: Path) -> None:
    """A folder with one class, and a table of test images only."""
    (tmp_path / "folder" / "cat").mkdir(parents=True)
    (tmp_path / "folder" / "cat" / "1.jpg").touch()
    found = open_images(tmp_path / "folder", to_learn=False).for_test()
    assert (found.class_names, len(found)) == (("cat",), 1)
    table = tmp_path / "table.csv"
    table.write_text("image,label,split\nfolder/cat/1.jpg,cat,test\n")
    found = open_images(table, to_learn=False).for_test()
    assert (found.class_names, len(found)) == (("cat",), 1)
    for form in (tmp_path / "folder", table):
        with pytest.raises(InputError):
            open_images(form)
