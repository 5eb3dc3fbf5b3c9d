"""Features of several encoders as one source: ``--features A+B``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful import Features, InputError, save_features
from handful.benchmark.one_run import task_of
from handful.benchmark.plan import Plan
from handful.benchmark.plan_file import read_plan
from handful.benchmark.protocols import draw
from handful.benchmark.runner import run_plan
from handful.benchmark.sources import feature_paths, features_source

CLASSES, PER_CLASS = 3, 8
LABELS = np.repeat(np.arange(CLASSES), PER_CLASS)


def made(width: int, seed: int, **more: Any) -> Features:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, width))
    X = centres[LABELS] + 0.5 * rng.normal(size=(len(LABELS), width))
    given = {
        "labels": LABELS,
        "class_embeddings": centres + 0.5 * rng.normal(size=centres.shape),
        "class_names": ("ant", "bee", "cow"),
        "split": np.tile([0, 0, 0, 0, 1, 1, 2, 2], CLASSES),
        "view_features": X[:, None] + 0.1,
        "paths": tuple(f"{i}.png" for i in range(len(LABELS))),
        "encoder": f"encoder-{seed}",
        "fingerprint": str(seed) * 64,
        "logit_scale": 10.0 * seed,
    }
    return Features(X, **(given | more))


A, B = made(5, 1), made(3, 2)


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., str]:
    """Write two features files and return ``A+B``."""

    def write(first: Features = A, second: Features = B, folder: Path = tmp_path) -> str:
        paths = folder / "a.safetensors", folder / "b.safetensors"
        for path, features in zip(paths, (first, second), strict=True):
            save_features(path, features, overwrite=True)
        return "+".join(map(str, paths))

    return write


def test_two_files_are_one_source(files) -> None:
    source = features_source(files())
    assert source.name == "a+b" and source.widths == (5, 3)
    np.testing.assert_array_equal(
        source.image_features, np.concatenate([A.image_features, B.image_features], axis=1)
    )
    assert source.view_features is not None
    assert source.view_features.shape == (24, 1, 8)
    told = source.to_json()
    assert (told["dim"], told["encoder"]) == (8, "encoder-1+encoder-2")
    assert told["fingerprint"] == "1" * 64 + "+" + "2" * 64
    assert told["logit_scale"] == 10.0
    json.dumps(told)


def test_a_task_of_both(files) -> None:
    source = features_source(files())
    drawn = draw("coop", source, 2, 1)
    task = task_of(source, drawn, "val")
    assert task.widths == (5, 3) and task.class_embeddings.shape == (3, 5)  # type: ignore[union-attr]
    np.testing.assert_array_equal(task.X, source.image_features[drawn.support])
    np.testing.assert_array_equal(task.X_val, source.image_features[drawn.validation])  # type: ignore[arg-type]
    np.testing.assert_array_equal(task.views, source.view_features[drawn.support])  # type: ignore[arg-type,index]


def test_the_first_encoder_says_which_images_are_alike(files) -> None:
    """As it would alone: two images are one to it, and all are one to the other."""
    alike, flat = A.image_features.copy(), np.ones_like(B.image_features)
    alike[0:4] = alike[0] * np.array([[1], [2], [3], [4]])
    source = features_source(
        files(replace(A, image_features=alike), replace(B, image_features=flat))
    )
    drawn = draw("coop", source, 4, 1)
    groups = task_of(source, drawn, "val").groups
    assert groups is not None
    assert len(np.unique(groups)) == 9 and len(np.unique(groups[:4])) == 1


def test_one_file_is_what_it_was(files) -> None:
    source = features_source(Path(files().split("+")[0]))
    assert source.widths is None and source.further == ()
    assert source.image_features is source.features.image_features


def test_the_digest_tells_each_file_and_their_order(files, tmp_path: Path) -> None:
    both = files()
    one, other = both.split("+")
    digests = {features_source(given).digest for given in (one, other, both, f"{other}+{one}")}
    changed = B.image_features.copy()
    changed[0, 0] += 1
    digests.add(features_source(files(A, replace(B, image_features=changed))).digest)
    assert len(digests) == 5


def test_a_file_with_a_plus_sign_in_its_name_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a+b.safetensors"
    save_features(path, A)
    assert feature_paths(str(path)) == (str(path),)
    assert features_source(path).widths is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": LABELS[::-1].copy()}, "differ in their labels: side by side go only"),
        ({"class_names": ("ant", "bee", "dog")}, "differ in their class names"),
        ({"split": None}, ""),
        ({"split": np.zeros(24, int)}, "differ in their split"),
        ({"paths": tuple(f"{i}.png" for i in range(1, 25))}, "differ in their paths"),
        ({"paths": None, "class_names": None, "class_embeddings": None}, ""),
        ({"view_features": None}, "has 1 views of each image, but .*b.safetensors has 0: embed"),
    ],
)
def test_files_of_other_images_are_refused(files, change: dict[str, Any], words: str) -> None:
    given = files(A, replace(B, **change))
    if not words:  # what a file does not tell cannot differ
        assert features_source(given).widths == (5, 3)
        return
    with pytest.raises(InputError, match=words) as caught:
        features_source(given)
    assert "\n" not in str(caught.value)


def test_files_of_unequal_length_are_refused(files) -> None:
    short = Features(B.image_features[:20], class_names=B.class_names)
    with pytest.raises(InputError, match="differ in their number of images"):
        features_source(files(A, short))


def test_the_text_comes_first(files) -> None:
    given = files(replace(A, class_embeddings=None), B)
    with pytest.raises(InputError, match=r"a.safetensors has no class embeddings, but .*: name b"):
        features_source(given)


def test_cafo_runs_over_both_and_can_be_repeated(files, tmp_path: Path) -> None:
    given = files()
    plan = Plan(
        (given,), methods=("cafo",), shots=(2,), seeds=(1,), settings={"all": {"epochs": 2}}
    )
    run_plan(plan, tmp_path / "r.jsonl", 1)
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    (run,) = [line for line in lines if line["kind"] == "run"]
    assert run["accuracy"] > 1 / 3
    assert run["trained_parameters"] == 6 * 8
    command = run["command"]
    assert command[command.index("--features") + 1] == given


def test_other_methods_are_refused_before_any_file_is_read() -> None:
    with pytest.raises(InputError, match=r"'zero-shot' takes one encoder, and there are 2: a.s, b"):
        Plan(("a.s+b.s",), methods=("cafo", "zero-shot"))
    Plan(("a.s", "b.s"), methods=("zero-shot",))


def test_a_plan_names_both_from_its_folder(files, tmp_path: Path) -> None:
    files()
    save_features(tmp_path / "c+d.safetensors", A)
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'features = ["a.safetensors+b.safetensors", "c+d.safetensors"]\nmethods = ["cafo"]\n'
    )
    found = read_plan(plan)
    assert found.features == (
        f"{tmp_path / 'a.safetensors'}+{tmp_path / 'b.safetensors'}",
        str(tmp_path / "c+d.safetensors"),
    )
    assert [source.widths for source in found.sources()] == [(5, 3), None]
