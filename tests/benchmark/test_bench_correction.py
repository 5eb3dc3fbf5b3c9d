"""Runs with a correction: who sees which space, and what the results say of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_corrections import digests_of, small_correction

from handful import Features, InputError, methods, save_features, select
from handful.benchmark.one_run import task_of
from handful.benchmark.plan import Plan
from handful.benchmark.plan_file import read_plan
from handful.benchmark.protocols import draw
from handful.benchmark.runner import run_plan
from handful.benchmark.sources import features_source, with_correction
from handful.features.digests import row_digests
from handful.tuning.corrected_encoder import correct_features
from handful.tuning.correction import Correction

QUICK: dict[str, Any] = {"shots": (2,), "seeds": (1,), "select": "fixed"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng, labels = np.random.default_rng(0), np.tile([0, 1, 2], 8)
    rows = rng.normal(size=(3, 6))[labels] + rng.normal(size=(24, 6))
    features = Features(
        rows,
        labels=labels,
        split=np.repeat([0, 2], 12),
        view_features=rows[:, None],
        class_embeddings=rng.normal(size=(3, 6)),
        fingerprint="f" * 64,
        encoder="somebody's",
    )
    save_features(tmp_path / "data.safetensors", features)
    return tmp_path / "data.safetensors"


@pytest.fixture
def file(data: Path, tmp_path: Path) -> Path:
    """A correction that three test rows and one other taught."""
    rows = features_source(data).features.image_features
    taught = row_digests(rows[[0, 13, 14, 20]])
    small_correction(6, fingerprint="f" * 64, taught=taught).save(tmp_path / "c.safetensors")
    return tmp_path / "c.safetensors"


def made(out: Path, kind: str = "run") -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return [row for row in rows if row["kind"] == kind]


def test_each_method_sees_its_own_space(data: Path, file: Path, tmp_path: Path) -> None:
    out, names = tmp_path / "r.jsonl", ("zero-shot", "tip-adapter", "tip-adapter++", "proker")
    variants = {"proker": {"similarity": ["original", "corrected"]}}
    plan = Plan((str(data),), correction=str(file), methods=names, variants=variants, **QUICK)
    run_plan(plan, out)
    (source,), found = plan.sources(), made(out)
    told = {
        "fingerprint": Correction.load(file).fingerprint,
        "objective": "supervised",
        "taught": 3,
    }
    assert [(row["method"], row["given"], row["correction"]) for row in found] == [
        ("zero-shot", {}, None),
        ("tip-adapter", {}, None),
        ("tip-adapter++", {}, told),
        ("proker", {"similarity": "original"}, None),
        ("proker", {"similarity": "corrected"}, told),
    ]
    # Each is what the head alone makes of the features that it should see.
    plain = features_source(data)
    drawn = draw("coop", plain, 2, 1)
    both = correct_features(plain.features.image_features, Correction.load(file))
    for row in found:
        corrected = row["correction"] is not None
        task = task_of(plain, drawn, "fixed")
        X = plain.image_features
        if corrected:
            views = correct_features(
                plain.features.view_features[drawn.support], Correction.load(file)
            )  # type: ignore[index]
            task, X = replace(task, X=both[drawn.support], views=views, corrected=True), both
        head = select(row["method"], task, "fixed", random_state=1, **row["given"])
        expected = head.score(X[drawn.test], plain.labels[drawn.test])
        assert row["accuracy"] == pytest.approx(expected), row["method"]
    seen = source.seen_by("proker", {"similarity": "corrected"})
    np.testing.assert_array_equal(seen.image_features, both)
    assert source.seen_by("proker").image_features is source.image_features
    (line,) = made(out, "source")
    assert line["correction"]["images"] == 4 and line["name"] == "data, c"
    assert line["flags"] == ["--features", str(data), "--correction", str(file)]


def test_two_corrections_are_two_sources(data: Path, file: Path, tmp_path: Path) -> None:
    """Nothing of one is taken for the other's, or for what was run without."""
    small_correction(6, seed=1).save(tmp_path / "other.safetensors")
    out, names = tmp_path / "r.jsonl", ("tip-adapter",)
    for given in (None, str(file), str(tmp_path / "other.safetensors")):
        plan = Plan((str(data),), correction=given, methods=names, **QUICK)
        assert run_plan(plan, out).made == 1
        assert run_plan(plan, out).made == 0
    assert len({row["key"] for row in made(out)}) == 3


