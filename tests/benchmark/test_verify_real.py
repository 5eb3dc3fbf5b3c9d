"""``make verify-real`` where no real checkpoint is: everything of it but the weights."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from known_encoder import encoder
from PIL import Image
from safetensors import safe_open

from handful.encoders.known_answers import known_answers
from handful.encoders.preprocess import Preprocess
from handful.encoders.spec import load_encoder
from handful.errors import InputError

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "verify_real.py"
KNOWN = [answers.name for answers in known_answers()]


def png(mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (90, 120, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path) -> Any:
    """The script with a network of our own: four photographs, and encoders that are right."""
    spec = importlib.util.spec_from_file_location("verify_real", PATH)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "verify_real", module)  # its dataclass looks itself up
    spec.loader.exec_module(module)
    for name in ("dam", "fish"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for path in sorted((photos / name).glob("*.webp"))[:2]:
            shutil.copy(path, tmp_path / "photos" / name)
    monkeypatch.setattr(module, "PHOTOS", tmp_path / "photos")
    monkeypatch.setattr(module, "is_reachable", lambda name: True)
    monkeypatch.setattr(module, "load_encoder", fake)
    monkeypatch.setattr(module, "download", lambda url: png())
    answers = []
    for known in module.KNOWN_IMAGES:  # what the fake tower says stands for what the real one says
        image = Image.open(io.BytesIO(png()))
        scores = 99.99998 * module.cosines(fake(f"hf:{KNOWN[0]}"), [image], known.texts)[0]
        right = torch.softmax(scores, 0) if known.probabilities else scores
        answers.append(replace(known, answers=tuple(right.tolist())))
    monkeypatch.setattr(module, "KNOWN_IMAGES", tuple(answers))
    return module


def fake(spec: str) -> Any:
    name = spec.removeprefix("hf:")
    return encoder(name) if name in KNOWN else encoder(KNOWN[0], spec)


def sections(text: str) -> dict[str, list[list[str]]]:
    """Name of each checkpoint, and the first two words of the rows of its table."""
    found: dict[str, list[list[str]]] = {}
    for part in text.split("\n\n")[1:-1]:
        name, _, *rows = part.splitlines()
        found[name] = [row.split()[:2] for row in rows if "───" not in row]
    return found


def test_everything_right(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("handful ")
    assert "transformers" in out.splitlines()[0]
    found = sections(out)
    assert list(found) == list(script.CHECKPOINTS)
    verified = [["tokens", "ok"], ["pixels", "ok"], ["text", "ok"], ["image", "unknown"]]
    assert found[KNOWN[0]][:4] == verified
    assert ["CLIP.png", "ok"] in found[KNOWN[0]]
    assert ["000000039769.jpg", "ok"] in found[KNOWN[0]]
    for name in script.CHECKPOINTS:
        assert ["zero-shot", "unknown"] in found[name]
        assert name == KNOWN[0] or ["CLIP.png", "ok"] not in found[name]
    assert f"{KNOWN[0]}: verified (tokens, pixels, text)" in out
    assert "google/siglip2-base-patch16-224: no known answer for this model" in out
    assert "of 4 photographs" in out
    assert "WHU" not in out
    assert "paste this output into an issue" in out.splitlines()[-1]


def test_no_network_is_one_sentence(script, monkeypatch, capsys) -> None:
    monkeypatch.setattr(script, "is_reachable", lambda name: False)
    monkeypatch.setattr(script, "load_encoder", None)
    monkeypatch.setattr(script, "download", None)
    assert script.main([]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "machine with internet" in err


def test_no_network_in_a_process_of_its_own(tmp_path: Path) -> None:
    """With the libraries as they are, and nothing in the cache."""
    ran = subprocess.run(
        [sys.executable, PATH],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        timeout=60,
    )
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1
    assert "machine with internet" in ran.stderr


def test_what_fails_is_told_and_the_rest_still_runs(script, monkeypatch, capsys) -> None:
    def load(spec: str) -> Any:
        if "base-patch16" in spec and "openai" in spec:
            raise InputError("the hub is gone.")
        if "large" in spec:
            raise KeyError("surprise")
        return fake(spec)

    monkeypatch.setattr(script, "load_encoder", load)
    assert script.main([]) == 1
    out, err = capsys.readouterr()
    found = sections(out)
    assert list(found) == list(script.CHECKPOINTS)
    assert [len(rows) for rows in found.values()] == [8, 1, 1, 6]
    assert "the hub is gone." in out
    assert "KeyError: 'surprise'" in out
    assert "Traceback" in err
    assert "the hub is gone" not in err
    assert "paste this output" in out


def test_a_wrong_model_is_told(script, monkeypatch, capsys) -> None:
    wrong = encoder(KNOWN[0], preprocess=Preprocess(resample="bilinear"))
    monkeypatch.setattr(script, "load_encoder", lambda spec: wrong)
    assert script.main([]) == 1
    assert ["pixels", "off"] in sections(capsys.readouterr().out)[KNOWN[0]]


def test_an_image_that_cannot_be_had_is_no_failure(script, monkeypatch, capsys) -> None:
    def refuse(url: str) -> bytes:
        raise OSError("timed out")

    monkeypatch.setattr(script, "download", refuse)
    assert script.main([]) == 0
    out = capsys.readouterr().out
    assert ["CLIP.png", "unknown"] in sections(out)[KNOWN[0]]
    assert "cannot be had: timed out" in out


def test_known_images_as_published(script, monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.util.spec_from_file_location("verify_real", PATH)
    module = importlib.util.module_from_spec(original)
    original.loader.exec_module(module)
    diagram, cats = module.KNOWN_IMAGES
    assert diagram.answers == (0.9927937, 0.00421068, 0.00299572)
    assert sum(diagram.answers) == pytest.approx(1, abs=1e-6)
    assert cats.answers == (24.5701, 19.3049)

    # Cosines 0.245701 and 0.193049 must be called right, others not.
    class Two:
        logit_scale = 100.0

        def encode_images(self, images: Any) -> np.ndarray:
            assert images[0].mode == "RGB"
            return np.array([[3.0, 0.0, 0.0]], np.float32)

        def encode_texts(self, texts: Any) -> np.ndarray:
            assert tuple(texts) == cats.texts
            return np.array(
                [[c, np.sqrt(1 - c * c), 0] for c in (0.245701, 0.193049 + self.error)], np.float32
            )

    monkeypatch.setattr(module, "download", lambda url: png("P"))
    two = Two()
    two.error = 0.0
    what, result, measured, _ = module.known_image(two, cats)
    assert (what, result) == ("000000039769.jpg", "ok")
    assert measured.startswith("24.57")
    assert measured.endswith(", P)")
    two.error = 3e-4
    assert module.known_image(two, cats)[1] == "off"


def test_satellite_prompts_are_the_published_ones(script, shared: Path) -> None:
    features = shared / "data" / "whu-rs19" / "features" / "clip-vit-b-32.safetensors"
    with safe_open(features, "numpy") as file:
        templates = json.loads(file.metadata()["templates"])
    assert sorted(script.satellite_templates()) == sorted(templates)


def test_zero_shot_counts_right_guesses(script, tmp_path: Path) -> None:
    class Colours:
        spec, fingerprint, dim, preprocess = "colours", "c" * 64, 3, Preprocess(8)

        def encode_images(self, pixels: Any) -> np.ndarray:
            return pixels.mean((1, 2)).astype(np.float32)

        def encode_texts(self, texts: Any) -> np.ndarray:
            words = ("red", "light green", "blue")
            return np.array([[w in text for w in words] for text in texts], np.float32)

    names = {"blue": "blue", "light_green": "green", "red": "red"}
    for name, colour in names.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(2):
            shown = "blue" if (name, i) == ("red", 1) else colour
            Image.new("RGB", (9 + i, 9), shown).save(tmp_path / "images" / name / f"{i}.png")
    accuracy, count = script.zero_shot(Colours(), tmp_path / "images", ["a {}.", "one {}."])
    assert (accuracy, count) == (pytest.approx(5 / 6), 6)


def test_satellite_images_when_they_are_given(script, monkeypatch, capsys) -> None:
    calls = []

    def accuracy(model: Any, folder: Path, templates: Any) -> tuple[float, int]:
        calls.append((folder, len(templates)))
        return 0.809, 1005

    monkeypatch.setattr(script, "zero_shot", accuracy)
    assert script.main(["--whu", "satellite"]) == 0
    out = capsys.readouterr().out
    assert calls.count((Path("satellite"), 106)) == 1  # ViT-B/32 alone: nothing else is published
    assert ["WHU-RS19", "ok"] in sections(out)[KNOWN[0]]
    assert "80.9% of 1005 images" in out
    assert script.satellite_images(None, Path("satellite"))[1] == "ok"
    monkeypatch.setattr(script, "zero_shot", lambda *_: (0.70, 1005))
    assert script.satellite_images(None, Path("satellite"))[1] == "off"


@pytest.mark.parametrize("name", ["clip", "siglip2"])
def test_with_a_real_loader(script, monkeypatch, capsys, name: str, tmp_path: Path) -> None:
    """Tiny models with random weights, so nothing is known of them; yet nothing may break."""
    folder = tiny_models.make(name, tmp_path / name)
    monkeypatch.setattr(script, "load_encoder", lambda spec: load_encoder(f"dir:{folder}"))
    script.main([])
    out = capsys.readouterr().out
    assert "failed" not in out
    assert len(sections(out)) == 4
    assert ["zero-shot", "unknown"] in sections(out)[KNOWN[0]]
