"""Tests on other classes and other sources: what is learnt from, and answers counted by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful import Features, load_features, methods, save_features
from handful.benchmark import runner
from handful.benchmark.elsewhere import Elsewhere, harmonic_mean, judge
from handful.benchmark.exam import Exam
from handful.benchmark.part import part_of
from handful.benchmark.plan import Plan
from handful.benchmark.plan_file import read_plan
from handful.benchmark.protocols import draw
from handful.benchmark.runner import Ran, run_plan
from handful.benchmark.source import Source
from handful.benchmark.sources import features_source
from handful.errors import InputError
from handful.methods.clip_adapter import ClipAdapter
from handful.methods.linear_probe import LinearProbe
from handful.methods.zero_shot import ZeroShot

NAMES = ("ant", "bee", "cat", "dog", "eel")


def write(
    path: Path,
    names: tuple[str, ...] = NAMES,
    *,
    seed: int = 0,
    each: int = 12,
    split: bool = True,
    text: bool = True,
    width: int = 8,
    **more: Any,
) -> str:
    """Noisy images of classes that every file draws alike, by name; a third each split."""
    rng = np.random.default_rng(seed)
    centres = np.array([np.random.default_rng(list(n.encode())).normal(size=width) for n in names])
    labels = rng.permutation(np.repeat(np.arange(len(names)), each))
    X = centres[labels] + 0.8 * rng.normal(size=(len(labels), width))
    order = np.array([(labels[:i] == label).sum() for i, label in enumerate(labels)])
    save_features(
        path,
        Features(
            X,
            labels=labels,
            class_names=names,
            class_embeddings=centres + 0.5 * rng.normal(size=centres.shape) if text else None,
            split=order % 3 if split else None,
            **more,
        ),
        overwrite=True,
    )
    return str(path)


def source(path: str) -> Source:
    return features_source(path)


def rows(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [row for row in found if row["kind"] == "run"]


def right(test: dict[str, Any]) -> list[bool]:
    bits = np.frombuffer(base64.b64decode(test["right"]), np.uint8)
    return np.unpackbits(bits, count=test["test_images"]).astype(bool).tolist()


def unit(X: np.ndarray) -> np.ndarray:
    return np.asarray(X, np.float64) / np.linalg.norm(np.asarray(X, np.float64), axis=-1)[..., None]


# -- the numbers -----------------------------------------------------------------------------------


def test_harmonic_mean_of_published_numbers() -> None:
    """CoOp's row of the base-to-new tables: 82.69 and 63.22 give the printed 71.66."""
    assert round(harmonic_mean(82.69, 63.22), 2) == 71.66
    assert harmonic_mean(0.5, 0.5) == 0.5
    assert harmonic_mean(0.9, 0.0) == harmonic_mean(0.0, 0.0) == 0.0


@pytest.fixture
def four(tmp_path: Path) -> Source:
    """Two images whose best class of four is not their best among the classes there are."""
    X = np.array([[1.0, 0.9, 0.2, 0.1], [0.1, 0.2, 0.9, 1.0], [0.3, 0.2, 0.1, 1.0]])
    path = tmp_path / "two.safetensors"
    save_features(path, Features(X, labels=np.array([1, 0, 0]), class_names=("c2", "c1")))
    return features_source(path)


def test_the_answer_is_the_best_of_the_classes_there_are(four: Source) -> None:
    """Image 0 is class c1 (second best of all), 1 is c2 (second best), 2 is c2 but answers c1."""
    head = ZeroShot(class_embeddings=np.eye(4)).fit(np.eye(4), np.arange(4))
    columns = np.array([2, 1])  # of c2 and c1
    assert head.predict(four.image_features).tolist() == [0, 3, 3]  # never these
    found = judge(head, "zero-shot", {}, Elsewhere("two", four, np.arange(3), columns))
    assert right(found) == [True, True, False]
    assert found["accuracy"] == 2 / 3
    assert (found["test_images"], found["name"], found["by"]) == (3, "two", "zero-shot")
    some = judge(head, "zero-shot", {}, Elsewhere("two", four, np.array([2, 0]), columns))
    assert right(some) == [False, True]


