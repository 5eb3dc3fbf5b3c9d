"""``handful bench tsne`` as a user meets it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from handful import Features, save_features
from handful.benchmark.neighbours import neighbours
from handful.benchmark.sources import features_source

pytest.importorskip("matplotlib", reason="needs the extra plot")

NAMES = ("ant", "bee", "cat")
ASKED = ("bench", "tsne", "--features", "things.safetensors", "--select", "fixed", "--shots", "2")
FIGURE = "out/tsne-things-coop-fixed-2-1"


@pytest.fixture(autouse=True)
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 8)
    centres = rng.normal(size=(3, 8))
    X = centres[labels] + 0.7 * rng.normal(size=(24, 8))
    features = Features(
        X, labels=labels, class_names=NAMES, class_embeddings=centres, logit_scale=20.0
    )
    save_features("things.safetensors", features)


def test_the_figure_and_its_numbers(handful) -> None:
    asked = (*ASKED, "--methods", "zero-shot,clip-adapter:residual=false:epochs=3", "--out", "out")
    said = handful(*asked).done()
    assert said.splitlines()[-1] == f"{FIGURE}.png, {FIGURE}.svg"
    given = {"residual": False, "epochs": 3}
    found = neighbours(
        features_source("things.safetensors"),
        [("zero-shot", {}), ("clip-adapter", given)],
        shots=2,
        select="fixed",
    )
    for panel in found.panels:
        (line,) = [one for one in said.splitlines() if one.startswith(f"{panel.adapted.label} ")]
        assert f"{panel.adapted.accuracy:.1%}" in line and f"{panel.nearest:.1%}" in line
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    assert len(before) == 2
    handful(*asked).refused(f"{FIGURE}.png exists already", "--force")
    handful(*asked, "--force").done()
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before


def test_the_document(handful) -> None:
    ran = handful(*ASKED, "--methods", "tip-adapter", "--out", "out", "--json", "--format", "svg")
    found = ran.document()
    (panel,) = found.pop("panels")
    assert found == {
        "files": [f"{FIGURE}.svg"],
        "source": "things",
        "test_images": 18,
        "shown": 18,
        "classes": list(NAMES),
        "left_out": [],
    }
    assert (panel["method"], panel["space"]) == ("tip-adapter", "scores")
    assert set(panel) == {"method", "space", "accuracy", "nearest"}
    assert Path(f"{FIGURE}.svg").exists() and not Path(f"{FIGURE}.png").exists()


def test_settings_for_all_and_of_one(handful) -> None:
    methods = ("--methods", "zero-shot,clip-adapter", "--methods", "clip-adapter:epochs=4:blend=1")
    ran = handful(*ASKED, *methods, "--set", "epochs=2", "--out", "out", "--json")
    assert [panel["method"] for panel in ran.document()["panels"]] == [
        "zero-shot",
        "clip-adapter (epochs=2)",
        "clip-adapter (blend=1, epochs=4)",
    ]


def test_classes_and_how_many_images(handful) -> None:
    more = ("--classes", "cat,ant", "--images-shown", "7", "--methods", "zero-shot")
    found = handful(*ASKED, *more, "--out", "out", "--json").document()
    assert (found["classes"], found["shown"], found["left_out"]) == (["ant", "cat"], 6, [])
    assert found["test_images"] == 18


def test_of_many_classes_it_says_which(handful) -> None:
    labels = np.tile(np.arange(22), 4)
    X = np.random.default_rng(0).normal(size=(88, 30))
    save_features("many.safetensors", Features(X, labels=labels, class_embeddings=X[:22]))
    said = handful("bench", "tsne", "--features", "many.safetensors", "--select", "fixed",
                   "--shots", "1", "--methods", "zero-shot", "--out", "out").done()  # fmt: skip
    assert "Shown are 10 of 22 classes: name others with --classes." in said.splitlines()


@pytest.mark.usefixtures("lite")
def test_images(handful, learnt: Path) -> None:
    ran = handful("bench", "tsne", "--images", learnt, "--encoder", "lite", "--shots", "1",
                  "--select", "fixed", "--methods", "zero-shot", "--out", "out", "--json",
                  "--template", "a photo of a {}.", "--format", "png")  # fmt: skip
    assert ran.document()["classes"] == ["dam", "fish", "windmill"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--methods", "zero-shot", "--format", "pgn"), ("'pgn'. Did you mean 'png'?",)),
        (("--methods", "clip-adapter:residual"), ("METHOD:NAME=VALUE", "clip-adapter:residual=f")),
        (("--methods", "clip-adapter:=2"), ("METHOD:NAME=VALUE",)),
        (("--methods", "zero-shott"), ("Did you mean 'zero-shot'?",)),
        (("--methods", "zero-shot:blend=1"), ("'zero-shot' has no setting 'blend'",)),
        (("--methods", ","), ("there is no method to run",)),
        (("--methods", "zero-shot", "--set", "blend=1"), ("no method of this plan has",)),
        (("--methods", "zero-shot", "--protocol", "transfer"), ("tests on other sources",)),
        (("--methods", "zero-shot", "--shots", "0"), ("shots are [0]",)),
        (("--methods", "zero-shot", "--seed", "-1"), ("seeds are [-1]",)),
        (("--methods", "zero-shot", "--select", "val"), ("use --select cv or fixed",)),
        (("--methods", "zero-shot", "--classes", "rat"), ("no class 'rat'", "Did you mean 'cat'?")),
        (("--methods", "zero-shot", "--images-shown", "3"), ("3 test images would be shown",)),
        (("--methods", "coop"), ("trains inside the encoder",)),
        (("--methods", "zero-shot", "--images", "x"), ("one figure has one source",)),
    ],
)
def test_refused(handful, more: tuple[str, ...], words: tuple[str, ...]) -> None:
    handful(*ASKED, *more, "--out", "out").refused(*words)
    assert not Path("out").exists()


def test_refused_before_the_work(handful, monkeypatch: pytest.MonkeyPatch) -> None:
    handful("bench", "tsne", "--methods", "zero-shot", "--out", "out").refused("nothing to run on")
    handful(*ASKED, "--methods", "zero-shot", "--out", "things.safetensors").refused("written")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    handful(*ASKED, "--methods", "zero-shot", "--out", "out").refused(
        'run pip install "handful[plot]"'
    )
    assert not Path("out").exists()
