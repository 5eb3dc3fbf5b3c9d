"""The runner: every run once, whoever is killed and whoever else is at work."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_corrections import small_correction

from handful import Features, FewShotTask, load_features, methods, save_features, select
from handful.benchmark import one_run, runner
from handful.benchmark.one_run import Run, task_of
from handful.benchmark.plan import Plan
from handful.benchmark.protocols import draw
from handful.benchmark.results import ResultsFile, read_results
from handful.benchmark.runner import Ran, run_plan
from handful.benchmark.sources import features_source
from handful.errors import HandfulError, InputError
from handful.methods.head import Head

KILLS = 10
# What two equal runs need not share.
OF_THE_MOMENT = (
    "fit_seconds",
    "fit_processor_seconds",
    "predict_seconds",
    "peak_memory_mb",
    "peak_device_mb",
    "time",
)


@pytest.fixture(scope="module")
def satellite(shared: Path) -> Path:
    return shared / "data/whu-rs19/features/clip-vit-b-32.safetensors"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Three easy classes of twelve images with text; no split."""
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 12)
    centres = rng.normal(size=(3, 8))
    path = tmp_path / "toy.safetensors"
    X = centres[labels] + 0.4 * rng.normal(size=(36, 8))
    save_features(
        path,
        Features(X, labels=labels, class_embeddings=centres, class_names=("a", "b", "b")),
    )
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def lasting(path: Path) -> list[dict[str, Any]]:
    """The rows without what is of the moment, in no particular order."""
    kept = [{k: v for k, v in row.items() if k not in OF_THE_MOMENT} for row in rows(path)]
    return sorted(kept, key=lambda row: row.get("key", ""))


def alone(path: Path) -> None:
    """Nothing is left beside the file of those who wrote it."""
    beside = [one.name for one in path.parent.iterdir() if one.name.startswith(path.name)]
    assert beside == [path.name]


def bench(out: Path, *flags: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "handful.cli.main", "bench", "run"),
            *("--out", str(out), "--json"),
            *map(str, flags),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    document: dict[str, Any] = json.loads(out)
    return document


# -- rows ------------------------------------------------------------------------------------------


