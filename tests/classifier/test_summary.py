"""The words about a fitted classifier: what is known of its accuracy, and what to do next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from handful import FewShotClassifier
from handful.classifier.card import in_words
from handful.classifier.summary import next_step, summary
from handful.evaluation.estimate import Estimate

GOOD = Estimate(0.95, 0.9, 0.98, 100, "cross-validation")
ZERO_SHOT = Estimate(0.7, 0.6, 0.8, 100, "support")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("validation", "from 100 validation images"),
        ("cross-validation", "from 100 images by cross-validation"),
        ("support", "from the 100 training images"),
    ],
)
def test_an_estimate_in_words(source: Any, words: str) -> None:
    said = in_words(replace(GOOD, source=source))
    assert said == f"95.0% on new images (90% interval 90.0% to 98.0%, {words})"


def advice(**changes: Any) -> str:
    """The next step for a good classifier on many images, but for these changes."""
    unused = changes.pop("unused", 0)
    known = {
        "method": "tip-adapter",
        "estimate_": GOOD,
        "zero_shot_": ZERO_SHOT,
        "counts_": (30, 20, 50),
        "classes_": ("a", "b", "c"),
        "gathered_": SimpleNamespace(unused=unused),
        "encoder": None,
        "correction": None,
        **changes,
    }
    return next_step(SimpleNamespace(**known), "my images", "my model")  # type: ignore[arg-type]


def test_the_one_most_useful_next_step() -> None:
    fit = "handful fit 'my images' --out NEW"
    assert advice() == (
        "test it on images that it has not seen: handful evaluate 'my model' OTHERS"
    )
    assert advice(method="zero-shot", estimate_=ZERO_SHOT).endswith(f": {fit}")
    learn = "learn from the other 7 images, too: "
    assert advice(unused=7, method="best") == learn + fit
    assert advice(unused=7) == f"{learn}{fit} --method tip-adapter"
    assert advice(unused=7, encoder=["lite", "dir:a b"], correction="c d.safetensors") == (
        f"{learn}handful fit 'my images' --encoder lite --encoder 'dir:a b' --out NEW --method "
        "tip-adapter --correction 'c d.safetensors'"
    )
    assert "second image per class" in advice(estimate_=None, counts_=(1, 1, 1))
    assert advice(zero_shot_=replace(ZERO_SHOT, accuracy=0.96)).endswith(
        f"{fit} --method zero-shot"
    )
    wide = replace(GOOD, low=0.7)
    low = replace(GOOD, accuracy=0.79, low=0.75, high=0.83)
    for estimate in (wide, low):
        assert advice(estimate_=estimate) == "add images, first of 'b' (20 now), and fit again"
    assert advice(zero_shot_=None).startswith("test it on")


def test_a_loaded_classifier_has_a_summary_too(fitted: FewShotClassifier, tmp_path: Path) -> None:
    again = FewShotClassifier.load(fitted.save(tmp_path / "model"), encoder=fitted.encoder)
    assert summary(again, "pictures") == summary(fitted, "pictures")
    assert next_step(again, "pictures", "model") == next_step(fitted, "pictures", "model")


def test_the_summary_lists_at_most_eight_classes(encoder, paint, tmp_path: Path) -> None:
    for n in range(9):
        paint(tmp_path / "many", n=2, seed=n, colours=("red",))
        (tmp_path / "many" / "red").rename(tmp_path / "many" / f"class {n}")
    classifier = FewShotClassifier(encoder, "zero-shot").fit(tmp_path / "many")
    first = summary(classifier, "many")[0]
    assert first.startswith("Classes       9: class 0, class 1")
    assert first.endswith("class 7, …")


def test_a_setting_at_the_end_of_its_range_is_told(fitted: FewShotClassifier) -> None:
    fitted.selection_ = {**fitted.selection_, "border": ["sharpness"]}
    assert summary(fitted, "x")[-1] == "Note          sharpness was chosen at the end of its range"
