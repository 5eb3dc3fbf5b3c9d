"""``handful bench verify``: what it prints, and how it ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import coloured_squares as squares
import numpy as np
import pytest
from markdown_pages import names_in, section, table

from handful.features.file import load_features, save_features

LISTS = ("numbers", "reasons", "tried", "not_tried")
VERIFY = ("bench", "verify", "eurosat")
ENCODER = ("--encoder", squares.SPEC, "--checkpoint", "RN50")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set. Tests do not change it."""
    return squares.write(tmp_path_factory.mktemp("squares"))


@pytest.fixture(autouse=True)
def _stand_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "root" in request.fixturenames:
        squares.stand_in(monkeypatch)


def test_a_set_up_that_is_right(handful, root: Path) -> None:
    found = handful(*VERIFY, "--root", root, *ENCODER)
    assert found.status == 0, found.err
    lines = found.out.splitlines()
    assert lines[0] == (
        f"eurosat with {squares.SPEC}, style=clip, '{squares.TEMPLATE}', against RN50"
    )
    cells = [line.split() for line in lines if line.startswith(("zero-shot ", "gda "))]
    assert cells == [
        ["zero-shot", "0", "90.00", "90.00", "+0.00", "yes"],
        ["gda", "16", "90.00", "90.00", "+0.00", "yes"],
    ]
    assert lines[-1] == "The set-up gives the published numbers."


def test_a_set_up_that_is_off(handful, root: Path) -> None:
    found = handful(*VERIFY, "--root", root, *ENCODER, "--template", "photo")
    assert found.status == 1, found.err
    lines = found.out.splitlines()
    assert ["zero-shot", "0", "73.00", "90.00", "-17.00", "no"] in [ln.split() for ln in lines]
    said = [line for line in lines if line.startswith("The likely reason")]
    assert said == [
        f"The likely reason is the template: with template '{squares.TEMPLATE}' it is 90.0, and so"
        " were the published numbers made."
    ]
    assert any(line.startswith(f"template '{squares.TEMPLATE}' ") for line in lines)


def test_as_a_document(handful, root: Path) -> None:
    right = handful(*VERIFY, "--root", root, *ENCODER, "--json").document()
    assert right["ok"] is True
    assert right["reasons"] == right["tried"] == right["not_tried"] == []
    assert (right["name"], right["checkpoint"], right["style"]) == ("eurosat", "RN50", "clip")
    assert right["templates"] == [squares.TEMPLATE]
    assert [(n["method"], n["shots"], n["ok"]) for n in right["numbers"]] == [
        ("zero-shot", 0, True),
        ("gda", 16, True),
    ]


def test_a_document_of_what_is_off(handful, root: Path) -> None:
    coop = ("--encoder", f"{squares.SPEC}?style=coop", "--checkpoint", "RN50")
    found = handful(*VERIFY, "--root", root, *coop, "--json")
    assert found.status == 1
    document = json.loads(found.out)
    assert document["reasons"][0]["kind"] == "crop"
    assert document["tried"][0] == {
        "kind": "crop",
        "what": "style=clip",
        "accuracy": pytest.approx(squares.RIGHT),
        "as_published": True,
        "images": 200,
    }
    number = document["numbers"][0]
    assert number["ours"] == pytest.approx(squares.SQUEEZED)
    assert number["difference"] == pytest.approx(squares.SQUEEZED - squares.RIGHT)


def test_every_field_is_documented(handful, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "f.safetensors"
    handful("embed", f"data:eurosat@{root}", "--encoder", squares.SPEC, "--out", file).done()
    told = {name for row in table(section("command-line.md", "`handful bench verify`"), "field")
            for name in names_in(row[0])}  # fmt: skip
    found = set()
    for more in (("--checkpoint", "RN50"), ENCODER):  # nothing is tried, nothing is left out
        document = json.loads(handful(*VERIFY, "--features", file, *more, "--json").out)
        for name, value in document.items():
            rows = [value] if name not in LISTS else value
            found |= {f"{name}[].{key}" for row in rows if isinstance(row, dict) for key in row}
            found |= set() if name in LISTS else {name}
    assert found == told


def test_features_alone(handful, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "f.safetensors"
    handful("embed", f"data:eurosat@{root}", "--encoder", squares.SPEC, "--out", file).done()
    found = handful(*VERIFY, "--features", file, "--checkpoint", "RN50")
    assert found.status == 1
    assert "The likely reason is the template: the template is 'a photo of a {}.'" in found.out
    assert "Not tried (class names, template, crop): " in found.out
    # With the encoder it is tried, and with the right template read anew it is right.
    told = ("--features", file, *ENCODER)
    assert "The likely reason is the template: with " in handful(*VERIFY, *told).out
    assert handful(*VERIFY, *told, "--template", "eurosat").status == 0


def test_what_was_not_measured_is_not_said_to_be_right(handful, root: Path, tmp_path: Path) -> None:
    file, few = tmp_path / "whole.safetensors", tmp_path / "few.safetensors"
    told = ("--encoder", squares.SPEC, "--template", "eurosat")
    handful("embed", f"data:eurosat@{root}", *told, "--out", file).done()
    whole = load_features(file)
    assert whole.split is not None
    save_features(few, replace(whole, split=np.maximum(whole.split, 1)))  # nothing to learn from
    found = handful(*VERIFY, "--features", few, "--checkpoint", "RN50")
    assert found.status == 0, found.err
    assert "gda was not measured" in found.out
    said = found.out.splitlines()[-1]
    assert said == "The set-up gives the published numbers, as far as they were measured."


def test_refusals(handful, root: Path, tmp_path: Path) -> None:
    handful(*VERIFY).refused("--root", "--features")
    handful("bench", "verify", "eurosatt", "--root", root).refused("'eurosatt'", "eurosat")
    handful(*VERIFY, "--root", root, "--encoder", squares.SPEC).refused("--checkpoint")
    handful(*VERIFY, "--root", tmp_path, *ENCODER).refused("eurosat", "does not exist")
    handful(*VERIFY, "--root", root, "--checkpoint", "RN51").refused("'RN51'", "RN50")


def test_a_split_that_lists_what_is_not_there(handful, tmp_path: Path, monkeypatch) -> None:
    squares.stand_in(monkeypatch)
    root = squares.write(tmp_path)
    (root / "eurosat" / "2750" / "Forest" / "test05.png").unlink()
    handful(*VERIFY, "--root", root, *ENCODER).refused(
        "test05.png is missing", "handful datasets check eurosat"
    )


def test_real_features_without_published_numbers(handful, shared: Path) -> None:
    """Stanford Cars with ViT-B/32: no trusted row, and no guess at one."""
    cars = shared / "data" / "cars-vit-b-32.safetensors"
    command = ("bench", "verify", "stanford_cars", "--features", cars)
    handful(*command).refused("'OpenAI CLIP ViT-B/32'", "RN50 and ViT-B/16", "--checkpoint")


def test_real_features_of_another_checkpoint_and_split(handful, shared: Path) -> None:
    """They are of ViT-B/32 and of the 1,635 validation images: both are seen, the split first."""
    cars = shared / "data" / "cars-vit-b-32.safetensors"
    found = handful(
        "bench", "verify", "stanford_cars", "--features", cars, "--checkpoint", "ViT-B/16"
    )
    assert found.status == 1, found.err
    first = next(line for line in found.out.splitlines() if line.startswith("The likely"))
    assert "has 1,635 test images: expected 8,041" in first
    assert "the weights may not be those of ViT-B/16" in found.out
