"""What the catalogue says, against the official splits and the protocol; the check of a copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_datasets import COOP, NAMES, make

from handful.datasets import catalogue as catalogue_module
from handful.datasets.catalogue import Entry, catalogue, entry_named, inventory
from handful.datasets.catalogue_check import check_dataset, split_digest
from handful.datasets.catalogue_layouts import LAYOUTS
from handful.encoders.templates import template_sets
from handful.errors import InputError

# The protocol of the few-shot papers: classes, template; two sets share a template with ImageNet.
PROTOCOL = {
    "imagenet": (1000, "a photo of a {}."),
    "caltech101": (100, "a photo of a {}."),
    "oxford_pets": (37, "a photo of a {}, a type of pet."),
    "stanford_cars": (196, "a photo of a {}."),
    "oxford_flowers": (102, "a photo of a {}, a type of flower."),
    "food101": (101, "a photo of {}, a type of food."),
    "fgvc_aircraft": (100, "a photo of a {}, a type of aircraft."),
    "sun397": (397, "a photo of a {}."),
    "dtd": (47, "{} texture."),
    "eurosat": (10, "a centered satellite photo of {}."),
    "ucf101": (101, "a photo of a person doing {}."),
    "imagenetv2": (1000, "a photo of a {}."),
    "imagenet_sketch": (1000, "a photo of a {}."),
    "imagenet_a": (200, "a photo of a {}."),
    "imagenet_r": (200, "a photo of a {}."),
}
OFFICIAL = [
    "caltech101", "dtd", "eurosat", "oxford_flowers", "oxford_pets", "stanford_cars", "ucf101",
]  # fmt: skip


def test_the_protocol() -> None:
    told = {name: catalogue()[name] for name in PROTOCOL}
    assert {
        name: (e.classes, *template_sets()[e.templates]) for name, e in told.items()
    } == PROTOCOL


@pytest.mark.parametrize("entry", catalogue().values(), ids=lambda entry: entry.name)
def test_every_entry_is_whole(entry: Entry) -> None:
    assert entry.layout in LAYOUTS
    assert entry.templates in template_sets()
    assert set(entry.counts) <= {"train", "val", "test"}
    assert set(entry.per_class) <= set(entry.counts)
    for split, count in entry.per_class.items():
        assert count * entry.classes == entry.counts[split]
    if entry.layout == "coop":
        assert entry.file.startswith("split_zhou_")
    else:
        assert set(entry.splits) == set(entry.counts)
    assert set(entry.unverified) <= {name for name, value in vars(entry).items() if value}
    for text in (entry.title, entry.citation, entry.licence, entry.get):
        assert text.strip()
        assert "\n" not in text


def test_names() -> None:
    assert entry_named("WHU-RS19") is catalogue()["whu_rs19"]
    with pytest.raises(InputError, match=r"'imagenet-b' is not in .*Did you mean 'imagenet_"):
        entry_named("imagenet-b")


# -- the seven official splits ---------------------------------------------------------------------


@pytest.fixture
def with_splits(shared: Path, tmp_path: Path) -> Path:
    """A data root with the official splits, and no images."""
    for name in OFFICIAL:
        entry = catalogue()[name]
        (tmp_path / entry.folder / entry.images).mkdir(parents=True)
        shutil.copy(shared / "data" / "coop-splits" / entry.file, tmp_path / entry.folder)
    return tmp_path


def test_official_splits_have_these_counts(with_splits: Path) -> None:
    for name in OFFICIAL:
        entry = catalogue()[name]
        there = inventory(entry, with_splits)
        assert {split: len(images) for split, images in there.splits.items()} == entry.counts, name
        assert len(there.names) == entry.classes, name
        for split, count in entry.per_class.items():
            assert set(there.splits[split].counts().tolist()) == {count}, name
        assert split_digest(there, with_splits / entry.folder) == entry.digest, name
        assert len(there.faults) == sum(entry.counts.values()), name  # every image is missing
        assert not {*entry.rename} & {*there.names}, name  # they have the new names already
        if name == "eurosat":
            assert {*entry.rename.values()} | {"Forest", "River"} == {*there.names}


# -- the check -------------------------------------------------------------------------------------


@pytest.fixture
def expect_few(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Entry]:
    """Let the catalogue expect as many images as the miniature of a data set has."""

    def change(name: str, root: Path, **facts: object) -> Entry:
        entry = replace(catalogue()[name], per_class={}, unverified={}, digest="")
        there = inventory(entry, root)
        counts = {split: len(images) for split, images in there.splits.items()}
        digest = split_digest(there, root / entry.folder) if entry.layout == "coop" else ""
        entry = replace(entry, counts=counts, digest=digest, **facts)  # type: ignore[arg-type]
        monkeypatch.setattr(catalogue_module, "catalogue", lambda: {name: entry})
        return entry

    return change


@pytest.mark.parametrize("name", NAMES)
def test_a_complete_copy(tmp_path: Path, name: str, expect_few: Callable[..., Entry]) -> None:
    make(name, tmp_path)
    entry = expect_few(name, tmp_path)
    found = check_dataset(name, tmp_path)
    assert (found.problems, found.doubts) == ((), ())
    assert (found.classes, found.found) == (entry.classes, entry.counts)


@pytest.mark.parametrize("name", COOP)
def test_a_miniature_is_not_taken_for_the_data_set(tmp_path: Path, name: str) -> None:
    make(name, tmp_path)
    found = check_dataset(name, tmp_path)
    entry = catalogue()[name]
    told = found.problems + found.doubts
    for split, count in entry.counts.items():
        says = f"there are {entry.classes} {split} images: expected {count:,}"
        assert any(sentence.startswith(says) for sentence in told), told[:3]
    assert bool(found.doubts) == ("counts" in entry.unverified)
    assert bool(found.problems) == ("counts" not in entry.unverified)


def test_every_file_that_is_missing(tmp_path: Path, expect_few: Callable[..., Entry]) -> None:
    make("dtd", tmp_path)
    expect_few("dtd", tmp_path)
    for path in ("class3/test.jpg", "class7/val.jpg"):
        (tmp_path / "dtd" / "images" / path).unlink()
    images = tmp_path / "dtd" / "images"
    assert check_dataset("dtd", tmp_path).problems == (
        f"{images / 'class7/val.jpg'} is missing",
        f"{images / 'class3/test.jpg'} is missing",
    )


def test_every_folder_that_is_missing_or_strange(
    tmp_path: Path, expect_few: Callable[..., Entry]
) -> None:
    make("imagenet", tmp_path)
    expect_few("imagenet", tmp_path)
    val = tmp_path / "imagenet" / "images" / "val"
    (val / "n01440764").rename(val / "tench")
    (val / "n01443537" / "n01443537_val.JPEG").unlink()
    assert check_dataset("imagenet", tmp_path).problems == (
        f"{val / 'n01440764'} is missing",
        f"{val / 'n01443537'} has no images",
        f"{val / 'tench'} is no class of ImageNet (ILSVRC 2012)",
        "there are 998 test images: expected 1,000",
    )


def test_classes_with_another_count(tmp_path: Path, expect_few: Callable[..., Entry]) -> None:
    make("imagenetv2", tmp_path)
    expect_few("imagenetv2", tmp_path, per_class={"test": 1})
    folder = tmp_path / "imagenetv2" / "imagenetv2-matched-frequency-format-val" / "2"
    (folder / "more.jpeg").touch()
    assert check_dataset("imagenetv2", tmp_path).problems == (
        "there are 1,001 test images: expected 1,000",
        "class 'great white shark' has 2 test images: expected 1",
    )


def test_a_split_that_is_not_the_published_one(
    tmp_path: Path, expect_few: Callable[..., Entry]
) -> None:
    """Same images, same counts; but the lists, from which shots are drawn, are in another order."""
    make("eurosat", tmp_path)
    expect_few("eurosat", tmp_path)
    path = tmp_path / "eurosat" / "split_zhou_EuroSAT.json"
    split = json.loads(path.read_text())
    split["train"][:2] = split["train"][1::-1]
    path.write_text(json.dumps(split))
    (problem,) = check_dataset("eurosat", tmp_path).problems
    assert problem.startswith(f"{path} is not the published split, though its counts are the same")


def test_old_names_are_those_of_the_papers(tmp_path: Path) -> None:
    """In a split that somebody made, classes may be called as the folders are."""
    make("eurosat", tmp_path)
    path = tmp_path / "eurosat" / "split_zhou_EuroSAT.json"
    path.write_text(path.read_text().replace("name 0", "AnnualCrop").replace("name 5", "Forest"))
    names = inventory(catalogue()["eurosat"], tmp_path).names
    assert (names[0], names[5]) == ("Annual Crop Land", "Forest")


def test_a_split_that_is_missing(tmp_path: Path) -> None:
    make("dtd", tmp_path)
    path = tmp_path / "dtd" / "split_zhou_DescribableTextures.json"
    path.unlink()
    found = check_dataset("dtd", tmp_path)
    (problem,) = found.problems
    assert problem.startswith(f"{path} does not exist: expected a CoOp split file")
    assert (found.found, found.classes) == ({}, 0)


def test_a_count_that_nobody_has_confirmed_is_a_doubt(
    tmp_path: Path, expect_few: Callable[..., Entry]
) -> None:
    make("imagenet_a", tmp_path)
    expect_few("imagenet_a", tmp_path, unverified={"counts": "as remembered"})
    folder = next((tmp_path / "imagenet-adversarial" / "imagenet-a").glob("n*"))
    (folder / "more.jpg").touch()
    found = check_dataset("imagenet_a", tmp_path)
    assert found.problems == ()
    assert found.doubts == (
        "there are 201 test images: expected 200 (a number that is not verified: as remembered)",
    )


def test_the_real_satellite_images(shared: Path) -> None:
    found = check_dataset("whu_rs19", shared / "data")
    assert (found.problems, found.doubts) == ((), ())


def test_no_such_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dato does not exist: expected the folder that holds"):
        check_dataset("dtd", tmp_path / "dato")
    (problem,) = check_dataset("dtd", tmp_path).problems
    assert "dtd does not exist: expected the folder of Describable Textures" in problem