def test_blocks_of_images_do_not_show(four: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    head = ZeroShot(class_embeddings=np.eye(4)).fit(np.eye(4), np.arange(4))
    test = Elsewhere("two", four, np.arange(3), np.array([2, 1]))
    whole = judge(head, "zero-shot", {}, test)
    monkeypatch.setattr("handful.benchmark.elsewhere._AT_ONCE", 2)
    assert judge(head, "zero-shot", {}, test) == whole


def test_an_adapter_answers_for_classes_that_it_has_not_seen(tmp_path: Path) -> None:
    """Logits are s·unit(adapted image)·unit(adapted text), computed here from its arrays."""
    other = source(write(tmp_path / "o.safetensors", ("fox", "gnu", "hen"), seed=4))
    one = source(write(tmp_path / "s.safetensors"))
    W = one.features.class_embeddings
    given: dict[str, Any] = {"branch": "both", "blend": 0.6, "text_blend": 0.5, "lr": 0.05}
    head = ClipAdapter(class_embeddings=W, cache="tip", **given)
    head.fit(one.image_features, one.labels)

    def adapted(v: np.ndarray, down: np.ndarray, up: np.ndarray, share: float) -> np.ndarray:
        new = np.maximum(np.maximum(unit(v) @ down, 0) @ up, 0)
        return unit(share * new + (1 - share) * unit(v))

    X = adapted(other.image_features, head.down_, head.up_, 0.6)
    text = adapted(other.features.class_embeddings, head.text_down_, head.text_up_, 0.5)
    expected = (X @ text.T).argmax(1) == other.labels
    zero = (unit(other.image_features) @ unit(other.features.class_embeddings).T).argmax(1)
    assert expected.tolist() != (zero == other.labels).tolist()  # or nothing would be shown
    found = judge(head, "clip-adapter", {}, Elsewhere("o", other, np.arange(36), None))
    assert right(found) == expected.tolist()
    assert found["by"] == "clip-adapter"
    probe = LinearProbe(class_embeddings=W).fit(one.image_features, one.labels)
    told = judge(probe, "linear-probe", {}, Elsewhere("o", other, np.arange(36), None))
    assert right(told) == (zero == other.labels).tolist()
    assert told["by"] == "zero-shot"


# -- base to new -----------------------------------------------------------------------------------


def test_a_part_has_nothing_of_the_others(tmp_path: Path) -> None:
    whole = source(
        write(
            tmp_path / "s.safetensors",
            view_features=np.random.default_rng(1).normal(size=(60, 2, 8)),
            paths=tuple(f"{i}.png" for i in range(60)),
        )
    )
    part = part_of(whole, range(3, 5))
    assert part.class_names == ("dog", "eel")
    where = np.flatnonzero(whole.labels >= 3)
    assert part.rows is not None
    assert part.rows.tolist() == part.in_whole(np.arange(24)).tolist() == where.tolist()
    assert part.labels.tolist() == (whole.labels[where] - 3).tolist()
    f, of = part.features, whole.features
    for name in ("image_features", "view_features", "split"):
        assert np.array_equal(getattr(f, name), getattr(of, name)[where])
    assert f.paths == tuple(f"{i}.png" for i in where)
    assert of.class_embeddings is not None
    assert np.array_equal(f.class_embeddings, of.class_embeddings[3:])
    assert (part.digest, part.name) == (whole.digest, whole.name)


@pytest.mark.parametrize("split", [True, False])
def test_base_is_the_larger_first_half_of_the_same_draw(tmp_path: Path, split: bool) -> None:
    whole = source(write(tmp_path / "s.safetensors", split=split))
    exam = Exam("base-to-new", whole)
    base, drawn = exam.learnt_from, exam.drawn(2, 1)
    assert base.class_names == ("ant", "bee", "cat")
    of_all = draw("coop", whole, 2, 1)
    kept = [row for row in of_all.support if whole.labels[row] < 3]
    assert base.in_whole(drawn.support).tolist() == kept
    assert base.labels[drawn.support].tolist() == whole.labels[kept].tolist()
    (new,) = exam.elsewhere(2, 1)
    assert new.source.class_names == ("dog", "eel")
    tested = [*base.in_whole(drawn.test), *new.source.in_whole(new.rows)]
    assert sorted(tested) == of_all.test.tolist()
    assert set(whole.labels[new.source.in_whole(new.rows)]) == {3, 4}
    assert (drawn.validation is None) == (not split)
    if drawn.validation is not None:
        assert set(whole.labels[base.in_whole(drawn.validation)]) == {0, 1, 2}


def test_new_images_and_names_never_reach_learning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learning is the same to the last bit when everything of the new classes is garbage."""
    path = write(tmp_path / "s.safetensors")
    of = load_features(path)
    assert of.labels is not None
    assert of.class_embeddings is not None
    X, W = of.image_features.copy(), of.class_embeddings.copy()
    X[of.labels >= 3], W[3:] = 77.0, -9.0
    save_features(
        tmp_path / "g.safetensors",
        Features(X, labels=of.labels, class_embeddings=W, class_names=NAMES, split=of.split),
    )
    tasks: list[Any] = []
    made = runner.task_of

    def watched(*given: Any) -> Any:
        tasks.append(made(*given))
        return tasks[-1]

    monkeypatch.setattr(runner, "task_of", watched)
    found = []
    for name in (path, str(tmp_path / "g.safetensors")):
        plan = Plan(
            features=(name,),
            methods=("clip-adapter", "tip-adapter", "zero-shot"),
            shots=(2,),
            seeds=(1,),
            protocol="base-to-new",
        )
        run_plan(plan, out := tmp_path / f"{len(found)}.jsonl")
        found.append({row["method"]: row for row in rows(out)})
    assert len(tasks) == 2
    for task in tasks:
        assert task.class_names == ("ant", "bee", "cat")
        assert task.class_embeddings.shape == (3, 8)
        assert set(task.y) | set(task.y_val) == {0, 1, 2}
    assert np.array_equal(tasks[0].X, tasks[1].X)
    of_all = draw("coop", features_source(path), 2, 1)
    assert of_all.validation is not None
    for method, row in found[0].items():
        other = found[1][method]
        assert row["settings"] == other["settings"]
        assert row["right"] == other["right"]
        assert row["negative_log_likelihood"] == other["negative_log_likelihood"]
        assert set(row["per_class"]) == {"ant", "bee", "cat"}
        assert row["support"] == [i for i in of_all.support if of.labels[i] < 3]
        assert row["validation"] == [i for i in of_all.validation if of.labels[i] < 3]
        (test,) = row["tests"]
        assert test["name"] == "new"
        assert test["by"] == ("zero-shot" if method == "tip-adapter" else method)
        assert np.mean(right(test)) == pytest.approx(test["accuracy"])
    zero = found[0]["zero-shot"]["tests"][0]
    tip = found[0]["tip-adapter"]["tests"][0]
    assert tip["right"] == zero["right"]
    new = np.flatnonzero((of.labels >= 3) & (of.split == 2))
    answers = (unit(of.image_features[new]) @ unit(of.class_embeddings[3:]).T).argmax(1) + 3
    assert right(zero) == (answers == of.labels[new]).tolist()


def test_what_has_no_new_classes_is_refused(tmp_path: Path) -> None:
    few = source(write(tmp_path / "f.safetensors", ("ant", "bee", "cat")))
    with pytest.raises(InputError, match=r"f has 3 classes: the protocol base-to-new needs two"):
        _ = Exam("base-to-new", few).learnt_from
    plain = source(write(tmp_path / "p.safetensors", text=False))
    with pytest.raises(InputError, match="p has no class embeddings"):
        _ = Exam("base-to-new", plain).learnt_from


# -- shift and transfer ----------------------------------------------------------------------------


def shift(tmp_path: Path, protocol: str = "shift", **more: Any) -> Plan:
    asked: dict[str, Any] = {
        "features": (write(tmp_path / "photos.safetensors"),),
        "test_on": (
            write(tmp_path / "drawn.safetensors", ("dog", "bee"), seed=5),
            write(tmp_path / "again.safetensors", seed=6, split=False),
        ),
        "methods": ("zero-shot", "linear-probe", "clip-adapter"),
        "shots": (2,),
        "seeds": (1, 2),
        "select": "fixed",
        "protocol": protocol,
    }
    return Plan(**(asked | more))


def test_shift_tests_what_was_learnt_on_every_other_source(tmp_path: Path) -> None:
    plan = shift(tmp_path)
    out = tmp_path / "out.jsonl"
    assert run_plan(plan, out) == Ran(6, 0, 6)
    assert run_plan(plan, out) == Ran(6, 6, 0)
    found = rows(out)
    photos, drawn, again = (load_features(path) for path in (*plan.features, *plan.test_on))
    assert drawn.labels is not None
    tested = np.flatnonzero(drawn.split == 2)
    for row in found:
        one, two = row["tests"]
        assert (one["name"], two["name"]) == ("drawn", "again")
        assert (one["test_images"], two["test_images"]) == (len(tested), 60)
        assert one["by"] == two["by"] == row["method"]
        head = methods.get(row["method"])(
            class_embeddings=photos.class_embeddings,
            class_names=photos.class_names,
            random_state=row["seed"],
            **row["settings"],
        )
        assert photos.labels is not None
        head.fit(photos.image_features[row["support"]], photos.labels[row["support"]])
        logits = head.logits(drawn.image_features[tested])
        answers = np.where(logits[:, 3] >= logits[:, 1], 0, 1)  # dog is column 3, bee column 1
        assert right(one) == (answers == drawn.labels[tested]).tolist()
        assert right(two) == (head.logits(again.image_features).argmax(1) == again.labels).tolist()
    words = found[0]["command"]
    assert [words[i + 1] for i, w in enumerate(words) if w == "--test-on"] == list(plan.test_on)
    # Tested on something else, it is another run.
    assert run_plan(shift(tmp_path, test_on=plan.test_on[:1]), out) == Ran(6, 0, 6)


def test_transfer_to_one_class_alone_is_refused(tmp_path: Path) -> None:
    """Every answer would be right. A folder of which only "test" is there is read as such."""
    other = write(tmp_path / "other.safetensors", ("fox",))
    plan = shift(tmp_path, "transfer", test_on=(other,), methods=("zero-shot",))
    with pytest.raises(InputError) as error:
        run_plan(plan, tmp_path / "no.jsonl")
    assert str(error.value) == (
        "other has one class, 'fox', among which every answer is right: the protocol transfer needs"
        " two."
    )


def test_transfer_is_for_methods_that_reach_other_classes(tmp_path: Path) -> None:
    other = write(tmp_path / "other.safetensors", ("fox", "gnu", "hen"), seed=7)
    with pytest.raises(InputError, match="what method 'linear-probe' learns is about the classes"):
        run_plan(shift(tmp_path, "transfer", test_on=(other,)), tmp_path / "no.jsonl")
    assert not (tmp_path / "no.jsonl").exists()
    plan = shift(tmp_path, "transfer", test_on=(other,), methods=("zero-shot", "clip-adapter"))
    run_plan(plan, tmp_path / "out.jsonl")
    of = load_features(other)
    tested = np.flatnonzero(of.split == 2)
    assert of.labels is not None
    answers = (unit(of.image_features) @ unit(of.class_embeddings).T).argmax(1)
    for row in rows(tmp_path / "out.jsonl"):
        (test,) = row["tests"]
        assert test["by"] == row["method"]
        if row["method"] == "zero-shot":
            assert right(test) == (answers == of.labels)[tested].tolist()
    every = shift(tmp_path, "transfer", test_on=(other,), methods=tuple(methods.names()))
    every = Plan(**{**vars(every), "shots": (1,), "seeds": (1,)})
    assert run_plan(every, tmp_path / "all.jsonl").runs == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"protocol": "coop"}, "the protocol coop tests on the source itself: leave --test-on"),
        ({"test_on": ()}, "the protocol shift tests on other sources: name them"),
        ({"test_on": ("folder",)}, "images are to be tested on, but none are learnt from"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        shift(tmp_path, **change)


def known(tmp_path: Path) -> str:
    f = load_features(tmp_path / "photos.safetensors")
    save_features(
        tmp_path / "new.safetensors",
        Features(f.image_features[:7], labels=np.arange(7) % 5, class_names=NAMES),
    )
    return str(tmp_path / "new.safetensors")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (known, "7 test images of new are images of photos"),
        (lambda p: write(p / "new.safetensors", ("ant", "fox")), "new has the class 'fox'"),
        (lambda p: write(p / "new.safetensors", width=6), "features of another encoder than"),
        (lambda p: write(p / "new.safetensors", seed=9, fingerprint="b"), None),
    ],
)
def test_sources_that_do_not_fit(
    tmp_path: Path, make: Callable[[Path], str], told: str | None
) -> None:
    plan = shift(tmp_path)
    plan = Plan(**{**vars(plan), "test_on": (make(tmp_path),)})
    if told is None:
        assert plan.exams()[0].others  # nothing is known of the other: only the width can tell
        return
    with pytest.raises(InputError, match=told):
        run_plan(plan, tmp_path / "out.jsonl")


def test_sources_are_tested_on_those_of_their_own_encoder(tmp_path: Path) -> None:
    made = {
        f"{name}-{encoder}": write(
            tmp_path / f"{name}-{encoder}.safetensors", seed=seed, fingerprint=encoder
        )
        for seed, (name, encoder) in enumerate([("x", "a"), ("x", "b"), ("y", "b"), ("y", "a")])
    }
    plan = Plan(
        features=(made["x-a"], made["x-b"]),
        test_on=(made["y-b"], made["y-a"]),
        protocol="shift",
        methods=("zero-shot",),
    )
    exams = plan.exams()
    assert [[s.name for s in exam.given] for exam in exams] == [["x-a", "y-a"], ["x-b", "y-b"]]
    alone = Plan(**{**vars(plan), "test_on": (made["y-b"],)})
    with pytest.raises(InputError, match="x-a has features of another encoder than y-b"):
        alone.exams()


def test_a_plan_file_names_them_from_its_folder(tmp_path: Path) -> None:
    text = 'features = ["a.safetensors"]\ntest_on = ["b.safetensors"]\nprotocol = "shift"\n'
    (tmp_path / "plan.toml").write_text(text, encoding="utf-8")
    assert read_plan(tmp_path / "plan.toml").test_on == (str(tmp_path / "b.safetensors"),)
