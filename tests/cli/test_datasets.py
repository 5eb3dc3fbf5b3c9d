"""``handful datasets``: the list, what is known of one, and the check of a copy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_datasets import make

from handful.datasets.catalogue import catalogue


def test_the_list(handful) -> None:
    lines = handful("datasets", "list").done().splitlines()
    assert lines[0].split() == ["name", "what", "classes", "train", "val", "test"]
    assert [line.split()[0] for line in lines[2:]] == list(catalogue())
    assert [line.split()[-4:] for line in lines if line.startswith("dtd ")] == [
        ["47", "2,820", "1,128", "1,692"]
    ]
    document = handful("datasets", "list", "--json").document()
    assert [one["name"] for one in document] == list(catalogue())
    assert document[-1] == {
        "name": "whu_rs19",
        "title": "WHU-RS19",
        "classes": 19,
        "counts": {"train": 1005},
    }


@pytest.mark.parametrize("name", catalogue())
def test_what_is_known(handful, name: str) -> None:
    entry = catalogue()[name]
    said = handful("datasets", "show", name).done()
    for word in (entry.title, entry.folder, entry.citation, entry.get, *entry.unverified.values()):
        assert word in said
    assert said.count("(not verified: ") == len(entry.unverified)
    document = handful("datasets", "show", name, "--json").document()
    assert document["counts"] == entry.counts
    assert list(document["templates"]) == [entry.templates]


def test_templates_are_shown(handful) -> None:
    assert "dtd: {} texture." in handful("datasets", "show", "dtd").done()


def test_a_copy_with_faults(handful, tmp_path: Path) -> None:
    make("dtd", tmp_path)
    for number in range(30):
        (tmp_path / "dtd" / "images" / f"class{number}" / "val.jpg").unlink()
    ran = handful("datasets", "check", "dtd", "--root", tmp_path)
    assert (ran.status, ran.err) == (1, "")
    lines = ran.out.splitlines()
    # 30 files, 3 counts, and 47 classes in each of 3 splits with one image
    assert lines[0] == "dtd: 174 problem(s) (47 classes, 47 train, 47 val, 47 test images)"
    assert lines[1] == f"  {tmp_path / 'dtd' / 'images' / 'class29' / 'val.jpg'} is missing."
    assert len(lines) == 1 + 20 + 1 + 2
    assert lines[21] == "  and 154 more."
    assert lines[22] == f"Where to get it: {catalogue()['dtd'].get}"
    assert lines[23].startswith("split_zhou_DescribableTextures.json: https://")
    ran = handful("datasets", "check", "dtd", "--root", tmp_path, "--json")
    assert (ran.status, ran.err) == (1, "")
    document = json.loads(ran.out)
    assert (len(document["problems"]), document["problem_count"]) == (20, 174)
    assert document["complete"] is False
    assert document["found"] == {"train": 47, "val": 47, "test": 47}
    assert document["expected"] == catalogue()["dtd"].counts


def test_a_copy_that_is_only_doubted(handful, tmp_path: Path) -> None:
    make("imagenet_r", tmp_path)
    said = handful("datasets", "check", "imagenet-r", "--root", tmp_path).done()
    assert said.splitlines()[:2] == [
        "imagenet_r: complete (200 classes, 200 test images)",
        "In doubt: 1",
    ]
    assert "there are 200 test images: expected 30,000 (a number that is not verified: " in said
    document = handful("datasets", "check", "imagenet_r", "--root", tmp_path, "--json").document()
    assert (document["complete"], document["doubt_count"]) == (True, 1)


def test_a_complete_copy(handful, shared: Path) -> None:
    said = handful("datasets", "check", "whu_rs19", "--root", shared / "data").done()
    assert said == "whu_rs19: complete (19 classes, 1,005 train images)\n"


def test_wrong_calls(handful, tmp_path: Path) -> None:
    handful("datasets", "check", "dtd").refused("--root", "'handful datasets check --help'")
    handful("datasets", "check", "dtt", "--root", tmp_path).refused("Did you mean 'dtd'?")
    handful("datasets", "check", "dtd", "--root", tmp_path / "no").refused("no does not exist")
    handful("datasets", "show").refused("NAME")
    handful("datasets", "shwo", "dtd").refused("'shwo'", "Did you mean 'show'?")


def test_from_binary_files_to_a_classifier(handful, lite: None, tmp_path: Path) -> None:
    """A spec is taken wherever images are; CIFAR needs no files of its own."""
    make("cifar10", tmp_path)
    spec = f"data:cifar10@{tmp_path}"
    model = tmp_path / "model"
    document = handful(
        "fit", spec, "--method", "tip-adapter", "--select", "fixed", "--template", "photo",
        "--out", model, "--json",
    ).document()  # fmt: skip
    assert document["images"] == {f"thing_{number}": 5 for number in range(10)}
    assert handful("evaluate", model, spec, "--json").document()["n"] == 10


def test_a_test_set_is_embedded(handful, lite: None, photos: Path, tmp_path: Path) -> None:
    """Of a set for tests only every row is of the test split."""
    from handful import load_features

    make("imagenet_a", tmp_path)
    picture = (photos / "dam" / "dam1.webp").read_bytes()
    for path in (tmp_path / "imagenet-adversarial").rglob("*.JPEG"):
        path.write_bytes(picture)
    out = tmp_path / "a.safetensors"
    handful("embed", f"data:imagenet_a@{tmp_path}", "--out", out).done()
    features = load_features(out)
    assert features.split is not None
    assert features.labels is not None
    assert set(features.split.tolist()) == {2}
    assert sorted(features.labels.tolist()) == list(range(200))
