"""CoOp split files: the seven official ones, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handful.datasets.coop import read_split
from handful.errors import InputError

# classes, train, val, test: the sizes that the few-shot papers give for these data sets
OFFICIAL = {
    "Caltech101": (100, 4128, 1649, 2465),
    "OxfordPets": (37, 2944, 736, 3669),
    "StanfordCars": (196, 6509, 1635, 8041),
    "OxfordFlowers": (102, 4093, 1633, 2463),
    "DescribableTextures": (47, 2820, 1128, 1692),
    "EuroSAT": (10, 13500, 5400, 8100),
    "UCF101": (101, 7639, 1898, 3783),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_splits(shared: Path, name: str) -> None:
    path = shared / "data" / "coop-splits" / f"split_zhou_{name}.json"
    source = read_split(path, Path("images"), check_files=False)
    assert source.validation is not None
    assert source.test is not None
    sizes = tuple(len(images) for images in (source.train, source.validation, source.test))
    assert (len(source.class_names), *sizes) == OFFICIAL[name]
    for word, images in (("train", source.train), ("test", source.test)):
        triples = json.loads(path.read_bytes())[word]
        assert [path.as_posix() for path in images.paths] == [f"images/{t[0]}" for t in triples]
        assert images.labels.tolist() == [t[1] for t in triples]
        assert [images.class_names[label] for label in images.labels] == [t[2] for t in triples]


def written(folder: Path, content: Any) -> Path:
    path = folder / "split.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_absent_and_empty_lists(tmp_path: Path) -> None:
    split = written(tmp_path, {"train": [["1.jpg", 1, "b"], ["2.jpg", 0, "a"]], "val": []})
    source = read_split(split, tmp_path, check_files=False)
    assert source.class_names == ("a", "b")
    assert source.train.labels.tolist() == [1, 0]
    assert source.validation is None
    assert source.test is None


def test_files_are_looked_for_under_the_root(tmp_path: Path) -> None:
    split = written(tmp_path, {"train": [["1.jpg", 0, "a"], ["2.jpg", 1, "b"]]})
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "2.jpg").touch()
    with pytest.raises(InputError, match=r"1 of 2 images in .*split\.json do not exist: .*1\.jpg"):
        read_split(split, tmp_path / "images")
    (tmp_path / "images" / "1.jpg").touch()
    assert len(read_split(split, tmp_path / "images").train) == 2
    with pytest.raises(InputError, match=r"image does not exist.* Did you mean 'images'"):
        read_split(split, tmp_path / "image")


A, B = ["1.jpg", 0, "a"], ["2.jpg", 1, "b"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([A, B], "is not a CoOp split file"),
        ({"train": "all"}, "is not a CoOp split file"),
        ({}, "no training images"),
        ({"train": [], "test": [A, B]}, "no training images"),
        ({"train": [A, ["2.jpg", 1]]}, r"train\[1\] is .*expected \[path, label, class name\]"),
        ({"train": [A, B], "val": [["3.jpg", "1", "b"]]}, r"val\[0\] is"),
        ({"train": [A, B, ["3.jpg", True, "b"]]}, r"train\[2\] is"),
        ({"train": [A, ["2.jpg", 2, "b"]]}, "2 labels, but 1 is not among them"),
        ({"train": [["1.jpg", 1, "a"], ["2.jpg", 2, "b"]]}, "2 labels, but 0 is not among them"),
        ({"train": [A, B], "test": [["3.jpg", 1, "c"]]}, "label 1 is 'b', but 'c' for 3.jpg"),
        ({"train": [A, ["2.jpg", 1, "a"]]}, "'a' stands for two labels"),
        ({"train": [A]}, "only one class, 'a'"),
        ({"train": [A, B], "test": [A]}, "1.jpg is both a train and a test image"),
    ],
)
def test_refused(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_split(written(tmp_path, content), tmp_path, check_files=False)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 200_000])
def test_not_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "split.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not JSON"):
        read_split(path, tmp_path)
