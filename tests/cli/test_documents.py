"""``--json``: one document on standard output, with the keys that programs rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from handful import tuning
from handful.encoders.spec import encoder_kinds
from handful.methods import registry

CLASSES = ["dam", "fish", "windmill"]
# Keys that are promised, and those that come besides.
FIT = {"classes", "shots", "method", "settings", "selection", "out"}
EVALUATE = {"accuracy", "n", "per_class", "calibration_error"}
EMBED = {"encoded", "reused", "skipped"}


def test_fit(handful, learnt: Path, tmp_path: Path) -> None:
    found = handful("fit", learnt, "--out", tmp_path / "model", "--shots", "2", "--json").document()
    assert set(found) == FIT | {
        "images",
        "encoder",
        "estimate",
        "zero_shot",
        "calibration",
        "seed",
        "encoded",
        "reused",
        "skipped",
        "sentences",
        "correction",
    }
    assert found["method"] == registry.DEFAULT_METHOD
    assert set(found["settings"]) == set(registry.get(registry.DEFAULT_METHOD)().settings())
    # It has nothing to search.
    assert found["selection"]["policy"] == "fixed"
    assert not found["selection"]["trace"]
    estimate = found["estimate"]
    assert 0 <= estimate["low"] <= estimate["accuracy"] <= estimate["high"] <= 1
    assert found["encoder"]["spec"] == "lite"
    assert (found["seed"], found["skipped"]) == (1, [])
    saved = json.loads((tmp_path / "model" / "config.json").read_text())
    assert saved["settings"] == found["settings"]
    assert saved["selection"] == found["selection"]
    assert saved["estimate"] == estimate


def test_fit_of_a_method_with_settings_to_search(handful, learnt: Path, tmp_path: Path) -> None:
    words = ("--shots", "2", "--method", "tip-adapter", "--json")
    found = handful("fit", learnt, "--out", tmp_path / "model", *words).document()
    assert found["selection"]["policy"] == "cv"
    assert found["selection"]["trace"]


def test_fit_on_one_shot_knows_no_accuracy(handful, learnt: Path, tmp_path: Path) -> None:
    found = handful("fit", learnt, "--out", tmp_path / "m", "--shots", "1", "--json").document()
    assert found["selection"]["policy"] == "fixed"
    assert found["estimate"] is None
    assert found["settings"] == registry.get(registry.DEFAULT_METHOD)().settings()


def test_predict(handful, model: Path, others: Path) -> None:
    found = handful("predict", model, others, "--json").document()
    assert len(found) == 6
    for answer in found:
        assert set(answer) == {"image", "label", "probability", "top"}
        assert answer["top"] == [{k: answer[k] for k in ("label", "probability")}]


@pytest.mark.parametrize("top", [3, 100])
def test_all_probabilities_sum_to_one(handful, model: Path, others: Path, top: int) -> None:
    for answer in handful("predict", model, others, "--json", "--top", top).document():
        probabilities = [one["probability"] for one in answer["top"]]
        assert sum(probabilities) == pytest.approx(1, abs=1e-12)
        assert probabilities == sorted(probabilities, reverse=True)
        assert sorted(one["label"] for one in answer["top"]) == CLASSES
        assert answer["label"] == answer["top"][0]["label"]
        assert answer["probability"] == probabilities[0]


def test_predict_takes_images_and_folders_in_their_order(
    handful, model: Path, others: Path
) -> None:
    one = next((others / "fish").glob("*.webp"))
    found = handful("predict", model, one, others / "dam", one, "--json").document()
    dams = [str(path) for path in sorted((others / "dam").glob("*.webp"))]
    assert [answer["image"] for answer in found] == [str(one), *dams, str(one)]
    assert found[0] == found[-1]


def test_evaluate(handful, model: Path, others: Path) -> None:
    found = handful("evaluate", model, others, "--json").document()
    assert set(found) == EVALUATE | {
        "adaptive_calibration_error",
        "classwise_calibration_error",
        "brier_score",
        "bins",
        "bins_before",
        "sets",
        "confusions",
        "interval",
        "negative_log_likelihood",
        "seen_in_training",
        "seen_by_correction",
        "skipped",
        "verified",
    }
    assert 0 <= found["interval"][0] <= found["accuracy"] <= found["interval"][1] <= 1
    assert 0 <= found["calibration_error"] <= 1
    assert found["n"] == 6
    assert [c["label"] for c in found["per_class"]] == CLASSES
    assert [c["n"] for c in found["per_class"]] == [2, 2, 2]
    mean = sum(c["recall"] * c["n"] for c in found["per_class"]) / 6
    assert mean == pytest.approx(found["accuracy"])
    wrong = sum(c["n"] for c in found["confusions"])
    assert wrong == round(6 * (1 - found["accuracy"]))


def test_embed(handful, learnt: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "features.safetensors"
    found = handful("embed", learnt, "--out", out, "--json").document()
    assert set(found) == EMBED | {"images", "dim", "out"}
    assert (found["images"], found["dim"], found["skipped"]) == (9, 1280, 0)
    assert out.is_file()


def test_methods(handful) -> None:
    found = handful("methods", "--json").document()
    assert [m["name"] for m in found] == [*registry.names(), *tuning.names()]
    assert [m["name"] for m in found if m["inside"]] == tuning.names()
    for method in found:
        assert set(method) == {"name", "summary", "paper", "inside", "settings", "searched"}
        assert set(method["searched"]) <= set(method["settings"])


def test_encoders(handful) -> None:
    found = handful("encoders", "--json").document()
    assert [(e["pattern"], e["available"]) for e in found] == [
        (kind.pattern, kind.available) for kind in encoder_kinds()
    ]


def test_labels_of_any_script_come_out_as_they_are(
    handful, images: Path, others: Path, tmp_path: Path
) -> None:
    (images / "dam").rename(images / "Staudämme 大坝")
    handful("fit", images, "--out", tmp_path / "model", "--method", "tip-adapter").done()
    ran = handful("predict", tmp_path / "model", others / "dam", "--top", "3", "--json")
    labels = {one["label"] for one in ran.document()[0]["top"]}
    assert labels == {"Staudämme 大坝", "fish", "windmill"}
    measured = handful("evaluate", tmp_path / "model", images, "--json").document()
    assert "Staudämme 大坝" in {c["label"] for c in measured["per_class"]}