# The file holds no features before the projection, and there is no correction beside it.
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in methods.names()
        if not methods.get(name).before_projection and not methods.get(name).needs_correction
    ],
)
def test_a_row_holds_everything(name: str, satellite: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    settings = {"all": {"epochs": 2}} if "epochs" in methods.get(name)().settings() else {}
    plan = Plan((str(satellite),), methods=(name,), shots=(2,), seeds=(3,), protocol="whu",
                settings=settings)  # fmt: skip
    assert run_plan(plan, out) == Ran(runs=1, there=0, made=1)
    alone(out)
    source, row = rows(out)

    f = load_features(satellite)
    assert source == {
        "kind": "source",
        "digest": features_source(satellite).digest,
        "name": "clip-vit-b-32",
        "flags": ["--features", str(satellite)],
        "images": 1005,
        "dim": 512,
        "class_names": list(f.class_names or ()),
        "templates": list(f.templates or ()),
        "logit_scale": 100.0,
        "encoder": f.encoder,
        "fingerprint": f.fingerprint,
        "sentences": None,
        "correction": None,
    }
    assert len(source["templates"]) == 106 and source["encoder"]

    drawn = draw("whu", features_source(satellite), 2, 3)
    assert drawn.validation is not None
    expected = {
        "kind": "run",
        "source": source["digest"],
        "protocol": "whu",
        "select": "val",
        "shots": 2,
        "seed": 3,
        "method": name,
        "given": settings.get("all", {}),
        "support": drawn.support.tolist(),
        "validation": drawn.validation.tolist(),
        "test_images": 625,
    }
    assert {key: row[key] for key in expected} == expected
    assert set(row) == set(expected) | {
        "key",
        "accuracy",
        "per_class",
        "correction",
        "negative_log_likelihood",
        "calibration_error",
        "right",
        "settings",
        "selection",
        "trained_parameters",
        "versions",
        "machine",
        "command",
        *OF_THE_MOMENT,
    }
    assert set(row["settings"]) == set(methods.get(name)().settings())
    assert row["settings"].items() >= row["given"].items()
    for key in ("accuracy", "calibration_error"):
        assert isinstance(row[key], float) and 0 <= row[key] <= 1
    assert isinstance(row["negative_log_likelihood"], float) and row["negative_log_likelihood"] > 0
    assert list(row["per_class"]) == source["class_names"]
    counts = np.bincount(f.labels[drawn.test])  # type: ignore[index]
    mean = np.average(list(row["per_class"].values()), weights=counts)
    assert mean == pytest.approx(row["accuracy"], abs=1e-9)
    right = np.unpackbits(np.frombuffer(base64.b64decode(row["right"]), np.uint8), count=625)
    assert right.mean() == pytest.approx(row["accuracy"], abs=1e-9)
    for key in ("fit_seconds", "predict_seconds", "peak_memory_mb"):
        assert isinstance(row[key], float), key
    assert row["predict_seconds"] > 0
    assert 10 < row["peak_memory_mb"] < 100_000  # Python with PyTorch takes more than 10 MB
    assert set(row["versions"]) == {"python", "handful", "torch", "numpy", "scikit-learn"}
    assert row["versions"]["numpy"] == np.__version__
    assert set(row["machine"]) == {"system", "processor", "cores", "threads"}
    assert row["machine"]["cores"] == os.cpu_count()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["time"])

    searched = bool(methods.get(name).search.without(row["given"]).settings())
    chosen = row["selection"]
    assert chosen["policy"] == ("val" if searched else "fixed")
    assert chosen["settings"].items() <= row["settings"].items()
    trace = chosen["trace"]
    assert set(trace) == ({*chosen["settings"], "correct"} if searched else set())
    assert len({len(column) for column in trace.values()}) <= 1
    if searched:
        assert chosen["images"] == 38
        best = max(trace["correct"])
        assert chosen["accuracy_on_selection_images"] == pytest.approx(best / 38)


# Worked out by hand for 19 classes of 512 numbers and two shots: rows and biases of a linear
# classifier; two matrices of 512 × 512 / 4; one key for each support image.
PARAMETERS = {
    "zero-shot": 0,
    "linear-probe": 19 * 512 + 19,
    "nearest-class-mean": 0,
    "clip-adapter": 2 * 512 * 128,
    # Two centres per class and their offsets, channels, text residual.
    "cluster-adapter": 2 * 19 * 512 + 512 + 2 * 19 + 19 * 512,
    "tip-adapter": 0,
    "tip-adapter++": 0,
    "tip-adapter-f": 2 * 19 * 512,
    "tip-x": 0,
    "tip-x++": 0,
    "ape": 0,
    "ape++": 0,
    "ape-t": 19 * 358 + 2 * 19,  # 358 of 512 channels
    "cafo": 2 * 19 * 512,
    "graph-adapter": 2 * 19 * 512 + 2 * 19 * 512,
    "task-res": 19 * 512,
    "lp++": 19 * 512 + 2 * 19,
    "zs-lp": 19 * 512,
    "clap": 19 * 512,
    "cross-modal": 19 * 512,
    "gda": 0,
    "proker": 0,
    "elevater-r2p": 19 * 512 + 19,
    "elevater-l2p": 19 * 512 + 19,
    "elevater-l1p": 19 * 512 + 19,
    "wise-ft": 19 * 512,  # those of zs-lp
    "best": 19 * 512 + 19,
}


