"""Of a large data set only what a plan draws and tests on is encoded; the results are the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_datasets import make

from handful import load_encoder
from handful.benchmark import listing
from handful.benchmark.plan import Plan
from handful.benchmark.protocols import draw
from handful.benchmark.runner import Ran, run_plan
from handful.benchmark.sources import images_source
from handful.errors import InputError
from handful.features.store import FeatureStore

COLOURS = {"blue": (20, 20, 230), "green": (20, 220, 20), "pink": (250, 150, 180),
           "red": (230, 10, 10)}  # fmt: skip
EACH = {"train": 15, "test": 5}
TESTED = 4 * EACH["test"]
OF_THE_MOMENT = {
    "fit_seconds", "fit_processor_seconds", "predict_seconds", "inference_seconds_per_image",
    "inference_processor_seconds_per_image", "peak_memory_mb", "peak_device_mb", "time", "command",
}  # fmt: skip


def painted(folder: Path, each: dict[str, int], seed: int = 0) -> str:
    """Noise around the colour of each class: no two pictures are equal."""
    rng = np.random.default_rng(seed)
    for split, count in each.items():
        for name, colour in COLOURS.items():
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.normal(colour, 70, size=(32, 32, 3)).clip(0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{i}.png")
    return str(folder)


@pytest.fixture(scope="module")
def clip(tiny: Callable[[str], Path]) -> str:
    return f"dir:{tiny('clip')}"


@pytest.fixture
def many(tmp_path: Path) -> str:
    return painted(tmp_path / "many", EACH)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty training images are many."""
    monkeypatch.setattr(listing, "LARGE", 4 * EACH["train"] - 1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store in which nothing is yet."""
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def encoded() -> int:
    return FeatureStore().info().images


def plan_of(clip: str, images: str, **more: Any) -> Plan:
    asked: dict[str, Any] = {"shots": (1, 2), "seeds": (1, 2), "methods": ("zero-shot",)}
    return Plan(images=(images,), encoder=clip, **(asked | more))


def lines(out: Path, kind: str = "run") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return [row for row in found if row["kind"] == kind]


# -- what is encoded -------------------------------------------------------------------------------


@pytest.mark.usefixtures("cache", "large")
@pytest.mark.parametrize("select", ["val", "fixed"])
def test_what_is_drawn_or_tested_on_is_encoded(
    clip: str, many: str, tmp_path: Path, select: str
) -> None:
    plan, out = plan_of(clip, many, select=select), tmp_path / "out.jsonl"
    run_plan(plan, out)
    rows = lines(out)
    drawn = {place for row in rows for place in row["support"]}
    if select == "val":
        drawn |= {place for row in rows for place in row["validation"]}
    assert encoded() == len(drawn) + TESTED
    assert len(drawn) < 4 * EACH["train"] / 1.5
    (source,) = lines(out, "source")
    assert source["images"] == 4 * EACH["train"] + TESTED


@pytest.mark.usefixtures("cache")
def test_a_small_source_is_encoded_whole(clip: str, many: str) -> None:
    """Sixty training images are few: and the source is called what its features are called."""
    (source,) = plan_of(clip, many).sources()
    assert encoded() == len(source.labels) == 4 * EACH["train"] + TESTED
    assert source.whole is None and source.rows is None
    assert source.digest == images_source(many, load_encoder(clip)).digest


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("kind", ["whu", "no test split"])
def test_what_is_needed_whole_is_encoded_whole(clip: str, tmp_path: Path, kind: str) -> None:
    protocol = "whu" if kind == "whu" else "coop"
    images = painted(tmp_path / "all", {"train": 21} if protocol == "coop" else {**EACH, "val": 2})
    if protocol == "coop":
        images = f"{images}/train"
    (source,) = plan_of(clip, images, protocol=protocol, select="fixed").sources()
    assert source.whole is None
    assert len(source.class_names) == 4
    assert len(source.labels) == 4 * (21 if protocol == "coop" else 22)
    assert source.digest == images_source(images, load_encoder(clip)).digest


@pytest.mark.usefixtures("large")
def test_images_inside_files_have_no_names_to_draw_by(
    clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LARGE", 9)
    make("cifar10", tmp_path)
    (source,) = plan_of(clip, f"data:cifar10@{tmp_path}", shots=(1,), seeds=(1,)).sources()
    assert source.whole is None
    assert len(source.labels) == 60


# -- the same results ------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["base-to-new", "shift"])
def test_results_are_those_of_the_whole(
    clip: str, many: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """Accuracies, answers, and where in the data set the drawn images are."""
    other = painted(tmp_path / "other", {"train": 2, "test": 3}, seed=1)
    plan = plan_of(
        clip,
        many,
        methods=("zero-shot", "tip-adapter", "clip-adapter-inner"),
        settings={"clip-adapter-inner": {"steps": 3, "width": 5, "lr": 0.1, "views": 1}},
        seeds=(2,),
        protocol=protocol,
        test_on=(other,) if protocol == "shift" else (),
    )
    (exam,) = plan.exams()
    run_plan(plan, tmp_path / "whole.jsonl")
    monkeypatch.setattr(listing, "LARGE", 4 * EACH["train"] - 1)
    (thin,) = plan.exams()
    assert len(thin.source.labels) < len(exam.source.labels)
    run_plan(plan, tmp_path / "thin.jsonl")

    def lasting(out: str) -> list[dict[str, Any]]:
        left_out = OF_THE_MOMENT | {"key", "source"}
        rows = [
            {k: v for k, v in row.items() if k not in left_out} for row in lines(tmp_path / out)
        ]
        for row in rows:
            for test in row.get("tests", ()) if protocol == "base-to-new" else ():
                del test["source"]  # itself
        return sorted(rows, key=lambda row: (row["method"], row["shots"], row["seed"]))

    found = lasting("thin.jsonl")
    assert found == lasting("whole.jsonl")
    # Positions are those in the folder, by class and then by path.
    paths = exam.source.pictures.paths if exam.source.pictures else ()
    seen = thin.source.pictures.paths if thin.source.pictures else ()
    for shots, seed in ((1, 2), (2, 2)):
        drawn = draw(protocol, thin.source, shots, seed)
        row = next(row for row in found if (row["shots"], row["seed"]) == (shots, seed))
        of_row = [paths[place] for place in row["support"]]
        assert of_row == [seen[place] for place in drawn.support][: len(of_row)]
        assert len(of_row) == shots * (2 if protocol == "base-to-new" else 4)


@pytest.mark.usefixtures("large")
def test_other_draws_of_the_source_are_refused(clip: str, many: str) -> None:
    (source,) = plan_of(clip, many, shots=(1,), seeds=(1,), select="fixed").sources()
    assert draw("coop", source, 1, 1).validation is None  # nothing looks at it
    with pytest.raises(InputError) as error:
        draw("coop", source, 8, 3)
    assert str(error.value) == (
        f"{source.name} was opened for other draws than 8 shots with seed 3, and what these need"
        " is not encoded: open it for a plan that has them."
    )


# -- what the source is called ---------------------------------------------------------------------


@pytest.mark.usefixtures("large")
def test_another_plan_goes_on_with_the_same_source(clip: str, many: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run_plan(plan_of(clip, many, seeds=(1,)), out) == Ran(2, 0, 2)
    assert run_plan(plan_of(clip, many, shots=(1, 2, 4)), out) == Ran(6, 2, 4)
    assert run_plan(plan_of(clip, many, shots=(4,), select="fixed"), out) == Ran(2, 0, 2)
    (source,) = lines(out, "source")
    assert {row["source"] for row in lines(out)} == {source["digest"]}


@pytest.mark.usefixtures("large")
def test_the_digest_is_that_of_what_a_result_depends_on(
    clip: str, many: str, tmp_path: Path
) -> None:
    def digest(images: str = many, **more: Any) -> str:
        (source,) = plan_of(more.pop("encoder", clip), images, **more).sources()
        assert source.whole is not None
        return source.digest

    own = digest()
    assert digest(shots=(1,), seeds=(7,), select="fixed", protocol="base-to-new") == own
    moved = shutil.copytree(many, tmp_path / "moved" / "many")
    assert digest(str(moved)) == own

    def changed(name: str, change: Callable[[Path], object]) -> str:
        copy = Path(shutil.copytree(many, tmp_path / name / "many"))
        change(copy)
        return digest(str(copy))

    def longer(copy: Path) -> None:  # one that is not drawn may be another picture, too
        for path in (copy / "train" / "red").iterdir():
            path.write_bytes(path.read_bytes() + b"\0")

    told = tmp_path / "told.json"
    told.write_text(json.dumps({name: [f"{name} all over"] for name in COLOURS}))
    others = [
        digest(templates=("a {}.",)),
        digest(prompts=str(told)),
        changed("renamed", lambda copy: (copy / "test/red/3.png").rename(copy / "test/red/x.png")),
        changed("gone", lambda copy: (copy / "test/red/3.png").unlink()),
        changed("longer", longer),
        changed("class", lambda copy: [
            (copy / split / "pink").rename(copy / split / "magenta") for split in EACH
        ]),
    ]  # fmt: skip
    assert len({own, *others}) == 1 + len(others)


@pytest.mark.usefixtures("large")
def test_encoders_have_sources_of_their_own(
    clip: str, tiny: Callable[[str], Path], many: str
) -> None:
    digests = {
        plan_of(spec, many, shots=(1,), seeds=(1,), templates=("a {}.",)).sources()[0].digest
        for spec in (clip, f"dir:{tiny('siglip')}")
    }
    assert len(digests) == 2


# -- images that cannot be read --------------------------------------------------------------------


@pytest.mark.usefixtures("large")
def test_an_image_that_is_needed_must_be_readable(clip: str, many: str) -> None:
    plan = plan_of(clip, many, shots=(1,), seeds=(1,))
    (source,) = plan.sources()
    assert source.pictures is not None
    needed = set(source.pictures.paths)
    idle = next(p for p in sorted(Path(many).glob("train/*/*.png")) if p not in needed)
    idle.write_bytes(b"no picture")
    plan.sources()  # nobody looks at it
    drawn = source.pictures.paths[draw("coop", source, 1, 1).support[0]]
    drawn.write_bytes(b"no picture")
    with pytest.raises(InputError, match=f"{drawn.name}"):
        plan.sources()


def test_an_image_that_a_small_source_leaves_out_is_told(clip: str, many: str) -> None:
    plan, broken = plan_of(clip, many), Path(many) / "test" / "red" / "3.png"
    broken.write_bytes(b"no picture")
    with pytest.warns(RuntimeWarning) as said:
        (source,) = plan.sources()
    assert len(source.labels) == 4 * EACH["train"] + TESTED - 1
    (told,) = [str(one.message) for one in said if "left out" in str(one.message)]
    assert told.startswith(f"{source.name}: 1 of 80 images left out, for one: {broken} ")


# -- sources that are tested on alone --------------------------------------------------------------


def test_of_a_source_that_is_tested_on_the_test_images_are_encoded(
    clip: str, many: str, tmp_path: Path, cache: Path
) -> None:
    """CIFAR's 50,000 training images do not even become files."""
    make("cifar10", tmp_path)
    unsplit = f"{painted(tmp_path / 'other', {'train': 3}, seed=1)}/train"
    plan = plan_of(
        clip, many, protocol="transfer", shots=(1,), seeds=(1,),
        test_on=(f"data:cifar10@{tmp_path}", unsplit),
    )  # fmt: skip
    run_plan(plan, tmp_path / "out.jsonl")
    ours = 4 * (EACH["train"] + EACH["test"])
    assert encoded() == ours + 10 + 4 * 3  # the last has no test split: it is tested on whole
    assert len([path for path in (cache / "images").rglob("*") if path.is_file()]) == 10
    (row,) = lines(tmp_path / "out.jsonl")
    assert [test["test_images"] for test in row["tests"]] == [10, 12]
