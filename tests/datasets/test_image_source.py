"""From what the user typed to images."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from handful.datasets.source import is_features_file, open_images, short_name
from handful.errors import InputError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder ``photos`` with two classes, a table and a split file of it; the current folder."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.jpg").touch()
    (tmp_path / "table.csv").write_text("image,label\nphotos/cat/1.jpg,cat\nphotos/dog/1.jpg,dog\n")
    split = {"train": [["cat/1.jpg", 0, "cat"], ["dog/1.jpg", 1, "dog"]]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    (tmp_path / "picture.jpg").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "spec", ["photos", "photos/", "./photos", "table.csv", "coop:split.json@photos"]
)
def test_every_form_gives_the_same_images(place: Path, spec: str) -> None:
    source = open_images(spec)
    assert source.name == spec
    assert source.class_names == ("cat", "dog")
    assert [path.as_posix() for path in source.train.paths] == [
        "photos/cat/1.jpg",
        "photos/dog/1.jpg",
    ]


def test_paths_and_the_home_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_images(place / "photos").train.paths[0] == place / "photos" / "cat" / "1.jpg"
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("USERPROFILE", str(place))
    assert len(open_images("coop:~/split.json@~/photos").train) == 2


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("fotos", "fotos does not exist: expected a folder of .*Did you mean 'photos'"),
        ("tabel.csv", "tabel.csv does not exist: .*Did you mean 'table.csv'"),
        ("fotos/cat", r"fotos/cat does not exist \(there is no fotos\).*Did you mean 'photos'"),
        ("coop:splits.json@photos", "splits.json does not exist.*Did you mean 'split.json'"),
        ("coop:split.json@photo", "photo does not exist.*Did you mean 'photos'"),
        ("picture.jpg", "picture.jpg is neither a folder nor a table"),
        ("split.json", "coop:SPLIT.json@ROOT"),
        ("coop:split.json", "'coop:split.json' names no split file and image folder"),
        ("coop:split.json@", "names no split file"),
        ("hub:beans", "'hub:beans' has a form that is not known"),
        ("x" * 5000, "does not exist"),
        ("hub:" + "x" * 5000, "has a form that is not known"),
        ("", "empty name"),
        ("features.safetensors", "features.safetensors holds features, not images"),
        ("~nobody-has-this-name/photos", "cannot be found|does not exist"),
    ],
)
def test_refused(place: Path, spec: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        open_images(spec)


def test_nothing_near_gives_no_suggestion(place: Path) -> None:
    with pytest.raises(InputError) as error:
        open_images(os.fspath(place / "quite another name"))
    assert "Did you mean" not in str(error.value)


def test_features_files() -> None:
    assert is_features_file("clip.safetensors")
    assert is_features_file(Path("CLIP.SafeTensors"))
    assert not is_features_file("photos")
    assert not is_features_file("table.csv")


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("data:dtd@/sets/all", "dtd"),
        ("coop:splits/split_zhou_DTD.json@/sets/dtd.v1/images", "split_zhou_DTD"),
        ("photos/", "photos"),
        ("a/table.csv", "table"),
        ("hf:somebody/birds", "birds"),
    ],
)
def test_sets_under_one_root_have_different_short_names(spec: str, name: str) -> None:
    assert short_name(spec) == name