def test_of_all_methods_those_without_it_are_left_out(data: Path, tmp_path: Path) -> None:
    (source,) = Plan((str(data),), **QUICK).sources()
    names = set(methods.names())
    with pytest.warns(RuntimeWarning) as said:
        plan = Plan((str(data),), settings={"all": {"epochs": 1}}, **QUICK)
        plan.check([source])
    assert not any("correct" in str(one.message) for one in said)  # nobody asked for them
    (runs,) = plan.runs(source).values()
    needing = {name for name in names if methods.get(name).needs_correction}
    assert {run.method for run in runs} == names - needing - {"elevater-l1p"}


@pytest.mark.parametrize(
    ("method", "settings"), [("tip-x++", {}), ("ape", {"ape": {"similarity": "corrected"}})]
)
def test_who_asks_for_it_must_give_it(data: Path, tmp_path: Path, method: str, settings) -> None:
    out = tmp_path / "r.jsonl"
    plan = Plan((str(data),), methods=(method,), settings=settings, **QUICK)
    with pytest.raises(InputError, match=r"data: method .* 'handful correct train'"):
        run_plan(plan, out)
    assert not out.exists()


def test_what_does_not_belong_together(data: Path, tmp_path: Path) -> None:
    source = features_source(data)
    small_correction(6, fingerprint="0" * 64).save(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="belongs to the encoder"):
        with_correction(source, str(tmp_path / "other.safetensors"))
    small_correction(5).save(tmp_path / "narrow.safetensors")
    with pytest.raises(InputError, match="width 5"):
        with_correction(source, str(tmp_path / "narrow.safetensors"))
    joint = replace(source, further=(source.features,))
    with pytest.raises(InputError, match="several encoders"):
        with_correction(joint, str(tmp_path / "other.safetensors"))


def test_a_plan_names_it_from_its_folder(data: Path, file: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(f'features = ["{data.name}"]\ncorrection = "{file.name}"\n', "utf-8")
    assert read_plan(plan).correction == str(file)
    assert read_plan(plan, correction="mine.safetensors").correction == "mine.safetensors"


@pytest.mark.parametrize("form", ["blocks", "projection"])
def test_images(form: str, tiny: Callable[[str], Path], photos: Path, tmp_path: Path) -> None:
    """The originals are those of a pass of their own; test images that taught it are known."""
    from handful import load_encoder
    from handful.tuning.correct import train_correction

    pictures = tmp_path / "pictures"
    for name in ("dam", "pliers"):
        (pictures / name).mkdir(parents=True)
        for path in sorted((photos / name).glob("*.webp"))[:4]:
            (pictures / name / path.name).write_bytes(path.read_bytes())
    spec = f"dir:{tiny('clip')}"
    settings = {"width": 2, "scale": 1.0, "batch": 4}
    correction = train_correction(str(pictures), load_encoder(spec), form=form, settings=settings)
    correction.save(tmp_path / "c.safetensors")
    out = tmp_path / "r.jsonl"
    plan = Plan(images=(str(pictures),), encoder=spec, correction=str(tmp_path / "c.safetensors"),
                methods=("tip-adapter", "tip-adapter++"), **QUICK)  # fmt: skip
    run_plan(plan, out)
    plain, plus = made(out)
    assert plain["correction"] is None
    assert correction.taught(digests_of(sorted(pictures.glob("*/*")))) == 8
    assert plus["correction"]["taught"] == plus["test_images"] == 4
    (source,) = plan.sources()
    seen = source.seen_by("tip-adapter++")
    np.testing.assert_array_equal(seen.image_features[:, :24], source.image_features)
    assert not np.allclose(seen.image_features[:, 24:], source.image_features, rtol=1e-3)
    assert plus["inference_seconds_per_image"] > 0
