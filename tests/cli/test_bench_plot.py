"""``handful bench plot`` as a user meets it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from handful import Features, save_features

pytest.importorskip("matplotlib", reason="needs the extra plot")

NAMES = ["accuracy-coop-cv", "cost-coop-cv", "gain-coop-cv", "gain-by-source-coop-cv"]


@pytest.fixture
def results(handful, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs on two sources, made with the runner."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 10)
    centres = rng.normal(size=(3, 8))
    for name in ("one", "two"):
        X = centres[labels] + 0.9 * rng.normal(size=(30, 8))
        features = Features(X, labels=labels, class_embeddings=centres, logit_scale=20.0)
        save_features(f"{name}.safetensors", features)
    flags = ("--features", "one.safetensors", "--features", "two.safetensors", "--select", "cv")
    handful("bench", "run", *flags, "--methods", "zero-shot,tip-adapter", "--shots", "1,2",
            "--seeds", "1,2", "--out", "results.jsonl").done()  # fmt: skip
    return Path("results.jsonl")


def files(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_figures_lie_beside_the_results(handful, results: Path) -> None:
    said = handful("bench", "plot", results).done()
    folder = "results-figures"
    assert files(folder) == sorted(f"{name}.{end}" for name in NAMES for end in ("png", "svg"))
    assert said.splitlines() == [f"{folder}/{name}.png, {folder}/{name}.svg" for name in NAMES]
    before = (Path(folder) / "gain-coop-cv.svg").read_bytes()
    handful("bench", "plot", results).refused(
        f"{folder}/accuracy-coop-cv.png exists already", "--force"
    )
    handful("bench", "plot", results, "--force").done()
    assert (Path(folder) / "gain-coop-cv.svg").read_bytes() == before


@pytest.mark.parametrize("form", ["png", "svg"])
def test_one_format(handful, results: Path, form: str) -> None:
    ran = handful("bench", "plot", results, "--out", "new/folder", "--format", form, "--json")
    assert files("new/folder") == sorted(f"{name}.{form}" for name in NAMES)
    found = ran.document()
    assert set(found) == {"out", "figures", "left_out"}
    assert (found["out"], found["left_out"]) == ("new/folder", [])
    for one in found["figures"]:
        if one["kind"] == "gain-by-source":
            one["sources"].sort()  # they are in the order of their gains
    assert found["figures"] == [
        {
            "file": f"new/folder/{name}.{form}",
            "kind": name.removesuffix("-coop-cv"),
            "protocol": "coop",
            "select": "cv",
            "sources": ["one", "two"],
        }
        for name in NAMES
    ]


def test_what_is_left_out_is_said(handful, results: Path) -> None:
    lines = results.read_text().splitlines(keepends=True)
    results.write_text("".join(lines[:-1]))
    sentence = "Not drawn, as runs are missing: tip-adapter at 2 shots, two (coop, cv)."
    assert sentence in handful("bench", "plot", results).done().splitlines()
    ran = handful("bench", "plot", results, "--force", "--json")
    assert sentence in ran.document()["left_out"]


def test_several_results_make_one_set(handful, results: Path) -> None:
    lines = results.read_text().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines]
    for name, wanted in (("a", "zero-shot"), ("b", "tip-adapter")):
        kept = [a for a, r in zip(lines, rows, strict=True) if r.get("method", wanted) == wanted]
        Path(f"{name}.jsonl").write_text("".join(kept))
    handful("bench", "plot", results, "--format", "svg").done()
    handful("bench", "plot", "a.jsonl", "b.jsonl", "--format", "svg").done()
    assert files("a-figures") == files("results-figures")
    for name in files("a-figures"):
        assert (Path("a-figures") / name).read_bytes() == (
            Path("results-figures") / name
        ).read_bytes()


def test_over_a_setting(handful, results: Path) -> None:
    """From a plan with variants to the figure; with a dash or an underscore."""
    plan = Path("plan.toml")
    plan.write_text(
        'features = ["one.safetensors"]\nmethods = ["zero-shot", "clip-adapter"]\nselect = "cv"\n'
        "shots = [2]\nseeds = [1, 2]\n[settings.clip-adapter]\nepochs = 2\n"
        "[variants.clip-adapter]\ntext_blend = [0.0, 0.5]\nbranch = ['text', 'both']\n"
    )
    handful("bench", "run", "--plan", plan, "--out", "over.jsonl").done()
    table = handful("bench", "table", "over.jsonl").done()
    assert "clip-adapter (branch=text, epochs=2, text_blend=0)" in " ".join(table.split())
    for setting in ("text_blend", "text-blend"):
        handful("bench", "plot", "over.jsonl", "--over", setting, "--force").done()
    ends = ("png", "svg")
    assert files("over-figures") == [f"over-text_blend-coop-cv.{end}" for end in ends]
    handful("bench", "plot", "over.jsonl", "--over", "branch").done()
    assert f"over-branch-coop-cv.{ends[0]}" in files("over-figures")
    handful("bench", "plot", "over.jsonl", "--over", "lr").refused(
        "was given the setting 'lr'", "Given were: branch, epochs, text_blend."
    )
    shown = handful("bench", "plot", "over.jsonl", "results.jsonl", "--over", "branch", "--force")
    assert "Not drawn, as branch was not given: tip-adapter, one (coop, cv)." in shown.done()


def test_refused(handful, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handful("bench", "plot", "no.jsonl").refused("no.jsonl does not exist: expected a file that")
    handful("bench", "plot", "one.safetensors").refused("line 1, is no line of results")
    handful("bench", "plot", results, "--format", "pgn").refused(
        "there is no format 'pgn'. Did you mean 'png'? Use one of png, svg, both."
    )
    Path("empty.jsonl").touch()
    handful("bench", "plot", "empty.jsonl").refused("there is no run in these results")
    handful("bench", "plot", results, "--out", results / "below").refused("cannot be written")
    Path("folder/accuracy-coop-cv.png").mkdir(parents=True)
    handful("bench", "plot", results, "--out", "folder", "--force").refused("is a folder")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        handful("bench", "plot", results, "--out", "new").refused('run pip install "handful[plot]"')
    assert not Path("new").exists()
    assert files("folder") == ["accuracy-coop-cv.png"]
