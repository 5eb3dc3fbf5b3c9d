"""Methods that train inside the encoder run beside heads: same draws, same lines, own costs."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_rows import results, run
from toy_tuning import CLASSES, coloured
from transformers import CLIPModel

from handful import load_encoder, methods, save_features
from handful.benchmark import inside
from handful.benchmark.cost import Seconds
from handful.benchmark.efficiency import efficiency_tables
from handful.benchmark.grouping import labels_in_order
from handful.benchmark.pictures import Pictures
from handful.benchmark.plan import Plan
from handful.benchmark.plan_file import read_plan
from handful.benchmark.protocols import draw
from handful.benchmark.render import FORMATS
from handful.benchmark.results import read_results
from handful.benchmark.runner import Ran, run_plan
from handful.benchmark.source import Source
from handful.benchmark.summary import summarise
from handful.benchmark.text_table import markdown
from handful.errors import InputError
from handful.tuning import registry
from handful.tuning.adapters import ClipAdapterInner
from handful.tuning.prompts import Prompts
from handful.tuning.training import tune
from handful.tuning.tuned_encoder import TunedEncoder

SHORT: dict[str, Any] = {
    "all": {"views": 2},
    "coop": {"epochs": 2, "context_tokens": 4, "lr": 0.1},
    "clip-adapter-inner": {"steps": 3, "width": 5, "lr": 0.1, "blend": 1.0},
    "fine-tune": {"steps": 2, "lr": 1e-3},
    "wise-ft-tower": {"steps": 2, "lr": 1e-3},
}
INSIDE = ("coop", "clip-adapter-inner", "fine-tune", "wise-ft-tower")
OF_THE_MOMENT = {
    "fit_seconds", "fit_processor_seconds", "predict_seconds", "inference_seconds_per_image",
    "inference_processor_seconds_per_image", "peak_memory_mb", "peak_device_mb", "time", "command",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three colours in three splits; not to be changed."""
    root = tmp_path_factory.mktemp("colours")
    for seed, (split, each) in enumerate({"train": 4, "val": 3, "test": 5}.items()):
        drawn = tmp_path_factory.mktemp(split)
        for path, label in zip(*coloured(drawn, each, seed), strict=True):
            (root / split / CLASSES[label]).mkdir(parents=True, exist_ok=True)
            shutil.move(path, root / split / CLASSES[label] / path.name)
    return root


@pytest.fixture(scope="module")
def clip(tiny: Callable[[str], Path]) -> str:
    return f"dir:{tiny('clip')}"


def plan_of(folder: Path, clip: str, *names: str, **more: Any) -> Plan:
    settings = {n: s for n, s in SHORT.items() if n in names}
    if set(names) & set(INSIDE):
        settings["all"] = SHORT["all"]
    asked: dict[str, Any] = {"shots": (2,), "seeds": (1,), "settings": settings, **more}
    return Plan(images=(str(folder),), encoder=clip, methods=names, **asked)


