"""``--prompts FILE``: sentences about classes, from the command line to the answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handful import FewShotClassifier, load_features

SENTENCES = {
    "Dam": ["a wall of concrete that holds back a lake", "water that falls over a spillway"],
    "fish": "a fish with fins and scales",
    "windmill": ["a windmill with four sails", "a wind turbine on a hill", "a windmill"],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "things.json"
    path.write_text(json.dumps(SENTENCES), encoding="utf-8")
    return path


def test_fit_predict_evaluate(
    handful, learnt: Path, others: Path, file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    said = handful("fit", learnt, "--out", out, "--method", "tip-adapter", "--prompts", file).done()
    assert "\nPrompts       1 to 3 sentences per class from things.json\n" in said
    assert "\n  texts only  " in said
    file.unlink()  # predictions need none of it
    found = handful("evaluate", out, others, "--json").document()
    assert found["verified"]
    answers = handful("predict", out, others, "--json").document()
    right = [Path(one["image"]).parent.name == one["label"] for one in answers]
    assert np.mean(right) == pytest.approx(found["accuracy"])
    # By chance a third; names alone have these six right.
    assert sum(right) >= 5


def test_the_document_of_fit(handful, learnt: Path, file: Path, tmp_path: Path) -> None:
    call = ("fit", learnt, "--method", "zero-shot", "--json", "--out")
    plain = handful(*call, tmp_path / "a").document()
    told = handful(*call, tmp_path / "b", "--prompts", file, "--template", "{}").document()
    assert plain["sentences"] is None
    assert told["sentences"]["file"] == "things.json"
    assert told["sentences"]["counts"] == [2, 1, 3]
    saved = json.loads((tmp_path / "b" / "config.json").read_text())
    assert saved["sentences"] == told["sentences"]
    assert saved["templates"] == ["{}"]


def test_embed_then_fit_is_fit(handful, learnt: Path, file: Path, tmp_path: Path) -> None:
    texts = ("--prompts", file, "--template", "{}", "--template", "a {}")
    features = tmp_path / "f.safetensors"
    handful("embed", learnt, "--out", features, *texts).done()
    found = load_features(features)
    assert found.text_features.shape == (3, 2 + 3, 1280)
    assert found.text_features.any(axis=-1).sum(axis=1).tolist() == [4, 3, 5]
    call = ("--method", "tip-adapter", "--out")
    handful("fit", features, *call, tmp_path / "a").done()
    handful("fit", learnt, *texts, *call, tmp_path / "b").done()
    one, other = (FewShotClassifier.load(tmp_path / name) for name in "ab")
    assert one.sentences_ == other.sentences_
    for name, array in one.head_.arrays().items():
        np.testing.assert_allclose(array, other.head_.arrays()[name], rtol=1e-6)


def test_bench_run(handful, learnt: Path, file: Path, tmp_path: Path, monkeypatch) -> None:
    """Another source than with names alone, and the command in the results makes it again."""
    monkeypatch.chdir(tmp_path)
    call = ("bench", "run", "--images", learnt, "--methods", "zero-shot", "--select", "fixed")
    few = ("--shots", "1", "--seeds", "1", "--out", "r.jsonl")
    assert handful(*call, *few).done().startswith("1 runs made, 0 were there")
    for made, there in ((1, 0), (0, 1)):
        said = handful(*call, *few, "--prompts", "things.json", "--json").document()
        assert (said["made"], said["there"]) == (made, there)
    rows = [json.loads(line) for line in Path("r.jsonl").read_text("utf-8").splitlines()]
    plain, told = [row for row in rows if row["kind"] == "source"]
    assert plain["sentences"] is None
    assert told["sentences"]["counts"] == [2, 1, 3]
    assert "--prompts things.json" in " ".join(rows[-1]["command"])
    assert "--prompts" not in rows[1]["command"]
    # A plan names the file from its own folder.
    plan = tmp_path / "plans" / "plan.toml"
    plan.parent.mkdir()
    plan.write_text(f'images = ["{learnt.as_posix()}"]\nprompts = "../things.json"\n')
    again = ("bench", "run", "--plan", plan, *call[4:], *few, "--json")
    assert handful(*again).document()["there"] == 1


def test_bench_run_without_images(handful, features: Path, file: Path, tmp_path: Path) -> None:
    handful(
        "bench", "run", "--features", features, "--prompts", file, "--out", tmp_path / "r.jsonl"
    ).refused("things.json is given without --images: a features file has its texts already")