@pytest.mark.parametrize("name", methods.names())
def test_trained_parameters(name: str, satellite: Path) -> None:
    assert name in PARAMETERS, "count the numbers that an optimiser sets, and write them above"
    kind = methods.get(name)
    source = features_source(satellite)
    if kind.needs_correction:
        source = replace(source, correction=small_correction(512)).seen_by(name)
    drawn = draw("whu", source, 2, 1)
    given = (("epochs", 1),) if "epochs" in kind().settings() else ()
    run = Run(source.digest, "whu", "fixed", 2, 1, name, given)
    row = one_run.run_once(run, source, drawn, task_of(source, drawn, "fixed"))
    assert row["trained_parameters"] == PARAMETERS[name]
    assert set(kind.trained) <= set(kind.learned)


def test_the_policy_is_in_the_row(toy: Path, tmp_path: Path) -> None:
    """As it was asked for, and as it was followed."""
    out = tmp_path / "results.jsonl"
    for policy in ("cv", "fixed"):
        run_plan(Plan((str(toy),), methods=("tip-adapter",), shots=(1, 3), seeds=(1,),
                      select=policy), out)  # fmt: skip
    found = {(r["select"], r["shots"]): r for r in rows(out)[1:]}
    assert {key: row["selection"]["policy"] for key, row in found.items()} == {
        ("cv", 1): "fixed",  # one image per class: none can be held out
        ("cv", 3): "cv",
        ("fixed", 1): "fixed",
        ("fixed", 3): "fixed",
    }
    assert found["cv", 3]["selection"]["folds"] == 3
    assert all(row["validation"] is None for row in found.values())
    assert found["fixed", 3]["settings"] == methods.get("tip-adapter")().settings()


