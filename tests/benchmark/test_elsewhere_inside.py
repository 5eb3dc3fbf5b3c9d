"""Encoders that were trained on some classes read the names of others."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handful import load_encoder
from handful.benchmark.exam import Exam
from handful.benchmark.plan import Plan
from handful.benchmark.runner import run_plan
from handful.encoders.templates import prompts
from handful.tuning import registry
from handful.tuning.training import tune

COLOURS = {"blue": (20, 20, 230), "green": (20, 220, 20), "pink": (250, 150, 180),
           "red": (230, 10, 10)}  # fmt: skip
LEARNING = {"fine-tune": {"steps": 3, "lr": 1e-2}, "coop": {"epochs": 2, "context_tokens": 4}}


def painted(folder: Path, names: tuple[str, ...], each: int, seed: int) -> str:
    """Noise around the colour of each class, in three splits."""
    rng = np.random.default_rng(seed)
    for split in ("train", "val", "test"):
        for name in names:
            (folder / split / name).mkdir(parents=True)
            for i in range(each):
                pixels = rng.normal(COLOURS[name], 70, size=(32, 32, 3)).clip(0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{i}.png")
    return str(folder)


@pytest.fixture(scope="module")
def clip(tiny: Callable[[str], Path]) -> str:
    return f"dir:{tiny('clip')}"


def found(plan: Plan, out: Path) -> dict[str, dict[str, Any]]:
    run_plan(plan, out)
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return {row["method"]: row for row in lines if row["kind"] == "run"}


def right(test: dict[str, Any]) -> list[bool]:
    bits = np.frombuffer(base64.b64decode(test["right"]), np.uint8)
    return np.unpackbits(bits, count=test["test_images"]).astype(bool).tolist()


def plan_of(clip: str, protocol: str, *images: str, **more: Any) -> Plan:
    asked: dict[str, Any] = {
        "encoder": clip,
        "shots": (2,),
        "seeds": (1,),
        "select": "fixed",
        "methods": ("zero-shot", *LEARNING),
        "settings": {"all": {"views": 1}, **LEARNING},
    }
    return Plan(images=images, protocol=protocol, **(asked | more))


def test_a_trained_encoder_reads_the_new_names(clip: str, tmp_path: Path) -> None:
    """Trained once more, by another way, from what the line says."""
    plan = plan_of(clip, "base-to-new", painted(tmp_path / "four", tuple(COLOURS), 3, 0))
    lines = found(plan, tmp_path / "out.jsonl")
    assert [line["tests"][0]["by"] for line in lines.values()] == list(lines)
    row = lines["fine-tune"]
    (exam,) = plan.exams()
    base, new = exam.learnt_from, exam.elsewhere(2, 1)[0]
    assert isinstance(exam, Exam)
    assert base.pictures is not None
    assert new.source.pictures is not None
    assert base.pictures.prompts.names == ("blue", "green")
    whole = exam.source
    assert whole.pictures is not None
    encoder = load_encoder(clip)
    again = tune(
        registry.get("fine-tune")(**row["settings"]),
        encoder,
        whole.pictures.of(np.array(row["support"]), whole.labels),
        base.pictures.prompts,
        seed=1,
    )
    X = again.encode_images(np.stack([new.source.pictures.shown([i])[0] for i in new.rows]))
    texts = [prompts([name], encoder.default_templates) for name in ("pink", "red")]
    pooled = [np.stack([v / np.linalg.norm(v) for v in again.encode_texts(t)]) for t in texts]
    logits = X @ np.stack([one.mean(0) / np.linalg.norm(one.mean(0)) for one in pooled]).T
    assert right(row["tests"][0]) == (logits.argmax(1) == new.source.labels[new.rows]).tolist()


def test_without_training_it_is_zero_shot_everywhere(clip: str, tmp_path: Path) -> None:
    four = painted(tmp_path / "four", tuple(COLOURS), 3, 0)
    two = painted(tmp_path / "two", ("red", "blue"), 3, 1)
    for protocol in ("base-to-new", "shift", "transfer"):
        more: dict[str, Any] = {} if protocol == "base-to-new" else {"test_on": (two,)}
        plan = plan_of(
            clip, protocol, four, methods=("zero-shot", "fine-tune"),
            settings={"all": {"steps": 0, "views": 1}}, **more,
        )  # fmt: skip
        lines = found(plan, tmp_path / f"{protocol}.jsonl")
        zero, tuned = (lines[name]["tests"][0] for name in ("zero-shot", "fine-tune"))
        assert right(tuned) == right(zero)
        assert zero["test_images"] == 6
    # Red is column 3 and blue column 0 of four; in its own source red is the second of two.
    words = lines["fine-tune"]["command"]
    assert words[words.index("--test-on") + 1] == two


def test_vectors_for_each_class_say_nothing_of_others(clip: str, tmp_path: Path) -> None:
    settings = {"coop": {**LEARNING["coop"], "class_specific": True}}
    four = painted(tmp_path / "four", tuple(COLOURS), 3, 0)
    asked: dict[str, Any] = {"methods": ("zero-shot", "coop"), "settings": settings}
    lines = found(plan_of(clip, "base-to-new", four, **asked), tmp_path / "out.jsonl")
    zero, own = (lines[name]["tests"][0] for name in ("zero-shot", "coop"))
    assert own["by"] == "zero-shot"
    assert right(own) == right(zero)
