"""From a folder of photographs to a classifier that is used tomorrow, in processes of their own."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handful import FewShotClassifier, load_features, save_features

CLASSES = ["dam", "fish", "windmill"]


@pytest.mark.slow
def test_fit_predict_evaluate_embed_and_again_on_features(
    handful_process, learnt: Path, others: Path, tmp_path: Path
) -> None:
    model, file = tmp_path / "model", tmp_path / "features.safetensors"
    fitted = handful_process(
        "fit", learnt, "--out", model, "--method", "tip-adapter", "--shots", "2", "--json"
    ).document()
    assert fitted["classes"] == CLASSES
    assert fitted["images"] == dict.fromkeys(CLASSES, 2)
    assert (fitted["method"], fitted["shots"], fitted["out"]) == ("tip-adapter", 2, str(model))

    answers = handful_process("predict", model, others, "--top", "3", "--json").document()
    assert [a["image"] for a in answers] == [str(p) for p in sorted(others.glob("*/*.webp"))]
    here = FewShotClassifier.load(model).predict_proba(sorted(others.glob("*/*.webp")))
    there = [{one["label"]: one["probability"] for one in a["top"]} for a in answers]
    np.testing.assert_array_equal(here, [[row[name] for name in CLASSES] for row in there])

    measured = handful_process("evaluate", model, others, "--json").document()
    truth = [Path(a["image"]).parent.name for a in answers]
    right = sum(a["label"] == name for a, name in zip(answers, truth, strict=True))
    assert (measured["accuracy"], measured["n"]) == (right / 6, 6)
    assert measured["verified"] is True

    embedded = handful_process("embed", learnt, "--out", file, "--json").document()
    assert (embedded["encoded"] + embedded["reused"], embedded["skipped"]) == (9, 0)
    assert embedded["reused"] >= 6  # the shots of the fit

    again = handful_process(
        "fit", file, "--out", tmp_path / "again", "--method", "tip-adapter", "--shots", "2"
    )
    assert "dam, fish, windmill" in again.done()
    assert "6 (2 each)" in again.out
    answers = handful_process("predict", tmp_path / "again", file, "--json").document()
    assert [a["image"] for a in answers] == list(load_features(file).paths or ())
    assert [a["label"] for a in answers] == [Path(a["image"]).parent.name for a in answers]


@pytest.mark.slow
def test_a_new_process_gives_the_same_probabilities_to_the_last_bit(
    handful, handful_process, others: Path, tmp_path: Path, learnt: Path
) -> None:
    """Also from a method that trains, and through features that nobody had encoded before."""
    model = tmp_path / "model"
    how = ("--method", "clip-adapter", "--set", "epochs=5", "--select", "fixed")
    handful("fit", learnt, "--out", model, *how).done()
    one = handful("predict", model, others, "--top", "3", "--json").document()
    other = handful_process(
        "predict", model, others, "--top", "3", "--json", HANDFUL_CACHE=str(tmp_path / "cache")
    ).document()
    assert one == other


def test_the_same_fit_gives_the_same_files(handful, learnt: Path, model: Path, tmp_path: Path):
    handful("fit", learnt, "--out", tmp_path / "again", "--method", "tip-adapter").done()
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (model / name).read_bytes()


def test_an_image_is_encoded_once(handful, images: Path, tmp_path: Path) -> None:
    first = handful("embed", images, "--out", tmp_path / "1.safetensors", "--json").document()
    second = handful("embed", images, "--out", tmp_path / "2.safetensors", "--json").document()
    assert first["encoded"] + first["reused"] == 9
    assert (second["encoded"], second["reused"]) == (0, 9)
    one, other = (load_features(tmp_path / f"{n}.safetensors") for n in (1, 2))
    np.testing.assert_array_equal(one.image_features, other.image_features)
    np.testing.assert_array_equal(one.text_features, other.text_features)
    fitted = handful("fit", images, "--out", tmp_path / "model", "--json").document()
    assert (fitted["encoded"], fitted["reused"]) == (0, 9)
    more = handful(
        "embed", images, "--out", tmp_path / "3.safetensors", "--views", "2", "--json"
    ).document()
    assert more["encoded"] + more["reused"] == 27
    assert load_features(tmp_path / "3.safetensors").view_features.shape == (9, 2, 1280)


def test_features_and_images_give_the_same_classifier(
    handful, features: Path, model: Path, others: Path, tmp_path: Path
) -> None:
    """The file holds what ``fit`` would have encoded, and tells which encoder did."""
    handful("fit", features, "--out", tmp_path / "model", "--method", "tip-adapter").done()
    config, other = (
        json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "model", model)
    )
    for key in ("classes", "settings", "encoder", "weights_sha256"):
        assert config[key] == other[key]
    on_images = handful("predict", tmp_path / "model", others, "--json")
    assert on_images.document() == handful("predict", model, others, "--json").document()
    assert on_images.err == ""  # the encoder is verified by its fingerprint


def test_table_with_splits(handful, learnt: Path, others: Path, tmp_path: Path) -> None:
    """Test images are never learnt from; validation images choose the settings."""
    table, rows = tmp_path / "table.csv", ["image,label,split"]
    splits = ("train", "val", "test")
    for name in CLASSES:
        paths = sorted((learnt / name).glob("*.webp"))
        rows += [f"{p},{name},{s}" for p, s in zip(paths, splits, strict=True)]
    table.write_text("\n".join(rows))
    model = tmp_path / "model"
    fitted = handful("fit", table, "--out", model, "--method", "tip-adapter", "--json").document()
    assert fitted["selection"]["policy"] == "val"
    assert fitted["selection"]["images"] == 3
    assert fitted["images"] == dict.fromkeys(CLASSES, 1)
    digests = set(json.loads((model / "config.json").read_text())["support"]["digests"])
    by_split = {
        split: {
            hashlib.sha256(sorted((learnt / name).glob("*.webp"))[i].read_bytes()).hexdigest()
            for name in CLASSES
        }
        for i, split in enumerate(splits)
    }
    assert digests == by_split["train"]
    assert fitted["encoded"] + fitted["reused"] == 6  # the test images are not even read
    measured = handful("evaluate", model, table, "--json")
    assert measured.document()["n"] == 3
    assert measured.document()["seen_in_training"] == 0
    assert measured.err == ""


def test_features_file_with_splits(handful, learnt: Path, features: Path, tmp_path: Path) -> None:
    whole = load_features(features)
    split = np.array([0, 1, 2] * 3)
    # Were a test row used, the answers would change: these are far from any image.
    spoilt = whole.image_features.copy()
    spoilt[split == 2] = 1e3
    for name, rows in (("plain", whole.image_features), ("spoilt", spoilt)):
        save_features(
            tmp_path / f"{name}.safetensors", replace(whole, image_features=rows, split=split)
        )
        fitted = handful(
            "fit",
            tmp_path / f"{name}.safetensors",
            "--out",
            tmp_path / name,
            "--method",
            "tip-adapter",
            "--json",
        ).document()
        assert fitted["selection"]["policy"] == "val"
        assert fitted["images"] == dict.fromkeys(CLASSES, 1)
    one, other = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("plain", "spoilt")
    )
    assert one["weights_sha256"] == other["weights_sha256"]
    assert one["settings"] == other["settings"]
    assert (
        handful(
            "evaluate", tmp_path / "plain", tmp_path / "plain.safetensors", "--json"
        ).document()["n"]
        == 3
    )


def test_evaluate_warns_of_images_seen_in_training(
    handful, model: Path, learnt: Path, features: Path, tmp_path: Path
) -> None:
    seen = handful("evaluate", model, learnt, "--json")
    assert seen.document()["seen_in_training"] == 9
    assert seen.err.startswith("handful: warning: the classifier was fitted on 9 of these 9 images")
    assert len(seen.err.splitlines()) == 1
    handful("fit", features, "--out", tmp_path / "model", "--method", "zero-shot").done()
    rows = handful("evaluate", tmp_path / "model", features, "--json")
    assert rows.document()["seen_in_training"] == 9
    assert "fitted on 9 of these 9" in rows.err


def test_evaluate_tells_of_classes_without_images(
    handful, model: Path, others: Path, tmp_path: Path
) -> None:
    """As with ImageNet-A, which shows 200 of 1,000 classes: the others are not masked."""
    whole = handful("evaluate", model, others).done()
    assert "have images" not in whole
    part = tmp_path / "part"
    shutil.copytree(others / CLASSES[0], part / CLASSES[0])
    told = handful("evaluate", model, part).done()
    assert f"Classes            1 of {len(CLASSES)} have images; all may be answered" in told


def test_a_classifier_of_an_untold_encoder_is_marked(
    handful, of_features: Path, features: Path, others: Path
) -> None:
    on_rows = handful("predict", of_features, features, "--json")
    assert len(on_rows.document()) == 9
    assert "unverified" in on_rows.err
    assert "the one of these features" in on_rows.err
    handful("predict", of_features, others).refused("does not tell its encoder", "--encoder")
    handful("evaluate", of_features, others).refused("--encoder")
    handful("predict", of_features, others, "--encoder", "lit").refused("Did you mean 'lite'?")
    answers = handful("predict", of_features, others, "--encoder", "lite", "--json")
    assert len(answers.document()) == 6
    assert answers.err.startswith("handful: warning: unverified")
    assert "'lite'" in answers.err
    measured = handful("evaluate", of_features, others, "--encoder", "lite", "--json")
    assert measured.document()["verified"] is False
    assert "unverified" in measured.err
