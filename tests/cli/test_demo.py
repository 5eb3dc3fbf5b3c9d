"""``handful demo``: the first thing that a stranger runs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from handful.errors import InputError
from handful.examples import demo
from handful.methods import registry


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory, lite: None, handful):
    """Run the demo in a folder with one seed, which changes numbers only."""
    place = tmp_path_factory.mktemp("demo")
    patch = pytest.MonkeyPatch()
    patch.setattr(demo, "_SEEDS", (1,))
    patch.chdir(place)
    yield lambda *arguments: handful("demo", *arguments)
    patch.undo()


@pytest.mark.slow
def test_demo_as_it_is(handful_process, lite: None, tmp_path: Path) -> None:
    out = tmp_path / "handful-demo"
    ran = handful_process("demo", "--out", out, HANDFUL_CACHE=str(tmp_path / "cache"))
    said = ran.done()
    head = next(line for line in said.splitlines() if line.startswith("method"))
    assert re.fullmatch(r"method +1 shot +2 shots", head)
    for name in demo._METHODS:
        row = next(line for line in said.splitlines() if line.startswith(f"{name} "))
        assert re.fullmatch(rf"{re.escape(name)} +[\d.]+% ± [\d.]+% +[\d.]+% ± [\d.]+%", row)
    answers = re.findall(r"^  (\w+)/\S+: (.+) [\d.]+% \((.+)\)$", said, re.MULTILINE)
    assert len(answers) == 3
    for truth, label, verdict in answers:
        assert verdict == ("right" if label == truth else f"it is a {truth}")
    assert f"handful predict {out} YOUR_IMAGE.jpg --top 3" in said
    assert "handful fit YOUR_FOLDER --out my-classifier" in said
    assert all(len(line) <= 80 for line in said.splitlines() if str(out) not in line)
    photo = next(demo.PHOTOS.glob("windmill/*.webp"))
    assert "windmill" in handful_process("predict", out, photo).done()


@pytest.mark.slow
def test_demo_document_and_again_without_force(quick) -> None:
    found = quick("--json").document()
    cells = {(row["method"], row["shots"]) for row in found["table"]}
    assert cells == {(name, k) for name in demo._METHODS for k in (1, 2)}
    assert all(0 <= row["mean"] <= 1 and row["deviation"] == 0 for row in found["table"])
    assert found["seeds"] == 1
    assert found["method"] == registry.DEFAULT_METHOD
    config = json.loads(Path("handful-demo/config.json").read_text())
    assert config["support"]["counts"] == [2] * 9
    assert len(found["predictions"]) == 3
    learnt = set(config["support"]["digests"])
    for answer in found["predictions"]:
        photo = demo.PHOTOS / answer["image"]
        assert photo.parent.name == answer["truth"]
        assert hashlib.sha256(photo.read_bytes()).hexdigest() not in learnt
    assert quick("--json").document() == found
    assert list(Path().iterdir()) == [Path("handful-demo")]


def test_the_number_of_photographs_is_as_said() -> None:
    assert len(list(demo.PHOTOS.glob("*/*.webp"))) == 104
    assert len([folder for folder in demo.PHOTOS.iterdir() if folder.is_dir()]) == 9


def test_demo_replaces_nothing_of_the_users(
    quick, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a folder of something else nor another classifier; and it says so before the work."""

    def work(*_: object, **__: object) -> None:
        raise AssertionError("this is the work")

    monkeypatch.setattr(demo, "gather_images", work)
    mine = tmp_path / "mine"
    shutil.copytree(model, mine)
    before = (mine / "config.json").read_bytes()
    quick("--json", "--out", mine).refused(f"{mine} exists already", "--force")
    assert (mine / "config.json").read_bytes() == before
    other = tmp_path / "model"
    other.mkdir()
    (other / "config.json").write_text("{}")
    (other / "model.safetensors").write_text("precious")
    quick("--json", "--out", other).refused(f"{other} exists already")
    quick("--json", "--out", other, "--force").refused("holds other files")
    assert (other / "model.safetensors").read_text() == "precious"


def test_demo_needs_its_extra(quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(spec: str) -> None:
        raise InputError(f"the encoder {spec} needs packages: pip install 'handful[lite]'.")

    monkeypatch.setattr(demo, "load_encoder", missing)
    quick("--json", "--out", tmp_path / "out").refused("pip install 'handful[lite]'")
    assert not (tmp_path / "out").exists()
