"""Held-out accuracy where the answer is known, and on images that were not learnt from."""

from __future__ import annotations

import numpy as np
import pytest

from handful import InputError
from handful.benchmark import held_out
from handful.benchmark.held_out import Cell, held_out_accuracy
from handful.datasets.sampling import few_shot

EYE = np.eye(3, 8, dtype=np.float32)


@pytest.fixture
def task() -> dict[str, object]:
    """Three classes of ten images, each near its own axis: cosines tell them apart."""
    random = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 10)
    features = EYE[labels] + random.normal(0, 0.05, (30, 8)).astype(np.float32)
    return {
        "features": features,
        "labels": labels,
        "class_embeddings": EYE,
        "logit_scale": 50.0,
        "methods": ["zero-shot", "tip-adapter"],
        "shots": (1, 2),
        "seeds": (1, 2, 3),
    }


def test_what_can_be_told_apart_is_told_apart(task) -> None:
    found = held_out_accuracy(**task)
    assert [(cell.method, cell.shots) for cell in found] == [
        ("zero-shot", 1),
        ("tip-adapter", 1),
        ("zero-shot", 2),
        ("tip-adapter", 2),
    ]
    assert all(cell.accuracies == (1.0, 1.0, 1.0) for cell in found)
    assert all((cell.mean, cell.deviation) == (1, 0) for cell in found)


def test_wrong_names_are_wrong_always(task) -> None:
    """Text that names the classes in another order: zero-shot has no way to be right."""
    task |= {"class_embeddings": EYE[[1, 2, 0]], "methods": ["zero-shot"]}
    assert all(cell.accuracies == (0.0, 0.0, 0.0) for cell in held_out_accuracy(**task))


def test_exactly_the_images_that_were_not_drawn_are_tested(task, monkeypatch) -> None:
    """Three images of class 2 bear the label 0: each is an error where it is tested, no other."""
    labels = task["labels"].copy()
    wrong = [2, 5, 8]
    labels[wrong] = 0
    task |= {"labels": labels, "methods": ["zero-shot"], "shots": (2,), "seeds": range(8)}
    (cell,) = held_out_accuracy(**task)
    for seed, accuracy in enumerate(cell.accuracies):
        tested = np.setdiff1d(np.arange(30), few_shot(labels, 2, seed).support)
        assert len(tested) == 24
        assert accuracy == 1 - np.isin(wrong, tested).sum() / 24


def test_nothing_that_is_tested_is_learnt_from(task, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt, tested = [], []
    select = held_out.select

    def spy(method, seen, *arguments, **options):
        learnt.append(seen.X)
        assert seen.X_val is None
        head = select(method, seen, *arguments, **options)
        predict = head.predict
        head.predict = lambda X: tested.append(X) or predict(X)
        return head

    monkeypatch.setattr(held_out, "select", spy)
    held_out_accuracy(**task)
    assert len(learnt) == len(tested) == 2 * 2 * 3
    for support, rest in zip(learnt, tested, strict=True):
        support_rows, rest_rows = ({row.tobytes() for row in X} for X in (support, rest))
        assert not support_rows & rest_rows
        assert support_rows | rest_rows == {row.tobytes() for row in task["features"]}
    assert {len(X) for X in learnt} == {3, 6}


def test_every_method_gets_the_same_shots(task, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[bytes]] = {"zero-shot": [], "tip-adapter": []}
    select = held_out.select

    def spy(method, its_task, *arguments, **options):
        seen[method].append(its_task.X.tobytes())
        return select(method, its_task, *arguments, **options)

    monkeypatch.setattr(held_out, "select", spy)
    held_out_accuracy(**task)
    assert seen["zero-shot"] == seen["tip-adapter"]
    assert len(set(seen["zero-shot"])) == 6


def test_again_is_the_same(task) -> None:
    noisy = task["features"] + np.random.default_rng(1).normal(0, 0.6, (30, 8)).astype(np.float32)
    task |= {"features": noisy}
    assert held_out_accuracy(**task) == held_out_accuracy(**task)


def test_too_few_images(task) -> None:
    with pytest.raises(InputError, match="11 shots were asked for"):
        held_out_accuracy(**{**task, "shots": (11,)})


def test_mean_and_deviation() -> None:
    cell = Cell("zero-shot", 1, (0.5, 0.6, 0.7))
    assert cell.mean == pytest.approx(0.6)
    assert cell.deviation == pytest.approx(0.1)  # divided by n − 1
    assert Cell("zero-shot", 1, (0.5,)).deviation == 0
