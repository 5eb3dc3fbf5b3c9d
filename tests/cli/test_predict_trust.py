"""``predict`` and ``evaluate`` with reasons, as far as they are asked for, in words and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from markdown_pages import DOCS, names_in, table

from handful import FewShotClassifier

CLASSES = ["dam", "fish", "windmill"]
PLAIN = {"image", "label", "probability", "top"}
SETS = {"coverage", "size", "empty", "single", "worst_class", "n"}


def fields(section: str) -> set[str]:
    """Return the JSON fields that the page of a verb promises, outer ones alone."""
    page = (DOCS / "command-line.md").read_text("utf-8")
    text = page.partition(f"\n## `handful {section}`\n")[2].partition("\n## ")[0]
    rows = table(text, "field")
    return {re.split(r"[.\[]", name)[0] for row in rows for name in names_in(row[0])}


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# -- predict ---------------------------------------------------------------------------------------


def test_every_field_that_is_promised_and_no_other(handful, model: Path, others: Path) -> None:
    asked = ("--coverage", 0.9, "--unsure", 0.1, "--why", "--top", 2, "--json")
    for answer in handful("predict", model, others, *asked).document():
        assert set(answer) == PLAIN | {"set", "unsure", "reason", "evidence"} == fields("predict")
        assert answer["set"][0] == answer["label"] == answer["top"][0]["label"]
        assert set(answer["set"]) <= set(CLASSES)
        assert isinstance(answer["unsure"], bool) and bool(answer["reason"]) == answer["unsure"]
        evidence = answer["evidence"]
        assert set(evidence) == {"nearest", "names", "images", "names_alone"}
        assert evidence["names"] + evidence["images"] == pytest.approx(1)
        assert len(evidence["nearest"]) == 3
        for one in evidence["nearest"]:
            assert set(one) == {"image", "label", "similarity"}
            assert Path(one["image"]).parent.name == one["label"]
        similar = [one["similarity"] for one in evidence["nearest"]]
        assert similar == sorted(similar, reverse=True)


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        (("--coverage", 0.8), {"set"}),
        (("--unsure", 0.2), {"unsure", "reason"}),
        (("--threshold", 0.5), {"unsure", "reason"}),
        (("--why",), {"evidence"}),
        (("--prior", "uniform"), set()),
    ],
    ids=["coverage", "unsure", "threshold", "why", "prior"],
)
def test_what_was_not_asked_for_is_not_there(
    handful, model: Path, others: Path, asked: Sequence[object], more: set[str]
) -> None:
    for answer in handful("predict", model, others, *asked, "--json").document():
        assert set(answer) == PLAIN | more


def test_the_same_in_words(handful, model: Path, others: Path) -> None:
    asked = ("--coverage", 0.9, "--threshold", 1, "--why", "--top", 2)
    answers = handful("predict", model, others, *asked, "--json").document()
    lines = iter(handful("predict", model, others, *asked).done().splitlines())
    for answer in answers:
        assert answer["unsure"] and answer["reason"]
        ranked = "  ".join(f"{one['label']} {one['probability']:.1%}" for one in answer["top"])
        assert next(lines) == (
            f"{answer['image']}: unsure ({answer['reason']}); nearest is {ranked}"
            f"  one of: {', '.join(answer['set'])}"
        )
        for one in answer["evidence"]["nearest"]:
            assert (
                next(lines) == f"    {one['similarity']:.2f} like {one['image']} ({one['label']})"
            )
        names, images = answer["evidence"]["names"], answer["evidence"]["images"]
        alone = answer["evidence"]["names_alone"]
        assert next(lines) == (
            f"    decided {names:.0%} by names, {images:.0%} by images; names alone say {alone}"
        )
    assert list(lines) == []


def test_images_that_it_learnt_from_are_nearest_to_themselves(
    handful, model: Path, learnt: Path
) -> None:
    for answer in handful("predict", model, learnt, "--why", "--json").document():
        nearest = answer["evidence"]["nearest"][0]
        assert nearest["image"] == answer["image"]
        assert nearest["similarity"] == pytest.approx(1, abs=1e-6)


def test_photographs_of_something_else(handful, model: Path, others: Path, photos: Path) -> None:
    """Of the classes fewer are unsure than of other things."""
    strange = [sorted((photos / name).glob("*.webp"))[0] for name in ("hammer", "solar panel")]
    found = handful("predict", model, others, *strange, "--unsure", 0.1, "--json").document()
    assert all(answer["unsure"] for answer in found[-2:])
    assert sum(answer["unsure"] for answer in found[:-2]) < 3
    said = handful("predict", model, strange[0], "--unsure", 0.1).done()
    assert re.search(r": unsure \(it is less like any class than \d+% of the 9 held-out im", said)


def test_thresholds_of_one_label_and_of_the_others(handful, model: Path, others: Path) -> None:
    words = ("--threshold", "0", "--threshold", "fish=1", "--json")
    for answer in handful("predict", model, others, *words).document():
        assert answer["unsure"] == (answer["label"] == "fish" and answer["probability"] < 1)
        if answer["unsure"]:
            assert answer["reason"].endswith("is below the threshold 100% of 'fish'")


def test_a_label_with_an_equals_sign(handful, photos, images: Path, tmp_path: Path) -> None:
    (images / "dam").rename(images / "dam=0.3")
    handful("fit", images, "--out", tmp_path / "m", "--method", "zero-shot").done()
    words = ("--threshold", "dam=0.3=1", "--json")
    found = handful("predict", tmp_path / "m", images, *words).document()
    assert any(answer["label"] == "dam=0.3" for answer in found)
    for answer in found:
        assert answer["unsure"] == (answer["label"] == "dam=0.3" and answer["probability"] < 1)


def test_a_prior_from_a_file(handful, model: Path, others: Path, tmp_path: Path) -> None:
    """p'_c ∝ p_c · new_c / old_c; with three images of each class the old ones are equal."""
    (tmp_path / "prior.json").write_text('{"dam": 0.001, "fish": 1}')
    ask = ("--top", 3, "--json")
    plain = handful("predict", model, others, *ask).document()
    uniform = handful("predict", model, others, *ask, "--prior", "uniform").document()
    prior = handful("predict", model, others, *ask, "--prior", tmp_path / "prior.json").document()
    for before, same, after in zip(plain, uniform, prior, strict=True):
        old = {one["label"]: one["probability"] for one in before["top"]}
        equal = {one["label"]: one["probability"] for one in same["top"]}
        assert equal == pytest.approx(old, rel=1e-9, abs=1e-15)
        raw = {"dam": 0.001 * old["dam"], "fish": old["fish"], "windmill": 0.0}
        wanted = {label: p / sum(raw.values()) for label, p in raw.items()}
        found = {one["label"]: one["probability"] for one in after["top"]}
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-15)


