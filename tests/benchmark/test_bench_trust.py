"""What runs measure beside accuracy, and the tables of it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_rows import results
from bench_rows import run as row
from scipy.special import softmax

from handful import Features, FewShotTask, InputError, methods, save_features
from handful.benchmark.plan import Plan
from handful.benchmark.results import read_results
from handful.benchmark.text_table import markdown
from handful.benchmark.trust import measure_strangers, task_without
from handful.benchmark.trust_tables import trust_tables
from handful.classifier.trust import Trust
from handful.cli.main import main
from handful.evaluation.separation import auroc
from handful.methods.zero_shot import ZeroShot
from handful.selection.select import select

NAMES = ("airport", "beach", "bridge", "desert")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of 24 images with text, in three splits. Tests do not change it."""
    rng = np.random.default_rng(1)
    labels = np.tile(np.arange(4), 24)
    centres = rng.normal(size=(4, 16))
    X = centres[labels] + 0.7 * rng.normal(size=(96, 16))
    path = tmp_path_factory.mktemp("toy") / "toy.safetensors"
    text = centres + 0.5 * rng.normal(size=(4, 16))
    save_features(
        path,
        Features(
            X,
            labels=labels,
            split=np.repeat([0, 1, 2], 32),
            class_embeddings=text,
            class_names=NAMES,
            logit_scale=20.0,
        ),
    )
    return path


@pytest.fixture
def handful() -> Callable[..., tuple[int, str, str]]:
    def handful(*words: object) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main([str(word) for word in words])
        return int(ended.value.code or 0), out.getvalue(), err.getvalue()

    return handful


QUICK = ("--methods", "zero-shot,tip-adapter", "--shots", "4", "--seeds", "1", "--select", "cv")


