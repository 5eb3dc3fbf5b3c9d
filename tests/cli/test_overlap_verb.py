"""``handful overlap``: what it compares, and what it says of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_corrections import digests_of, of_encoder

from handful import load_encoder, load_features


def test_images(handful, learnt: Path) -> None:
    found = handful("overlap", learnt, "--json").document()
    assert (found["images"], found["classes"]) == (9, ["dam", "fish", "windmill"])
    # Three of three classes: 3 · 3 pairs of one class, 9 · 8 / 2 − 9 of two.
    assert found["pairs"] == {"paired": 9, "unpaired": 27}
    assert (found["after"], found["correction"], found["plot"]) == (None, None, None)
    histogram = found["before"]["histogram"]
    assert (sum(histogram["paired"]), sum(histogram["unpaired"])) == (9, 27)
    assert len(histogram["edges"]) == len(histogram["paired"]) + 1
    assert found["before"]["auroc"] > 0.5  # lite tells dams from fish
    said = handful("overlap", learnt).done()
    assert "9 of 3 classes" in said and f"{found['before']['overlap']:.1%}" in said


def test_before_and_after(handful, learnt: Path, features: Path, tmp_path: Path) -> None:
    lite = load_encoder("lite")
    taught = digests_of(sorted(learnt.glob("*/*"))[:2])
    of_encoder(lite, taught=taught).save(tmp_path / "c.safetensors")
    of_encoder(lite, identity=True).save(tmp_path / "same.safetensors")
    without = handful("overlap", learnt, "--json").document()
    words = ("--correction", tmp_path / "c.safetensors", "--json")
    ran = handful("overlap", learnt, *words)
    assert "trained on 2 of these 9 images" in ran.err
    found = ran.document()
    assert found["before"] == without["before"] != found["after"]
    assert found["correction"]["taught"] == 2
    found = handful("overlap", features, *words).document()
    assert found["before"]["overlap"] == without["before"]["overlap"]
    assert found["correction"]["taught"] == 0  # rows of a file are not these files
    words = ("--correction", tmp_path / "same.safetensors", "--json")
    found = handful("overlap", learnt, *words).document()
    assert found["before"] == found["after"] == without["before"]


def test_no_more_than_is_asked_for(handful, learnt: Path, others: Path, tmp_path: Path) -> None:
    for split, images in (("train", learnt), ("test", others)):
        shutil.copytree(images, tmp_path / "data" / split)
    (tmp_path / "data" / "test" / "dam" / "bad.webp").write_text("no picture")
    data = tmp_path / "data"
    counts = {
        split: handful("overlap", data, "--split", split, "--json").document()["images"]
        for split in ("all", "train", "test")
    }
    assert counts == {"all": 15, "train": 9, "test": 6}
    # The training images alone: the bad test image is not even opened.
    assert not handful("overlap", data, "--split", "train").err
    assert "1 image(s) were left out" in handful("overlap", data, "--split", "test").err
    handful("overlap", data, "--strict").refused("bad.webp")
    handful("overlap", data, "--split", "val").refused("no images of the split 'val'")
    handful("overlap", data, "--split", "tests").refused("Did you mean 'test'?")
    file = tmp_path / "f.safetensors"
    assert handful("embed", data, "--out", file).status == 0
    found = handful("overlap", file, "--split", "test", "--json").document()
    assert found["images"] == int((load_features(file).split == 2).sum()) == 6


def test_a_picture(handful, learnt: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    file = tmp_path / "o.png"
    assert f"Drawn in {file}" in handful("overlap", learnt, "--plot", file).done()
    assert file.read_bytes().startswith(b"\x89PNG")
    handful("overlap", learnt, "--plot", file).refused("exists already")
    handful("overlap", learnt, "--plot", tmp_path / "o.jpg").refused(".png or .svg")


def test_too_few(handful, learnt: Path, tmp_path: Path) -> None:
    shutil.copytree(learnt / "dam", tmp_path / "one" / "dam")
    handful("overlap", tmp_path / "one").refused("the overlap needs two classes")


@pytest.mark.parametrize("words", [("--encoder", "lite"), ("--template", "{}")])
def test_a_features_file_has_its_encoder(handful, features: Path, words) -> None:
    handful("overlap", features, *words).refused(f"leave {words[0]} out")