def test_of_a_features_file(handful, model: Path, features: Path) -> None:
    asked = ("--coverage", 0.8, "--unsure", 0.2, "--why", "--json")
    found = handful("predict", model, features, *asked).document()
    assert len(found) == 9
    assert all(one["evidence"]["nearest"][0]["image"] == one["image"] for one in found)


def test_names_that_are_no_text_can_be_told(handful, images: Path, tmp_path: Path) -> None:
    """Names of files are bytes; where they are no letters they are shown escaped."""
    first = sorted((images / "dam").iterdir())[0]
    odd = images / "dam" / b"odd \xff.webp".decode("utf-8", "surrogateescape")
    try:
        first.rename(odd)
    except OSError:
        pytest.skip("the file system takes names of letters alone")
    handful("fit", images, "--out", tmp_path / "m", "--method", "tip-adapter").done()
    again = FewShotClassifier.load(tmp_path / "m")
    assert str(odd) in again.trust_.evidence.names
    found = handful("predict", tmp_path / "m", odd, "--why", "--json").document()
    assert found[0]["evidence"]["nearest"][0]["image"] == found[0]["image"]


# -- evaluate --------------------------------------------------------------------------------------


def test_prediction_sets_are_measured(handful, model: Path, others: Path) -> None:
    found = handful("evaluate", model, others, "--coverage", 0.9, "--json").document()
    assert set(found) == fields("evaluate")
    assert set(found["sets"]) == SETS
    sets = [
        (Path(answer["image"]).parent.name in answer["set"], len(answer["set"]))
        for answer in handful("predict", model, others, "--coverage", 0.9, "--json").document()
    ]
    assert found["sets"]["coverage"] == pytest.approx(sum(own for own, _ in sets) / 6)
    assert found["sets"]["size"] == pytest.approx(sum(size for _, size in sets) / 6)
    assert (found["sets"]["n"], found["sets"]["empty"]) == (6, 0)
    for bins in (found["bins"], found["bins_before"]):
        assert all(set(one) == {"confidence", "accuracy", "n"} for one in bins)
        assert sum(one["n"] for one in bins) == 6
        right = sum(one["accuracy"] * one["n"] for one in bins)
        assert right == pytest.approx(6 * found["accuracy"])
    off = sum(abs(one["confidence"] - one["accuracy"]) * one["n"] for one in found["bins"]) / 6
    assert found["calibration_error"] == pytest.approx(off)
    said = handful("evaluate", model, others, "--coverage", 0.9).done()
    covered, size = found["sets"]["coverage"], found["sets"]["size"]
    line = f"Prediction sets    hold the true label in {covered:.1%}, {size:.2f} labels on average"
    assert line in said.splitlines()