@pytest.fixture(scope="module")
def measured(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two methods with all that can be measured. Tests do not change it."""
    out = tmp_path_factory.mktemp("measured") / "results.jsonl"
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
        words = ("--features", toy, *QUICK, "--measure", "trust,strangers", "--out", out)
        main(["bench", "run", *map(str, words)])
    assert not ended.value.code
    return out


def runs_in(path: Path) -> list[dict[str, Any]]:
    return list(read_results(path).runs.values())


# -- the runs --------------------------------------------------------------------------------------


def test_what_a_run_holds(measured: Path) -> None:
    for one in runs_in(measured):
        trust = one["trust"]
        assert set(trust) == {"estimate", "calibration", "sets", "unsure"}
        accuracy, low, high = trust["estimate"]
        assert low <= accuracy <= high
        calibration = trust["calibration"]
        assert (calibration["kind"], calibration["source"]) == ("temperature", "cross-validation")
        assert calibration["images"] == 16
        # The accuracy and its companions of the run are those of the plain head.
        for name in ("calibration_error", "negative_log_likelihood"):
            assert calibration["before"][name] == pytest.approx(one[name], rel=1e-9)
        # Four held-out images of each class: enough for 0.8, for each class by itself, too.
        assert set(trust["sets"]) == {"0.8 all", "0.8 by_class", "0.9 all"}
        for cell in trust["sets"].values():
            low, high = cell["interval"]
            assert 0 <= low < high <= 1 and cell["images"] == 16 and cell["n"] == 32
        assert set(trust["unsure"]) == {"0.1"}  # 19 images are needed for one in twenty
        assert [cell["class"] for cell in one["strangers"]] == list(NAMES)
        for cell in one["strangers"]:
            assert set(cell) == {"class", "score", "auroc", "fpr95", "unsure"}
            assert 0 <= cell["auroc"] <= 1 and 0 <= cell["fpr95"] <= 1
            assert set(cell["unsure"]) == {"0.1"}


def test_the_numbers_are_those_of_a_classifier(measured: Path, toy: Path) -> None:
    """Against the same head, calibrated and asked on the test rows here."""
    from handful import load_features

    features = load_features(toy)
    one = next(run for run in runs_in(measured) if run["method"] == "tip-adapter")
    support = np.array(one["support"])
    task = FewShotTask(
        features.image_features[support],
        features.labels[support],
        class_embeddings=features.class_embeddings,
        class_names=NAMES,
        logit_scale=20.0,
    )
    head = select("tip-adapter", task, "cv", random_state=1)
    names = [str(i) for i in range(len(support))]
    trust = Trust.learn(head, task, names, random_state=1)
    told = one["trust"]["calibration"]
    assert trust.calibration.temperature == pytest.approx(told["temperature"], rel=1e-6)
    test = features.split == 2
    X, y = features.image_features[test], features.labels[test]
    logits = head.logits(X)
    for when, t in (("before", 1.0), ("after", trust.calibration.temperature)):
        p = softmax(logits / t, axis=1)[np.arange(32), y]
        assert told[when]["negative_log_likelihood"] == pytest.approx(-np.log(p).mean(), rel=1e-6)
    assert trust.sets is not None and trust.strangers is not None
    sets = trust.sets.sets(trust.calibration.probabilities(logits), 0.8, by_class=False)
    cell = one["trust"]["sets"]["0.8 all"]
    assert cell["coverage"] == pytest.approx(sets[np.arange(32), y].mean())
    assert cell["size"] == pytest.approx(sets.sum(axis=1).mean())
    low = trust.strangers.score(X, head, trust.evidence) < trust.strangers.threshold(0.1)
    assert one["trust"]["unsure"]["0.1"]["false_alarms"] == pytest.approx(low.mean())


def test_a_run_is_another_with_every_measure(toy: Path) -> None:
    def keys(*measure: str) -> set[str]:
        plan = Plan((str(toy),), methods=("zero-shot",), shots=(1,), seeds=(1,), measure=measure)
        (source,) = plan.sources()
        return {run.key for runs in plan.runs(source).values() for run in runs}

    plain, trust, strangers = keys(), keys("trust"), keys("strangers")
    both = keys("trust", "strangers")
    assert len(plain | trust | strangers | both) == 4
    (key,) = plain
    # Results of before are found again.
    assert key.endswith("coop val 1 1 zero-shot")
    assert trust == {f"{key} +trust"}
    # However they are named.
    assert keys("strangers", "trust") == keys("trust", "strangers", "trust") == both


def test_measuring_adds_to_a_run_and_changes_nothing_of_it(
    handful, toy: Path, measured: Path, tmp_path: Path
) -> None:
    out = tmp_path / "plain.jsonl"
    assert handful("bench", "run", "--features", toy, *QUICK, "--out", out)[0] == 0
    plain = {run["method"]: run for run in runs_in(out)}
    moment = {"key", "command", "peak_memory_mb", "time"}
    for one in runs_in(measured):
        other = plain[one["method"]]
        assert set(one) - set(other) == {"trust", "strangers"}
        for name in set(other) - moment:
            assert one[name] == other[name] or name.endswith("seconds"), name
        assert one["command"] == [
            *other["command"][:-2],
            *("--measure", "trust,strangers"),
            *other["command"][-2:],
        ]
    # And it is made anew where it is asked for, once.
    again = (
        "bench",
        "run",
        "--features",
        toy,
        *QUICK,
        "--measure",
        "trust",
        "--out",
        out,
        "--json",
    )
    assert json.loads(handful(*again)[1])["made"] == 2
    assert json.loads(handful(*again)[1])["made"] == 0


def test_methods_of_every_kind_can_be_measured(handful, toy: Path, tmp_path: Path) -> None:
    """Settings that were chosen with all classes hold for one class fewer."""
    left = {"cafo", "clip-adapter", "proker", "elevater-r2p", "ape-t"}  # others, or slow
    left |= {n for n in methods.names() if methods.get(n).before_projection}
    left |= {n for n in methods.names() if methods.get(n).needs_correction}
    names = [n for n in methods.names() if n not in left]
    words = ["--methods", ",".join(names), "--shots", "4", "--seeds", "1", "--select", "cv"]
    words += ["--set", "epochs=2", "--measure", "trust,strangers", "--out"]
    status, _, err = handful("bench", "run", "--features", toy, *words, tmp_path / "r.jsonl")
    assert status == 0, err
    found = {run["method"]: run for run in runs_in(tmp_path / "r.jsonl")}
    assert set(found) == set(names)
    for name, one in found.items():
        assert len(one["strangers"]) == 4, name
        assert one["trust"]["calibration"]["source"] == "cross-validation", name


def test_validation_images_are_what_is_measured_on_where_they_choose(
    handful, toy: Path, tmp_path: Path
) -> None:
    words = [*QUICK[:-1], "val", "--measure", "trust,strangers", "--out", tmp_path / "r.jsonl"]
    assert handful("bench", "run", "--features", toy, *words)[0] == 0
    for one in runs_in(tmp_path / "r.jsonl"):
        assert one["trust"]["calibration"]["source"] == "validation"
        assert one["trust"]["calibration"]["images"] == len(one["validation"]) == 16
        assert len(one["strangers"]) == 4


def test_one_shot_without_anything_held_out(handful, toy: Path, tmp_path: Path) -> None:
    words = ("--methods", "tip-adapter", "--shots", "1", "--seeds", "1", "--select", "cv")
    out = tmp_path / "r.jsonl"
    status, _, err = handful(
        "bench", "run", "--features", toy, *words, "--measure", "trust,strangers", "--out", out
    )
    assert status == 0, err
    (one,) = runs_in(out)
    assert (one["trust"]["sets"], one["trust"]["unsure"], one["trust"]["estimate"]) == (
        {},
        {},
        None,
    )
    assert {cell["score"] for cell in one["strangers"]} <= {"names", "concept matching", "energy"}
    tables = trust_tables([read_results(out)])
    assert [table.title for table in tables] == ["Calibration", "Classes never seen"]


def test_a_source_of_two_classes_has_no_strangers(handful, tmp_path: Path) -> None:
    """With one of them left out nothing is left to classify."""
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 24)
    X = rng.normal(size=(2, 8))[labels] + 0.3 * rng.normal(size=(48, 8))
    split = np.repeat([0, 1, 2], 16)
    save_features(tmp_path / "two.safetensors", Features(X, labels=labels, split=split))
    words = ("--methods", "gda", "--shots", "2", "--seeds", "1", "--measure", "strangers")
    out = tmp_path / "r.jsonl"
    status, _, err = handful(
        "bench", "run", "--features", tmp_path / "two.safetensors", *words, "--out", out
    )
    assert status == 0, err
    assert [run["strangers"] for run in runs_in(out)] == [[]]


# -- a task without a class ------------------------------------------------------------------------


def whole(**more: Any) -> FewShotTask:
    rng = np.random.default_rng(3)
    text = rng.normal(size=(4, 5))
    return FewShotTask(
        **{
            "X": rng.normal(size=(9, 5)),
            "y": np.array([0, 1, 2, 3, 0, 1, 2, 3, 2]),
            "X_val": rng.normal(size=(5, 5)),
            "y_val": np.array([3, 2, 2, 0, 1]),
            "class_embeddings": text,
            "class_names": NAMES,
            "views": rng.normal(size=(9, 3, 5)),
            "groups": np.array([0, 1, 2, 3, 4, 5, 6, 7, 2]),
            "prompts": rng.normal(size=(4, 2, 5)),
            "logit_scale": 7.0,
        }
        | more
    )


@pytest.mark.parametrize("unseen", range(4))
def test_neither_images_nor_text_of_a_class_are_left(unseen: int) -> None:
    task = whole()
    rest = task_without(task, unseen)
    names = [name for name in NAMES if name != NAMES[unseen]]
    assert list(rest.class_names) == names
    own = task.y != unseen
    assert [names[label] for label in rest.y] == [NAMES[label] for label in task.y[own]]
    for name in ("X", "views", "groups"):
        np.testing.assert_array_equal(getattr(rest, name), getattr(task, name)[own])
    judged = task.y_val != unseen
    np.testing.assert_array_equal(rest.X_val, task.X_val[judged])
    assert [names[label] for label in rest.y_val] == [NAMES[c] for c in task.y_val[judged]]
    for name in ("class_embeddings", "prompts"):
        kept = np.delete(getattr(task, name), unseen, axis=0)
        np.testing.assert_array_equal(getattr(rest, name), kept)
    assert rest.logit_scale == 7.0
    assert task.X.shape == (9, 5)  # what was given is as it was


def test_without_text_validation_or_views() -> None:
    bare = whole(
        X_val=None, y_val=None, class_embeddings=None, class_names=None, views=None,
        groups=None, prompts=None,
    )  # fmt: skip
    rest = task_without(bare, 2)
    np.testing.assert_array_equal(rest.y, [0, 1, 2, 0, 1, 2])
    empty = ("X_val", "y_val", "class_embeddings", "class_names", "views", "groups", "prompts")
    assert all(getattr(rest, name) is None for name in empty)


def test_where_all_validation_images_are_of_the_class() -> None:
    rest = task_without(whole(y_val=np.full(5, 1)), 1)
    assert (rest.X_val, rest.y_val) == (None, None)


def test_labels_that_are_names_are_refused() -> None:
    with pytest.raises(ValueError, match="labels of the task are names: expected numbers"):
        task_without(whole(y=np.array(NAMES)[whole().y]), 1)


def test_several_encoders_and_a_projection_stay() -> None:
    joint = whole(class_embeddings=np.ones((4, 3)), prompts=None, widths=(3, 2))
    assert task_without(joint, 0).widths == (3, 2)
    behind = whole(class_embeddings=np.ones((4, 2)), prompts=None, projection=np.ones((5, 2)))
    np.testing.assert_array_equal(task_without(behind, 0).projection, np.ones((5, 2)))


def test_a_class_that_is_nothing_like_the_others_is_told(toy: Path) -> None:
    """The images of the class left out lie where no other class is."""
    from handful.benchmark.one_run import task_of
    from handful.benchmark.protocols import draw

    plan = Plan((str(toy),), methods=("zero-shot",), shots=(8,), seeds=(1,))
    (source,) = plan.sources()
    features = source.features
    X, text = features.image_features.copy(), features.class_embeddings.copy()
    X[source.labels == 2] = -10 * np.abs(X[source.labels == 2])
    X[source.labels != 2] = np.abs(X[source.labels != 2])
    text[2], text[[0, 1, 3]] = -np.abs(text[2]), np.abs(text[[0, 1, 3]])
    far = replace(source, features=replace(features, image_features=X, class_embeddings=text))
    drawn = draw("coop", far, 8, 1)
    found = measure_strangers(ZeroShot, {}, task_of(far, drawn, "cv"), far, drawn, 1)
    by_name = {cell["class"]: cell for cell in found}
    assert by_name["bridge"]["auroc"] == 1 and by_name["bridge"]["fpr95"] == 0
    assert by_name["bridge"]["unsure"]["0.1"][1] == 1  # every stranger
    assert auroc(np.array([1.0]), np.array([0.0])) == 1  # the right way round


# -- the tables ------------------------------------------------------------------------------------


def quality(error: float, likelihood: float, brier: float) -> dict[str, float]:
    return {
        "calibration_error": error,
        "negative_log_likelihood": likelihood,
        "brier_score": brier,
    }


def trusted(before: float, after: float, covered: float = 0.9, alarms: float = 0.05) -> Any:
    sets = {"coverage": covered, "size": 2.0, "images": 30, "interval": [0.8, 1.0]}
    return {
        "calibration": {
            "before": quality(before, 1.0, 0.4),
            "after": quality(after, 0.5, 0.2),
        },
        "sets": {"0.9 all": sets},
        "unsure": {"0.05": {"false_alarms": alarms, "images": 30, "score": "means"}},
    }


def test_the_tables_by_hand() -> None:
    """Means over runs; of high errors those above 5 % before alone; runs below the bound."""
    rows = [
        row("gda", seed=1, trust=trusted(0.10, 0.04, 0.7, 0.02)),
        row("gda", seed=2, trust=trusted(0.02, 0.03, 0.9, 0.04)),
        row("tip-adapter", seed=1, trust=trusted(0.20, 0.06)),
        row("zero-shot", seed=1),
    ]
    cells = [
        {"class": "cat", "auroc": 0.9, "fpr95": 0.2, "unsure": {"0.05": [0.04, 0.8]}},
        {"class": "dog", "auroc": 0.7, "fpr95": 0.4, "unsure": {}},
    ]
    rows.append(row("best", seed=1, strangers=cells))
    tables = {table.title: table for table in trust_tables([results(rows, {"a": "pets"})])}
    assert list(tables) == [
        *("Calibration", "Prediction sets", "False alarms", "Classes never seen"),
    ]
    calibration = tables["Calibration"]
    assert calibration.rows == (
        ("pets", "val", "gda", "2", "6.0% → 3.5%", "10.0% → 4.0% (1)", "1.000 → 0.500",
         "0.400 → 0.200"),
        ("pets", "val", "tip-adapter", "1", "20.0% → 6.0%", "20.0% → 6.0% (1)", "1.000 → 0.500",
         "0.400 → 0.200"),
        ("all", "", "", "3", "10.7% → 4.3%", "15.0% → 5.0% (2)", "1.000 → 0.500",
         "0.400 → 0.200"),
    )  # fmt: skip
    assert tables["Prediction sets"].rows[0] == (
        *("pets", "val", "gda", "90%", "all", "2", "30", "80.0%", "80.0%", "1", "2.00"),
    )
    assert tables["False alarms"].rows[0] == ("pets", "val", "gda", "5%", "2", "3.0%", "means")
    assert tables["Classes never seen"].rows == (
        ("pets", "val", "best", "1", "2", "0.800", "0.700 (dog)", "30.0%", "4.0%", "80.0%"),
    )
    for table in tables.values():
        assert {len(cells) for cells in table.rows} == {len(table.header)}


def test_methods_with_other_settings_have_their_own_line() -> None:
    rows = [
        row("gda", seed=1, trust=trusted(0.1, 0.1)),
        row("gda", seed=1, given={"penalty": 2}, trust=trusted(0.2, 0.1)),
    ]
    table = trust_tables([results(rows)])[0]
    assert [cells[2] for cells in table.rows] == ["gda", "gda penalty=2", ""]


def test_two_protocols_are_not_mixed() -> None:
    rows = [
        row("gda", protocol="coop", trust=trusted(0.1, 0.1)),
        row("gda", protocol="whu", trust=trusted(0.3, 0.1)),
    ]
    table = trust_tables([results(rows)])[0]
    found = [(cells[0], cells[4]) for cells in table.rows if cells[2] == "gda"]
    assert found == [("a (coop)", "10.0% → 10.0%"), ("a (whu)", "30.0% → 10.0%")]


def test_the_first_of_several_files_counts(measured: Path) -> None:
    one = read_results(measured)
    assert trust_tables([one, one]) == trust_tables([one])


def test_in_the_terminal_as_json_and_in_markdown(
    handful, measured: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, said, err = handful("bench", "trust", measured)
    assert (status, err) == (0, "")
    tables = trust_tables([read_results(measured)])
    assert len(tables) == 4
    for table in tables:
        assert table.title in said.splitlines()
        for cells in table.rows:
            line = next(x for x in said.splitlines() if x.split() == " ".join(cells).split())
            assert line
    told = json.loads(handful("bench", "trust", measured, "--json")[1])
    assert told["out"] is None
    assert [set(table) for table in told["tables"]] == [{"title", "note", "header", "rows"}] * 4
    assert told["tables"][0]["rows"] == [list(cells) for cells in tables[0].rows]

    status, said, err = handful("bench", "trust", measured, "--out", "t.md")
    assert (status, said, err) == (0, "4 tables in t.md.\n", "")
    written = Path("t.md").read_text("utf-8")
    assert written == markdown(tables)
    for table in tables:
        assert f"## {table.title}\n\n{table.note}\n\n| {' | '.join(table.header)} |" in written
    told = json.loads(handful("bench", "trust", measured, "-o", "t.md", "--force", "--json")[1])
    assert told["out"] == "t.md"


def test_what_markdown_would_take_for_a_cell() -> None:
    rows = [row("gda", trust=trusted(0.1, 0.1))]
    assert "| a\\|b | val | gda |" in markdown(trust_tables([results(rows, {"a": "a|b"})]))


# -- what is refused -------------------------------------------------------------------------------


def test_results_without_any_measure(handful, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="measured more than accuracy: make some with 'handful b"):
        trust_tables([results([row("gda")])])
    status, out, err = handful(
        "bench", "trust", tmp_path / "none.jsonl", "--out", tmp_path / "t.md"
    )
    assert (status, out) == (2, "") and len(err.splitlines()) == 1 and "none.jsonl" in err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_kept(handful, measured: Path, tmp_path: Path) -> None:
    (tmp_path / "t.md").write_text("mine")
    status, out, err = handful("bench", "trust", measured, "--out", tmp_path / "t.md")
    assert (status, out) == (2, "") and "exists already" in err
    assert (tmp_path / "t.md").read_text() == "mine"


def test_a_measure_that_there_is_not(handful, toy: Path, tmp_path: Path) -> None:
    words = ("--features", toy, "--measure", "trust,stranger", "--out", tmp_path / "r.jsonl")
    status, out, err = handful("bench", "run", *words)
    assert (status, out) == (2, "")
    assert "there is no measure 'stranger'. Did you mean 'strangers'? Use one of trust" in err
    (tmp_path / "p.toml").write_text('measure = ["trst"]')
    words = ("--features", toy, "--plan", tmp_path / "p.toml", "--out", tmp_path / "r.jsonl")
    assert "there is no measure 'trst'" in handful("bench", "run", *words)[2]
    assert {path.name for path in tmp_path.iterdir()} == {"p.toml"}