def rows(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [row for row in found if row["kind"] == "run"]


def right(row: dict[str, Any]) -> list[bool]:
    bits = np.frombuffer(base64.b64decode(row["right"]), np.uint8)
    return np.unpackbits(bits, count=row["test_images"]).astype(bool).tolist()


@pytest.fixture(scope="module")
def found(folder: Path, clip: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A line of each method, two of them heads; not to be changed."""
    out = tmp_path_factory.mktemp("results") / "results.jsonl"
    plan = plan_of(folder, clip, "zero-shot", "tip-adapter", *INSIDE)
    assert run_plan(plan, out) == Ran(6, 0, 6)
    assert run_plan(plan, out) == Ran(6, 6, 0)
    return {row["method"]: row for row in rows(out)}


def test_same_draw_and_same_fields(found: dict[str, Any], folder: Path, clip: str) -> None:
    head = found["zero-shot"]
    for name in INSIDE:
        row = found[name]
        assert set(row) == set(head)
        for what in ("source", "shots", "seed", "support", "validation", "test_images"):
            assert row[what] == head[what]
        assert row["given"] == SHORT["all"] | SHORT[name]
        assert row["settings"].items() >= row["given"].items()
        assert set(row["settings"]) == set(registry.get(name)().settings())
        assert np.mean(right(row)) == pytest.approx(row["accuracy"])
        assert row["accuracy"] == pytest.approx(np.mean(list(row["per_class"].values())))
        assert row["negative_log_likelihood"] > 0
        for what in ("fit_seconds", "fit_processor_seconds", "predict_seconds",
                     "inference_seconds_per_image"):  # fmt: skip
            assert row[what] > 0, what
    assert head["validation"] is not None and head["test_images"] == 15


def test_numbers_that_are_trained(found: dict[str, Any], clip: str) -> None:
    """Counted by hand on towers of two blocks of width 32, features of 24."""
    trained = {name: row["trained_parameters"] for name, row in found.items()}
    assert trained["zero-shot"] == trained["tip-adapter"] == 0
    assert trained["coop"] == 4 * 32
    # Before block 1 and on the features, without biases: to 5 and back.
    assert trained["clip-adapter-inner"] == 2 * 32 * 5 + 2 * 24 * 5
    model = CLIPModel.from_pretrained(clip.removeprefix("dir:"))
    parts = (model.vision_model, model.visual_projection)
    tower = sum(p.numel() for part in parts for p in part.parameters())
    assert trained["fine-tune"] == trained["wise-ft-tower"] == tower


def test_the_answers_are_those_of_the_trained_encoder(
    found: dict[str, Any], folder: Path, clip: str
) -> None:
    """Trained once more, by another way, from what the line says."""
    row = found["clip-adapter-inner"]
    encoder = load_encoder(clip)
    source = plan_of(folder, clip, "coop").sources()[0]
    pictures, labels = source.pictures, source.labels
    assert pictures is not None
    again = tune(
        ClipAdapterInner(**row["settings"]),
        encoder,
        pictures.of(np.array(row["support"]), labels),
        Prompts(tuple(sorted(CLASSES)), encoder.default_templates),
        seed=1,
    )
    assert row["trained_parameters"] == again.trained_parameters()
    test = np.flatnonzero(source.features.split == 2)
    features = again.encode_images(np.stack([pictures.shown([i])[0] for i in test]))
    logits = features @ again.class_embeddings.T
    assert right(row) == (logits.argmax(1) == labels[test]).tolist()
    scaled = encoder.logit_scale * logits / np.linalg.norm(features, axis=1, keepdims=True)
    likelihood = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
    nll = -likelihood[np.arange(len(test)), labels[test]].mean()
    assert row["negative_log_likelihood"] == pytest.approx(nll, rel=1e-4)


def test_without_a_step_it_is_zero_shot(
    found: dict[str, Any], folder: Path, clip: str, tmp_path: Path
) -> None:
    out = tmp_path / "results.jsonl"
    run_plan(plan_of(folder, clip, "fine-tune", settings={"all": {"steps": 0}}), out)
    (row,) = rows(out)
    assert right(row) == right(found["zero-shot"])
    assert row["negative_log_likelihood"] == pytest.approx(
        found["zero-shot"]["negative_log_likelihood"], rel=1e-4
    )


@pytest.mark.parametrize("policy", ["val", "cv", "fixed"])
def test_what_a_method_sees(
    folder: Path, clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """Support images, validation images under ``val`` alone, and never a test image."""
    seen: list[Any] = []
    real = inside.select_tuning

    def watched(method: str, encoder: Any, images: Any, prompts: Any, asked: str, **more: Any):
        seen.append((images, more["validation"], asked, more["random_state"]))
        return real(method, encoder, images, prompts, asked, **more)

    monkeypatch.setattr(inside, "select_tuning", watched)
    out = tmp_path / "results.jsonl"
    plan = plan_of(folder, clip, "wise-ft-tower", "coop", select=policy, seeds=(3,))
    run_plan(plan, out)
    source = plan.sources()[0]
    drawn = draw("coop", source, 2, 3)
    assert len(seen) == 2
    for images, validation, asked, seed in seen:
        assert seed == 3
        assert [str(path) for path in images.paths] == [
            source.features.row_names[row] for row in drawn.support
        ]
        assert images.labels.tolist() == source.labels[drawn.support].tolist()
        assert all(path.parent.parent.name == "train" for path in images.paths)
        assert (validation is None) == (policy != "val")
        assert asked == ("val" if policy == "val" else "fixed")
        if validation is not None:
            assert len(validation) == 6
            assert all(path.parent.parent.name == "val" for path in validation.paths)
    wise, coop = sorted(rows(out), key=lambda row: row["method"], reverse=True)
    assert wise["selection"]["policy"] == ("val" if policy == "val" else "fixed")
    assert (wise["validation"] is None) == (policy != "val")
    assert set(wise["selection"]["trace"]) == ({"blend", "correct"} if policy == "val" else set())
    assert coop["selection"]["policy"] == "fixed"  # it searches nothing
    if policy == "cv":
        page = FORMATS["markdown"](summarise([read_results(out)]), "sd")
        assert "or the method trains inside the encoder" in page


def test_a_run_repeats_from_its_own_command(
    found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handful.cli.main import main

    monkeypatch.chdir(tmp_path)
    row = found["coop"]
    with pytest.raises(SystemExit) as ended:
        main(row["command"][1:])
    assert not ended.value.code
    (again,) = rows(tmp_path / "again.jsonl")
    left = row.keys() - OF_THE_MOMENT
    assert {what: again[what] for what in left} == {what: row[what] for what in left}


def test_the_time_of_an_answer(
    folder: Path, clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of heads begins with the encoder, measured once; that of tuned towers is their own."""
    monkeypatch.setattr(Pictures, "encoding", Seconds(5.0, 3.0))
    encode = TunedEncoder.encode_images

    def slow(self: TunedEncoder, images: Any) -> Any:
        time.sleep(0.1 * len(images))
        return encode(self, images)

    monkeypatch.setattr(TunedEncoder, "encode_images", slow)
    out = tmp_path / "results.jsonl"
    run_plan(plan_of(folder, clip, "zero-shot", "coop", "clip-adapter-inner"), out)
    times = {row["method"]: row["inference_seconds_per_image"] for row in rows(out)}
    processor = {row["method"]: row["inference_processor_seconds_per_image"] for row in rows(out)}
    assert 5 < times["zero-shot"] < 6 and 3 < processor["zero-shot"] < 4
    assert 0.1 < times["clip-adapter-inner"] < 1
    assert processor["clip-adapter-inner"] < 0.05  # it slept
    assert 0 < times["coop"] < 0.1  # its images are seen by the base


def test_heads_alone_are_run_unless_named(folder: Path, clip: str) -> None:
    assert Plan(images=(str(folder),), encoder=clip).methods == tuple(methods.names())
    assert not set(methods.names()) & set(registry.names())


def test_order_of_lines() -> None:
    order = ["clip-lora", "zero-shot", "unknown", "coop", "best"]
    named = [run(method) for method in order]
    assert labels_in_order(named) == ["zero-shot", "best", "coop", "clip-lora", "unknown"]


def test_a_plan_with_settings_and_variants(folder: Path, clip: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(
        f'images = ["{folder}"]\nencoder = "{clip}"\n'
        'methods = ["zero-shot", "clip-adapter-inner"]\n'
        'shots = [1]\nseeds = [1]\nselect = "fixed"\n[settings.all]\nsteps = 1\n'
        '[variants.clip-adapter-inner]\nlayers = ["0", "0,1"]\n'
    )
    out = tmp_path / "results.jsonl"
    run_plan(read_plan(path), out)
    assert [row["given"] for row in rows(out)] == [
        {},
        {"layers": "0", "steps": 1},
        {"layers": "0,1", "steps": 1},
    ]


def test_refused_before_the_work(folder: Path, clip: str, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    source = plan_of(folder, clip, "zero-shot").sources()[0]
    features = tmp_path / "colours.safetensors"
    save_features(features, source.features)
    with pytest.raises(InputError, match="colours holds features, and method 'coop' trains inside"):
        run_plan(Plan((str(features),), methods=("zero-shot", "coop"), shots=(1,)), out)
    with pytest.raises(InputError, match="trains inside one encoder, and 2 are given"):
        Plan((f"{features}+{features}",), methods=("coop",))
    for name, says in (("cop", "Did you mean 'coop'"), ("clip-lore", "Did you mean 'clip-lora'")):
        with pytest.raises(InputError, match=says):
            plan_of(folder, clip, name)
    with pytest.raises(InputError, match="no method of this plan has the setting 'step'"):
        plan_of(folder, clip, "fine-tune", settings={"all": {"step": 1}})
    with pytest.raises(InputError, match="setting 'blend' of method 'wise-ft-tower' is 2"):
        plan_of(folder, clip, "wise-ft-tower", settings={"all": {"blend": 2}})
    with pytest.raises(InputError, match="leave --measure trust out"):
        plan_of(folder, clip, "zero-shot", "coop", measure=("trust",))
    # The tower has two blocks, and what is behind them.
    with pytest.raises(InputError, match="7"):
        beyond = {"clip-adapter-inner": {"layers": "7"}}
        plan = plan_of(folder, clip, "zero-shot", "clip-adapter-inner", settings=beyond)
        run_plan(plan, out)
    assert not out.exists()


def test_sentences_are_read_as_for_heads(folder: Path, clip: str, tmp_path: Path) -> None:
    told = tmp_path / "prompts.json"
    told.write_text(json.dumps({name: [f"{name} paint", "a wall"] for name in CLASSES}))
    source = plan_of(folder, clip, "coop", prompts=str(told)).sources()[0]
    pictures = source.pictures
    assert pictures is not None
    assert pictures.prompts.names == tuple(sorted(CLASSES)) == source.class_names
    assert pictures.prompts.of_class()[0] == ("blue paint", "a wall")
    own = plan_of(folder, clip, "coop", templates=("an {}",)).sources()[0]
    assert own.pictures is not None and own.pictures.prompts.of_class()[0] == ("an blue",)


def test_source_and_pictures_agree(folder: Path, clip: str) -> None:
    source: Source = plan_of(folder, clip, "coop").sources()[0]
    pictures = source.pictures
    assert pictures is not None and len(pictures.paths) == len(source.labels) == 36
    rows_ = np.array([30, 2])
    chosen = pictures.of(rows_, source.labels)
    assert [path.parent.name for path in chosen.paths] == [
        source.class_names[label] for label in chosen.labels
    ]
    features = pictures.encoder.encode_images(pictures.shown(rows_))
    np.testing.assert_allclose(features, source.image_features[rows_], rtol=1e-4, atol=1e-5)
    assert min(pictures.encoding) > 0
    assert len(pictures.shown(range(36))) == 36


# -- accuracy beside costs -------------------------------------------------------------------------


def line(method: str, accuracy: float, shots: int, seed: int, **more: Any) -> dict[str, Any]:
    costs = {
        "fit_seconds": 2.0 * shots,
        "fit_processor_seconds": 1.0 * shots,
        "peak_memory_mb": 100.0 * shots,
        "peak_device_mb": 0.0,
        "trained_parameters": 1500,
        "inference_seconds_per_image": 0.004,
        "inference_processor_seconds_per_image": 0.002,
    }
    return run(method, accuracy, shots=shots, seed=seed, **{**costs, **more})


def test_efficiency() -> None:
    lines = [
        line("zero-shot", 0.5, 1, 1, trained_parameters=0, fit_seconds=0.0),
        line("coop", 0.6, 1, 1, given={"epochs": 5, "lr": 0.1}),
        line("coop", 0.7, 1, 2, given={"epochs": 5, "lr": 0.1}),
        line("coop", 0.8, 4, 1, given={"epochs": 5, "lr": 0.1}),
        line("coop", 0.9, 4, 2, given={"epochs": 5, "lr": 0.1}, fit_seconds=10.0),
        line("coop", 0.3, 1, 1, given={"epochs": 5, "lr": 0.2}),
        line("fine-tune", 0.4, 1, 1, given={"lr": 0.3}, peak_device_mb=7.0),
        line("zero-shot", 0.2, 1, 1, select="cv"),
    ]
    cv, table = efficiency_tables([results(lines)])
    assert cv.rows[0][:2] == ("zero-shot", "20.0")
    assert table.header == ("method", "1", "4", "trained", "fit s", "processor s", "memory MB",
                            "ms/image", "processor ms")  # fmt: skip
    assert table.rows == (
        ("zero-shot", "50.0", "–", "0", "0.00", "1.00", "100 + 0", "4.000", "2.000"),
        # 5 √2 points apart; the cost is that of four shots: (8 + 10) / 2 seconds.
        ("coop (lr=0.1)", "65.0 ± 7.1", "85.0 ± 7.1", "1,500", "9.00", "4.00", "400 + 0", "4.000",
         "2.000"),
        ("coop (lr=0.2)", "30.0", "–", "1,500", "2.00", "1.00", "100 + 0", "4.000", "2.000"),
        ("fine-tune", "40.0", "–", "1,500", "2.00", "1.00", "100 + 7", "4.000", "2.000"),
    )  # fmt: skip
    assert "given: coop epochs=5; fine-tune lr=0.3." in table.note
    assert "on the GPU" in table.note and "on the GPU" not in cv.note
    assert "| coop (lr=0.2) | 30.0 | – |" in markdown([table])


def test_efficiency_of_lines_without_it() -> None:
    """Features files have no images, and older results not every cost."""
    (table,) = efficiency_tables([results([run("zero-shot", 0.5)])])
    assert table.rows == (("zero-shot", "50.0", "–", "0.25", "–", "–", "–", "–"),)


def test_efficiency_of_nothing() -> None:
    with pytest.raises(InputError, match="there is no run in these results"):
        efficiency_tables([results([])])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from handful.cli.main import main

    def said(*more: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["bench", "efficiency", str(file), *more])
        assert not ended.value.code
        return capsys.readouterr().out

    file, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    file.write_text(json.dumps(line("coop", 0.6, 2, 1)) + "\n")
    (table,) = efficiency_tables([read_results(file)])
    printed = said()
    assert table.title in printed and table.note in printed
    assert "".join(table.rows[0]) in "".join(printed.split())
    assert json.loads(said("--json"))["tables"][0]["rows"] == [list(row) for row in table.rows]
    assert said("--out", str(page)) == f"1 table in {page}.\n"
    assert page.read_text("utf-8") == markdown([table])
