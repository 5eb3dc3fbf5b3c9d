"""Classifiers on checkpoints: with and without text, moved, replaced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handful import FewShotClassifier
from handful.classifier.summary import summary
from handful.errors import InputError
from handful.methods.registry import get, names

# Not those that need names, a projection into the space of names, or a correction beside it.
LEARN_ALONE = [
    n
    for n in names()
    if n != "zero-shot" and not get(n).before_projection and not get(n).needs_correction
]


@pytest.fixture(scope="module")
def images(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for label in ("dam", "scissors"):
        (folder / label).mkdir()
        for path in sorted((photos / label).iterdir())[:4]:
            shutil.copy(path, folder / label)
    return folder


@pytest.mark.parametrize("method", LEARN_ALONE)
def test_every_method_learns_without_text(
    tiny: Callable[[str], Path], images: Path, tmp_path: Path, method: str
) -> None:
    fitted = FewShotClassifier(f"dir:{tiny('dinov2')}", method).fit(str(images))
    assert fitted.zero_shot_ is None
    assert fitted.templates_ == ()
    fitted.save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model")
    some = [str(path) for path in images.rglob("*.webp")]
    np.testing.assert_allclose(loaded.predict_proba(some), fitted.predict_proba(some), atol=1e-9)


def test_the_summary_says_that_there_is_no_text(tiny, images: Path) -> None:
    fitted = FewShotClassifier(f"dir:{tiny('dinov2')}", "linear-probe").fit(str(images))
    said = " ".join(" ".join(summary(fitted, "images")).split())
    assert "without text: it learns from the images alone" in said


@pytest.mark.parametrize(
    ("method", "templates", "words"),
    [
        ("zero-shot", None, "no text tower, so zero-shot has nothing to read class names with"),
        ("tip-adapter", "a {}", "no text tower, so a prompt template has nothing to read"),
    ],
)
def test_what_needs_text_says_why_it_cannot_be(tiny, images, method, templates, words) -> None:
    classifier = FewShotClassifier(f"dir:{tiny('dinov2')}", method, templates=templates)
    with pytest.raises(InputError, match=words):
        classifier.fit(str(images))


def test_a_moved_encoder_is_named_anew(tiny, images: Path, tmp_path: Path) -> None:
    first = shutil.copytree(tiny("clip"), tmp_path / "first")
    fitted = FewShotClassifier(f"dir:{first}", "tip-adapter").fit(str(images))
    fitted.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["encoder"]["spec"] == f"dir:{first}"
    one = [str(next(images.rglob("*.webp")))]
    expected = fitted.predict_proba(one)
    second = first.rename(tmp_path / "second")
    with pytest.raises(InputError, match=r"names no folder.*--encoder dir:FOLDER"):
        FewShotClassifier.load(tmp_path / "model").predict(one)
    moved = FewShotClassifier.load(tmp_path / "model", encoder=f"dir:{second}")
    np.testing.assert_array_equal(moved.predict_proba(one), expected)
    assert moved.verified


def test_another_encoder_of_the_same_width_is_refused(tiny, images: Path, tmp_path: Path) -> None:
    FewShotClassifier(f"dir:{tiny('clip')}", "tip-adapter").fit(str(images)).save(tmp_path / "m")
    one = [str(next(images.rglob("*.webp")))]
    for other in (f"dir:{tiny('clip-legacy')}", f"dir:{tiny('clip')}?style=coop"):
        with pytest.raises(InputError, match="is now another"):
            FewShotClassifier.load(tmp_path / "m", encoder=other).predict(one)


def test_a_relative_folder_is_found_from_elsewhere(tiny, images, tmp_path, monkeypatch) -> None:
    shutil.copytree(tiny("clip"), tmp_path / "here" / "clip")
    monkeypatch.chdir(tmp_path / "here")
    FewShotClassifier("dir:clip", "tip-adapter").fit(str(images)).save(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    one = [str(next(images.rglob("*.webp")))]
    assert FewShotClassifier.load(tmp_path / "m").predict(one)[0] in ("dam", "scissors")


def test_the_configured_encoder_is_used_and_said(tiny, images: Path, monkeypatch) -> None:
    monkeypatch.setenv("HANDFUL_ENCODER", f"dir:{tiny('clip')}")
    fitted = FewShotClassifier(method="tip-adapter").fit(str(images))
    assert fitted.encoder_.spec == f"dir:{tiny('clip')}"
    assert fitted.encoder_why_ == "named in HANDFUL_ENCODER"
    said = " ".join(" ".join(summary(fitted, "images")).split())
    assert "(named in HANDFUL_ENCODER)" in said
