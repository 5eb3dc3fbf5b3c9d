"""``handful bench run`` as a user meets it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_corrections import small_correction

from handful import Features, load_features, methods, save_features

NAMES = ("airport", "beach", "bridge")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 24 images with text and views, in three splits. Tests do not change it."""
    rng = np.random.default_rng(1)
    labels = np.tile([0, 1, 2], 24)
    centres = rng.normal(size=(3, 8))
    X = centres[labels] + 0.8 * rng.normal(size=(72, 8))
    path = tmp_path_factory.mktemp("toy") / "toy.safetensors"
    save_features(
        path,
        Features(
            X,
            labels=labels,
            split=np.repeat([0, 1, 2], 24),
            view_features=X[:, None] + 0.1 * rng.normal(size=(72, 2, 8)),
            class_embeddings=centres + 0.5 * rng.normal(size=(3, 8)),
            class_names=NAMES,
            logit_scale=20.0,
            pooled_features=X,
            projection=np.eye(8),
        ),
    )
    return path


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results.jsonl"


def rows(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [row for row in found if row["kind"] == "run"]


QUICK = ("--methods", "zero-shot,tip-adapter", "--shots", "1,2", "--seeds", "1")


def test_it_runs_once_and_says_so(handful, toy: Path, out: Path) -> None:
    said = handful("bench", "run", "--features", toy, "--out", "results.jsonl", *QUICK).done()
    assert said == (
        "4 runs made, 0 were there: 4 in results.jsonl.\nNext: handful bench table results.jsonl\n"
    )
    before = out.read_bytes()
    said = handful("bench", "run", "--features", toy, "--out", "results.jsonl", *QUICK).done()
    assert said == "Nothing to do: all 4 runs are in results.jsonl.\n"
    assert out.read_bytes() == before
    more = ("bench", "run", "--features", toy, "--out", out, *QUICK, "--seeds", "1-2", "--json")
    assert handful(*more).document() == {"runs": 8, "there": 4, "made": 4, "out": str(out)}
    assert handful(*more).document() == {"runs": 8, "there": 8, "made": 0, "out": str(out)}
    assert [one.name for one in out.parent.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize("name", methods.names())
@pytest.mark.parametrize("select", ["val", "cv"])
def test_a_run_repeats_from_its_own_command(
    handful, toy: Path, out: Path, name: str, select: str
) -> None:
    more = ("--set", "output-relu=false") if name == "clip-adapter" else ()
    more += ("--set", "epochs=5") if "epochs" in methods.get(name)().settings() else ()
    if methods.get(name).needs_correction:
        small_correction(8).save(out.with_name("c.safetensors"))
        more += ("--correction", str(out.with_name("c.safetensors")))
    handful("bench", "run", "--features", toy, "--out", out, "--methods", name, "--shots", "3",
            "--seeds", "2", "--select", select, *more).done()  # fmt: skip
    (row,) = rows(out)
    assert row["command"][0] == "handful"
    assert (row["validation"] is None) == (select == "cv")
    if name == "clip-adapter":
        assert row["given"] == {"output_relu": False, "epochs": 5}
    handful(*row["command"][1:]).done()
    (again,) = rows(out.with_name("again.jsonl"))
    of_the_moment = (
        "fit_seconds",
        "fit_processor_seconds",
        "predict_seconds",
        "peak_memory_mb",
        "time",
    )
    assert {k: v for k, v in again.items() if k not in of_the_moment} == {
        k: v for k, v in row.items() if k not in of_the_moment
    }


def test_photographs(handful, learnt: Path, others: Path, lite: None, out: Path) -> None:
    """Folders have no test split: all images that are not learnt from are the test."""
    flags = ("--encoder", "lite", "--template", "a photo of a {}.", "--select", "cv", *QUICK)
    handful("bench", "run", "--images", learnt, "--out", out, *flags).done()
    source, *_ = (json.loads(line) for line in out.read_text("utf-8").splitlines())
    assert source["name"] == f"{learnt.name}, lite"
    assert (source["encoder"], source["templates"]) == ("lite", ["a photo of a {}."])
    assert source["fingerprint"] and source["images"] == 9
    found = rows(out)
    assert [(r["method"], r["shots"], r["test_images"]) for r in found] == [
        ("zero-shot", 1, 6),
        ("tip-adapter", 1, 6),
        ("zero-shot", 2, 3),
        ("tip-adapter", 2, 3),
    ]
    handful(*found[3]["command"][1:]).done()
    (again,) = rows(out.with_name("again.jsonl"))
    assert again["key"] == found[3]["key"]
    assert (again["accuracy"], again["settings"]) == (found[3]["accuracy"], found[3]["settings"])


@pytest.mark.slow
def test_all_photographs(handful, photos: Path, lite: None, out: Path) -> None:
    """Four shots leave no scissors for the test, and the other 100 − 32 − … images."""
    handful("bench", "run", "--images", photos, "--encoder", "lite", "--out", out,
            "--methods", "zero-shot,clip-adapter", "--shots", "4", "--seeds", "1",
            "--select", "cv").done()  # fmt: skip
    zero_shot, adapted = rows(out)
    assert zero_shot["test_images"] == 104 - 9 * 4
    assert "scissors" not in zero_shot["per_class"] and len(zero_shot["per_class"]) == 8
    assert adapted["accuracy"] > zero_shot["accuracy"]


def test_a_plan(handful, toy: Path, out: Path) -> None:
    shutil.copy(toy, out.with_name("images.safetensors"))
    (out.parent / "plans").mkdir()
    plan = out.parent / "plans" / "plan.toml"
    plan.write_text(
        'features = ["../images.safetensors"]\nmethods = ["tip-adapter", "tip-adapter-f"]\n'
        'shots = [1, 2]\nseeds = [4]\nselect = "cv"\n[settings.all]\nblend = 2\n'
        "[settings.tip-adapter-f]\nepochs = 3\n"
    )
    handful("bench", "run", "--plan", plan, "--out", out).done()
    found = rows(out)
    assert [(r["method"], r["shots"], r["seed"], r["select"], r["given"]) for r in found] == [
        ("tip-adapter", 1, 4, "cv", {"blend": 2}),
        ("tip-adapter-f", 1, 4, "cv", {"blend": 2, "epochs": 3}),
        ("tip-adapter", 2, 4, "cv", {"blend": 2}),
        ("tip-adapter-f", 2, 4, "cv", {"blend": 2, "epochs": 3}),
    ]
    ran = handful("bench", "run", "--plan", plan, "--out", out, "--shots", "1,4", "--json")
    assert ran.document() == {"runs": 4, "there": 2, "made": 2, "out": str(out)}
    # As many flags as a plan has keys: none of them is lost on the way.
    ran = handful("bench", "run", "--plan", plan, "--out", out, "--features", toy, "--methods",
                  "zero-shot", "--seeds", "1", "--shots", "1", "--protocol", "coop", "--select",
                  "fixed", "--set", "blend=1", "--json")  # fmt: skip
    ran.refused("no method of this plan has the setting 'blend'")


Given = Callable[[Path], tuple[object, ...]]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda f: (), "there is nothing to run on: give --features FILE.safetensors, or --images"),
        (lambda f: ("--features", "no"), "no does not exist"),
        (lambda f: ("--images", "no"), "no does not exist"),
        (lambda f: ("--images", f), "holds features, not images"),
        (lambda f: ("--features", f, "--protocol", "co-op"), "Did you mean 'coop'?"),
        (lambda f: ("--features", f, "--select", "test"), "there is no selection policy 'test'"),
        (lambda f: ("--features", f, "--methods", "tip"), "there is no method 'tip'"),
        (lambda f: ("--features", f, "--methods", ","), "there is no method to run"),
        (lambda f: ("--features", f, "--shots", "all"), "--shots is 'all': expected numbers such"),
        (lambda f: ("--features", f, "--shots", "0"), "shots are [0]: expected numbers from 1"),
        (lambda f: ("--features", f, "--seeds", "a"), "--seeds is 'a': expected numbers such as"),
        (lambda f: ("--features", f, "--set", "blend"), "--set is 'blend': expected NAME=VALUE"),
        (lambda f: ("--features", f, "--set", "blend=x"), "is 'x': expected a number from 0"),
        (lambda f: ("--features", f, "--set", "blent=1"), "Did you mean 'blend'?"),
        (lambda f: ("--features", f, "--set", "blend=-1"), "setting 'blend' of method"),
        (lambda f: ("--features", f, "--jobs", "0"), "expected"),
        (lambda f: ("--features", f, "--plan", "no.toml"), "the plan no.toml cannot be read"),
        (lambda f: ("--features", f, "--plan", f), "cannot be read"),
        (lambda f: ("--features", f, "--features", f), "two sources are called 'toy'"),
        (lambda f: ("--features", f, "--shots", "9"), "has 8 images of 'airport' to learn from"),
        (lambda f: ("--features", f, "--protocol", "whu", "--shots", "17"), "16 shots at most"),
        (lambda f: ("--features", f, "--encoder"), "--encoder"),
    ],
)  # fmt: skip
def test_refused(handful, toy: Path, out: Path, given: Given, says: str) -> None:
    handful("bench", "run", "--out", "results.jsonl", *given(toy)).refused(says)
    assert list(out.parent.iterdir()) == []