def test_two_classes_of_one_name_are_told_apart(toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    run_plan(Plan((str(toy),), methods=("zero-shot",), shots=(1,), seeds=(1,), select="cv"), out)
    assert list(rows(out)[1]["per_class"]) == ["a", "b (1)", "b (2)"]


def test_peak_memory_is_of_the_run(toy: Path, tmp_path: Path, monkeypatch) -> None:
    """A method that holds 300 MB for a moment is told from one that does not."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux forgets the peak of what came before")
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        pytest.skip(f"the peak cannot be reset here: {error}")
    predict_proba = Head.predict_proba

    def greedy(head: Head, X: Any) -> Any:
        if head.name == "tip-adapter":
            np.ones(300 * 2**20, np.uint8)
        return predict_proba(head, X)

    monkeypatch.setattr(Head, "predict_proba", greedy)
    out = tmp_path / "results.jsonl"
    names = ("tip-adapter", "zero-shot")
    run_plan(Plan((str(toy),), methods=names, shots=(1,), seeds=(1,), select="fixed"), out)
    found = {row["method"]: row["peak_memory_mb"] for row in rows(out)[1:]}
    assert found["tip-adapter"] - found["zero-shot"] > 200


# -- once ------------------------------------------------------------------------------------------


def test_what_is_there_is_not_run_again(toy: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "results.jsonl"
    plan = Plan((str(toy),), methods=("zero-shot", "tip-adapter"), shots=(1,), seeds=(1, 2),
                select="cv")  # fmt: skip
    assert run_plan(plan, out) == Ran(4, 0, 4)
    before = out.read_bytes()
    larger = Plan(plan.features, methods=plan.methods, shots=(1,), seeds=(1, 2, 3), select="cv")
    assert run_plan(larger, out) == Ran(6, 4, 2)
    assert out.read_bytes().startswith(before)
    # Another policy or another setting is another run.
    fixed = Plan(plan.features, methods=plan.methods, shots=(1,), seeds=(1, 2), select="fixed")
    assert run_plan(fixed, out) == Ran(4, 0, 4)
    given = Plan(plan.features, methods=plan.methods, shots=(1,), seeds=(1, 2), select="cv",
                 settings={"all": {"blend": 3}})  # fmt: skip
    assert run_plan(given, out) == Ran(4, 2, 2)  # zero-shot has no blend

    def never(*_: object) -> None:
        raise AssertionError("nothing is to be run")

    monkeypatch.setattr(runner, "run_once", never)
    monkeypatch.setattr(runner, "task_of", never)
    for one in (plan, larger, fixed, given):
        ran = run_plan(one, out)
        assert (ran.made, ran.there) == (0, ran.runs)
    assert len(rows(out)) == 1 + 12
    alone(out)


def test_draws_that_are_there_are_not_drawn_again(toy: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "results.jsonl"
    asked = []
    monkeypatch.setattr(runner, "task_of", lambda *a: asked.append(a[1]) or task_of(*a))
    for last in (1, 2, 3):
        seeds = tuple(range(1, last + 1))
        plan = Plan((str(toy),), methods=("zero-shot",), shots=(1,), seeds=seeds, select="cv")
        run_plan(plan, out)
        assert len(asked) == last


def test_what_somebody_else_does_is_waited_for(toy: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "results.jsonl"
    plan = Plan((str(toy),), methods=("zero-shot", "tip-adapter"), shots=(1,), seeds=(1,),
                select="cv")  # fmt: skip
    theirs, _ = plan.runs(plan.sources()[0])[1, 1]
    made: list[str] = []
    monkeypatch.setattr(
        runner, "run_once", lambda run, *a: made.append(run.method) or one_run.run_once(run, *a)
    )
    somebody = ResultsFile(out)
    with ThreadPoolExecutor() as pool:
        with somebody.claim(theirs.key):
            ran = pool.submit(run_plan, plan, out)
            end = time.monotonic() + 30
            while not somebody.read().runs:
                assert time.monotonic() < end and not ran.done()
                time.sleep(0.01)
            time.sleep(2 * runner.PAUSE_S)
            assert not ran.done()
            somebody.add({"kind": "run", "key": theirs.key, "accuracy": 0.5})
        assert ran.result(timeout=30) == Ran(2, 0, 2)
    assert made == ["tip-adapter"]
    alone(out)


def test_what_somebody_has_just_done_is_not_done_again(
    toy: Path, tmp_path: Path, monkeypatch
) -> None:
    """Between our reading and our claim."""
    out = tmp_path / "results.jsonl"
    plan = Plan((str(toy),), methods=("zero-shot",), shots=(1,), seeds=(1,), select="cv")

    class Late(ResultsFile):
        def claim(self, key: str) -> Any:
            ResultsFile(out).add({"kind": "run", "key": key, "accuracy": 0.5})
            return super().claim(key)

    def never(*_: object) -> None:
        raise AssertionError("it is done")

    monkeypatch.setattr(runner, "ResultsFile", Late)
    monkeypatch.setattr(runner, "run_once", never)
    assert run_plan(plan, out) == Ran(1, 0, 1)


def test_methods_share_a_draw_and_its_features(toy: Path, tmp_path: Path, monkeypatch) -> None:
    asked: list[tuple[int, ...]] = []

    def counted(source, drawn, policy):
        asked.append(tuple(drawn.support))
        return task_of(source, drawn, policy)

    monkeypatch.setattr(runner, "task_of", counted)
    plan = Plan((str(toy),), methods=("zero-shot", "tip-adapter", "linear-probe"),
                shots=(1, 2), seeds=(1, 2), select="fixed")  # fmt: skip
    run_plan(plan, tmp_path / "results.jsonl")
    assert len(asked) == len(set(asked)) == 4
    by_draw: dict[Any, set[Any]] = {}
    for row in rows(tmp_path / "results.jsonl")[1:]:
        by_draw.setdefault((row["shots"], row["seed"]), set()).add(tuple(row["support"]))
    assert all(len(supports) == 1 for supports in by_draw.values())


def test_said_before_the_work(toy: Path, tmp_path: Path) -> None:
    """An impossible part of a plan is found before the possible parts have cost an hour."""
    out = tmp_path / "results.jsonl"
    with pytest.raises(InputError, match="toy has no validation images under the protocol coop"):
        run_plan(Plan((str(toy),), select="val", shots=(1,)), out)
    with pytest.raises(InputError, match="cannot draw 13 shots"):
        run_plan(Plan((str(toy),), select="cv", shots=(1, 13)), out)
    assert not out.exists()


def test_an_error_in_a_run_leaves_the_others_and_nothing_else(
    toy: Path, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "results.jsonl"

    def failing(run: Run, *rest: Any) -> dict[str, Any]:
        if run.seed == 2:
            raise HandfulError("the model gave NaN")
        return one_run.run_once(run, *rest)

    plan = Plan((str(toy),), methods=("zero-shot",), shots=(1,), seeds=(1, 2, 3), select="cv")
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_once", failing)
        with pytest.raises(HandfulError, match="the model gave NaN"):
            run_plan(plan, out)
    assert len(rows(out)) == 2
    alone(out)
    assert run_plan(plan, out) == Ran(3, 1, 2)


def test_a_torn_last_line_is_run_again(toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    plan = Plan((str(toy),), methods=("tip-adapter",), shots=(2,), seeds=(1, 2), select="cv")
    run_plan(plan, out)
    expected, content = lasting(out), out.read_bytes()
    out.write_bytes(content[:-100])
    assert run_plan(plan, out) == Ran(2, 1, 1)
    assert lasting(out) == expected
    lines = content.splitlines(keepends=True)
    out.write_bytes(lines[0] + lines[1][:50] + b"\n" + lines[2])
    with pytest.raises(InputError, match=r"line 2, is no line of results"):
        run_plan(plan, out)
    alone(out)


def test_progress_counts_every_run(toy: Path, tmp_path: Path, monkeypatch) -> None:
    from contextlib import contextmanager

    told: list[int] = []

    @contextmanager
    def bar(label: str, total: int, unit: str):
        told.append(-total)
        yield told.append

    monkeypatch.setattr(runner, "progress", bar)
    plan = Plan((str(toy),), methods=("zero-shot",), shots=(1,), seeds=(1, 2), select="cv")
    run_plan(plan, tmp_path / "results.jsonl")
    assert told == [-2, 0, 1, 1]
    told.clear()
    longer = Plan(plan.features, methods=plan.methods, shots=(1,), seeds=(1, 2, 3), select="cv")
    run_plan(longer, tmp_path / "results.jsonl")
    assert told == [-3, 2, 1]


# -- several at once -------------------------------------------------------------------------------


WORK = ("--methods", "zero-shot,tip-adapter,tip-adapter-f", "--shots", "1,2,4", "--seeds", "1-4")
RUNS = 3 * 3 * 4


@pytest.fixture(scope="module")
def undisturbed(satellite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "results.jsonl"
    found = ended(bench(out, "--features", satellite, "--protocol", "whu", *WORK))
    assert found == {"runs": RUNS, "there": 0, "made": RUNS, "out": str(out)}
    return out


def test_two_at_once_make_every_run_once(
    satellite: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.jsonl"
    flags = ("--features", satellite, "--protocol", "whu", *WORK)
    both = [ended(one) for one in [bench(out, *flags), bench(out, *flags)]]
    assert all(one["runs"] == RUNS == one["there"] + one["made"] for one in both)
    assert lasting(out) == lasting(undisturbed)
    alone(out)


@pytest.mark.slow
def test_jobs(satellite: Path, undisturbed: Path, tmp_path: Path, monkeypatch) -> None:
    """Two processes, each with the one core that it keeps busy."""
    out = tmp_path / "results.jsonl"
    flags = ("--features", satellite, "--protocol", "whu", *WORK, "--jobs", "2")
    assert ended(bench(out, *flags))["made"] == RUNS
    found, expected = lasting(out), lasting(undisturbed)
    threads = max(1, (os.cpu_count() or 1) // 2)
    for row in found:
        if row["kind"] == "run":
            assert row["machine"].pop("threads") == threads
    for row in expected:
        row.get("machine", {}).pop("threads", None)
    if threads == 1:  # else sums are in another order
        assert found == expected
    alone(out)


@pytest.mark.slow
def test_a_worker_that_dies_is_told(toy: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    out = tmp_path / "results.jsonl"
    monkeypatch.setattr(runner, "_worker", dies)
    plan = Plan((str(toy),), methods=("zero-shot",), shots=(1,), seeds=(1, 2), select="cv")
    threads = os.environ.get("OMP_NUM_THREADS")
    with pytest.raises(HandfulError) as error:
        run_plan(plan, out, jobs=2)
    assert str(error.value) == (
        "2 of 2 runs are missing, because a process ended early: run the same command again to go"
        " on, with --jobs 1 to see why."
    )
    assert os.environ.get("OMP_NUM_THREADS") == threads
    assert list(tmp_path.iterdir()) == [toy]


dies: Callable[..., None] = os._exit


def test_an_error_in_a_worker_is_a_sentence(toy: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit, match=r"^handful: .*gone\.safetensors does not exist"):
            runner._worker(Plan((str(tmp_path / "gone.safetensors"),)), tmp_path / "results.jsonl")
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


# -- killed ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_in_the_middle(satellite: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    generator = random.Random(KILLS)
    flags = ("--features", satellite, "--protocol", "whu", *WORK)

    def size() -> int:
        return out.stat().st_size if out.exists() else 0

    in_the_middle = 0
    for _ in range(KILLS):
        before = size()
        process = bench(out, *flags)
        end = time.monotonic() + 60
        while size() == before and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.002)
        time.sleep(generator.uniform(0, 0.15))
        in_the_middle += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        read_results(out)  # whoever looks now is not disturbed
    assert in_the_middle >= KILLS - 3
    last = ended(bench(out, *flags))
    assert last["there"] + last["made"] == last["runs"] == RUNS
    again = ended(bench(out, *flags))
    assert (again["there"], again["made"]) == (RUNS, 0)
    assert out.read_bytes().endswith(b"\n")
    # The same rows, in the same order too.
    kept = [{k: v for k, v in row.items() if k not in OF_THE_MOMENT} for row in rows(out)]
    expected = [
        {k: v for k, v in row.items() if k not in OF_THE_MOMENT} for row in rows(undisturbed)
    ]
    assert kept == expected
    alone(out)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_workers_do_not_outlive_the_one_who_started_them(satellite: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    process = bench(out, "--features", satellite, "--protocol", "whu", "--jobs", "2")
    end = time.monotonic() + 60
    while not out.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    # Each ends the run that it is in; there are 75, of some tenths of a second and more.
    time.sleep(6)
    size = out.stat().st_size
    time.sleep(4)
    assert out.stat().st_size == size
    assert len(read_results(out).runs) < 75


# -- the same again --------------------------------------------------------------------------------


def test_a_run_is_what_learning_by_hand_gives(satellite: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    plan = Plan((str(satellite),), methods=("clip-adapter",), shots=(2,), seeds=(3,),
                protocol="whu", settings={"all": {"epochs": 4}})  # fmt: skip
    run_plan(plan, out)
    source = features_source(satellite)
    f, y = source.features, source.labels
    drawn = draw("whu", source, 2, 3)
    S, V, T = drawn.support, drawn.validation, drawn.test
    X = f.image_features
    task = FewShotTask(X[S], y[S], X[V], y[V], class_embeddings=f.class_embeddings)
    head = select("clip-adapter", task, "val", random_state=3, epochs=4)
    p = head.predict_proba(X[T])
    row = rows(out)[1]
    assert row["settings"] == head.settings()
    assert row["accuracy"] == (p.argmax(axis=1) == y[T]).mean()
    assert row["negative_log_likelihood"] == -np.log(p[np.arange(len(T)), y[T]]).mean()