def test_without_coverage_there_are_no_sets(handful, model: Path, others: Path) -> None:
    found = handful("evaluate", model, others, "--json").document()
    assert set(found) == fields("evaluate") and found["sets"] is None
    assert "Prediction sets" not in handful("evaluate", model, others).done()


@pytest.mark.parametrize(("name", "begins"), [("new.png", b"\x89PNG"), ("new.svg", b"<?xml")])
def test_a_reliability_diagram(
    handful, model: Path, others: Path, tmp_path: Path, name: str, begins: bytes
) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    path = tmp_path / name
    plain = handful("evaluate", model, others, "--json").document()
    words = ("evaluate", model, others, "--reliability", path, "--json")
    assert handful(*words).document() == plain
    assert path.read_bytes().startswith(begins)
    assert contents(tmp_path) == {name}
    if name.endswith("svg"):
        drawn = path.read_text("utf-8")
        assert "before calibration" in drawn and "as predicted" in drawn
    path.write_bytes(b"mine")
    handful(*words).refused(f"{name} exists already", "--force")
    assert path.read_bytes() == b"mine"
    handful(*words, "--force").document()
    assert path.read_bytes().startswith(begins)


@pytest.mark.parametrize(
    ("verb", "asked", "words"),
    [
        ("predict", ("--coverage", "0.99"), ["needs 99 held-out images", "has 9"]),
        ("predict", ("--unsure", "0.01"), ["needs 99 held-out images", "there are 9"]),
        ("predict", ("--threshold", "nan"), ["--threshold is 'nan'"]),
        ("predict", ("--threshold", "fish=0.5", "--threshold", "fish=0.6"), ["fish=0.6"]),
        ("predict", ("--prior", "."), ["--prior is '.'", "cannot be read"]),
        ("evaluate", ("--coverage", "0.99", "--reliability", "new.png"), ["needs 99"]),
        ("evaluate", ("--reliability", "new.jpg"), ["new.jpg", ".png or .svg"]),
        ("evaluate", ("--reliability", "."), [".png or .svg"]),
    ],
    ids=str,
)
def test_what_is_refused_leaves_nothing_behind(
    handful, model: Path, others: Path, tmp_path, monkeypatch, verb: str, asked: Any, words: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    handful(verb, model, others, *asked).refused(*words)
    handful(verb, model, others, *asked, "--json").refused(*words)
    assert contents(tmp_path) == set()


def test_no_diagram_of_images_that_cannot_be_read(
    handful, model: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad" / "dam").mkdir(parents=True)
    (tmp_path / "bad" / "dam" / "bad.jpg").write_text("no picture")
    handful("evaluate", model, "bad", "--reliability", "new.png").refused("can be read")
    assert contents(tmp_path) == {"bad", "bad/dam", "bad/dam/bad.jpg"}


def test_what_fit_says_of_probabilities(handful, learnt: Path, tmp_path: Path) -> None:
    words = ("fit", learnt, "--method", "tip-adapter", "--out")
    told = handful(*words, tmp_path / "m", "--json").document()["calibration"]
    saved = json.loads((tmp_path / "m" / "config.json").read_text("utf-8"))
    assert told == saved["trust"]["calibration"]
    assert (told["kind"], told["images"], told["source"]) == ("temperature", 9, "cross-validation")
    assert set(told["before"]) == {"calibration_error", "negative_log_likelihood"}
    said = " ".join(handful(*words, tmp_path / "n").done().split())
    assert (
        "Probabilities calibrated on 9 training images, each judged by a classifier that had not "
        f"seen it (temperature {told['temperature']:.3g})"
    ) in said
    one = " ".join(handful(*words, tmp_path / "o", "--shots", 1).done().split())
    assert "Probabilities not calibrated: too few images could be held out" in one