def test_features_that_cannot_be_compared_on(handful, toy: Path, out: Path) -> None:
    f = load_features(toy)
    save_features("unlabelled.safetensors", replace(f, labels=None, split=None))
    handful("bench", "run", "--features", "unlabelled.safetensors", "--out", out).refused(
        "unlabelled has no labels: methods can be compared on labelled images only"
    )
    save_features("plain.safetensors", replace(f, split=None))
    handful("bench", "run", "--features", "plain.safetensors", "--out", out).refused(
        "plain has no validation images under the protocol coop", "use --select cv or fixed"
    )
    handful(
        "bench", "run", "--features", "plain.safetensors", "--out", out, "--protocol", "whu",
        "--shots", "16", "--seeds", "1", "--methods", "zero-shot",
    ).done()  # fmt: skip
    few = np.flatnonzero((f.labels != 1) | (np.arange(72) < 60))
    save_features(
        "few.safetensors",
        Features(f.image_features[few], labels=f.labels[few], class_names=NAMES),  # type: ignore[index]
    )
    handful(
        "bench", "run", "--features", "few.safetensors", "--out", out, "--protocol", "whu"
    ).refused("more than 20 images per class, but 'beach' of few has 20: use the protocol coop")


def test_results_that_cannot_be_added_to(handful, toy: Path, out: Path) -> None:
    flags = ("bench", "run", "--features", toy, *QUICK, "--out")
    handful(*flags, out.parent).refused(f"{out.parent} cannot be read: Is a directory")
    out.write_text("[tool]\nname = 3\n")
    handful(*flags, out).refused(f"{out}, line 1, is no line of results", "give another file")
    assert out.read_text() == "[tool]\nname = 3\n"
    handful(*flags, out / "below.jsonl").refused(f"{out / 'below.jsonl'} cannot be")
    assert [one.name for one in out.parent.iterdir()] == ["results.jsonl"]
    handful(*flags, out.parent / "new" / "results.jsonl").done()


def test_out_is_asked_for(handful, toy: Path) -> None:
    handful("bench", "run", "--features", toy).refused("--out", "See 'handful bench run --help'.")
