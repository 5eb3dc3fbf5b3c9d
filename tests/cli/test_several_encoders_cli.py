"""``--encoder`` given several times: lite and a tiny model on the vendored photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from handful.methods import registry


@pytest.fixture(scope="module")
def dino(tiny: Callable[[str], Path]) -> str:
    return f"dir:{tiny('dinov2')}"


@pytest.fixture(scope="module")
def both(learnt: Path, dino: str, handful, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both") / "classifier"
    named = ("--encoder", dino, "--encoder", "lite")
    found = handful("fit", learnt, "--out", folder, "--method", "cafo", *named)
    said = " ".join(found.done().split())
    assert f"Encoder lite and {dino}" in said
    assert "Method cafo, blend" in said
    assert "names only" in said
    return folder


def test_the_document_of_fit(learnt: Path, dino: str, handful, tmp_path: Path) -> None:
    named = ("--encoder", "lite", "--encoder", dino, "--set", "epochs=0")
    told = handful(
        "fit", learnt, "--out", tmp_path / "m", "--method", "cafo", *named, "--json"
    ).document()
    assert told["encoder"]["spec"] == f"joint:lite+{dino}"
    assert told["encoder"]["dim"] == 1280 + 32
    assert told["encoded"] + told["reused"] == 2 * 9
    assert told["settings"]["epochs"] == 0 and "widths" not in told["settings"]
    assert "train_blend" not in told["selection"]["settings"]


def test_it_predicts_and_is_evaluated_without_naming_them(both, others: Path, handful) -> None:
    answers = handful("predict", both, others, "--json").document()
    assert len(answers) == 6
    right = [Path(a["image"]).parent.name == a["label"] for a in answers]
    told = handful("evaluate", both, others, "--json").document()
    assert told["accuracy"] == sum(right) / 6
    assert told["verified"]
    # A model of random weights beside lite, which alone has these photographs right.
    assert told["accuracy"] > 0.6


def test_they_may_be_named_again_in_any_order_of_those_who_read(
    both, dino: str, others: Path, handful
) -> None:
    expected = handful("predict", both, others).done()
    for order in (("lite", dino), (dino, "lite")):
        named = [word for spec in order for word in ("--encoder", spec)]
        assert handful("predict", both, others, *named).done() == expected
    handful("evaluate", both, others, "--encoder", f"joint:lite+{dino}").done()


def test_one_of_them_alone_is_refused(both, others: Path, features: Path, handful) -> None:
    for verb in ("predict", "evaluate"):
        handful(verb, both, others, "--encoder", "lite").refused(
            "encoder 'lite' gives features of width 1280", "fitted on width 1312"
        )
    handful("predict", both, features).refused("features of width 1280", "width 1312")


def test_other_methods_and_verbs_take_one(learnt: Path, dino: str, handful, tmp_path: Path) -> None:
    named = ("--encoder", "lite", "--encoder", dino)
    handful("fit", learnt, "--out", tmp_path / "m", *named).refused(
        f"method '{registry.DEFAULT_METHOD}' takes one encoder, and there are 2: lite, {dino}; "
        "keep one"
    )
    joint = f"joint:lite+{dino}"
    file = tmp_path / "f.safetensors"
    handful("embed", learnt, "--out", file, "--encoder", joint).refused("a features file takes one")
    handful("encoders", "check", joint).refused("the check takes one encoder, and there are 2: lit")
    assert not file.exists() and not (tmp_path / "m").exists()
