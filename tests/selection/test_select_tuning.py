"""Settings of tuning methods: the same rules as for heads, each value trained once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_tuning import PROMPTS, Toy, coloured

from handful import load_encoder
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.methods.search import Search
from handful.selection import select_tuning as module
from handful.selection.select_tuning import select_tuning
from handful.tuning.images import TrainingImages
from handful.tuning.training import train


@pytest.fixture(scope="module")
def clip(tiny: Callable[[str], Path]) -> Encoder:
    return load_encoder(f"dir:{tiny('clip')}")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> TrainingImages:
    return TrainingImages(*coloured(tmp_path_factory.mktemp("pictures"), 3))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> TrainingImages:
    return TrainingImages(*coloured(tmp_path_factory.mktemp("others"), 5, seed=1))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings of each training, as they come."""
    runs: list[dict[str, Any]] = []

    def counting(tuning: Any, *args: Any, **named: Any) -> Any:
        runs.append(tuning.settings())
        return train(tuning, *args, **named)

    monkeypatch.setattr(module, "train", counting)
    return runs


def test_every_value_trains_once_and_the_best_is_taken(
    clip: Encoder,
    pictures: TrainingImages,
    others: TrainingImages,
    trained: list[dict[str, Any]],
) -> None:
    tuned, selection = select_tuning(Toy, clip, pictures, PROMPTS, validation=others)
    assert [run["lr"] for run in trained] == [0.0, 1e-3, 1e-1]
    assert selection.policy == "val"
    assert selection.images == 15
    points = [(point["lr"], point["share"]) for point in selection.trace]
    assert points == [(lr, share) for lr in (0.0, 1e-3, 1e-1) for share in (0.0, 0.5, 1.0)]
    # Each candidate by itself: what training with these settings, and no selection, gives.
    for point in selection.trace:
        toy = Toy(lr=point["lr"], share=point["share"])
        alone = train(toy, clip, pictures, PROMPTS).finished(clip)
        correct = (alone.logits(others).argmax(1) == others.labels).sum()
        assert point["correct"] == correct
    best = max(point["correct"] for point in selection.trace)
    assert selection.accuracy == best / 15 > selection.trace[0]["correct"] / 15
    assert tuned.tuning.settings() == Toy(**selection.settings).settings()
    assert set(selection.settings) == {"lr", "share"}
    assert selection.border == ()  # a grid that begins at zero has no lower end
    assert selection.trace[selection.chosen]["correct"] == best
    assert selection.held_out is not None
    assert selection.held_out.right.sum() == best
    assert selection.held_out.source == "validation"
    assert selection.held_out.fitted == selection.held_out.support == 9
    np.testing.assert_array_equal(
        selection.held_out.logits.argmax(1), tuned.logits(others).argmax(1)
    )
    np.testing.assert_array_equal(
        selection.candidates[selection.chosen].right, selection.held_out.right
    )


def test_a_tie_goes_to_the_middle_of_the_plateau(
    clip: Encoder, pictures: TrainingImages, others: TrainingImages
) -> None:
    class Tied(Toy):
        search = Search(train={"lr": (1e-9, 1e-8, 1e-7, 1e-6, 1e-5)})

    _, selection = select_tuning(Tied, clip, pictures, PROMPTS, validation=others)
    assert len({point["correct"] for point in selection.trace}) == 1
    assert selection.settings == {"lr": 1e-7}


def test_an_end_of_the_grid_is_reported(
    clip: Encoder, pictures: TrainingImages, others: TrainingImages
) -> None:
    class Ended(Toy):
        search = Search(train={"lr": (1e-9, 1e-8, 1e-1)})

    _, selection = select_tuning(Ended, clip, pictures, PROMPTS, validation=others)
    assert selection.settings == {"lr": 1e-1}
    assert selection.border == ("lr",)


def test_given_settings_are_not_searched(
    clip: Encoder, pictures: TrainingImages, others: TrainingImages, trained: list[Any]
) -> None:
    tuned, selection = select_tuning(
        Toy, clip, pictures, PROMPTS, validation=others, lr=0.05, side="features"
    )
    assert [(run["lr"], run["side"]) for run in trained] == [(0.05, "features")]
    assert set(selection.settings) == {"share"}
    assert tuned.tuning.settings()["lr"] == 0.05


@pytest.mark.parametrize("with_images", [True, False])
def test_fixed_takes_the_defaults(
    clip: Encoder,
    pictures: TrainingImages,
    others: TrainingImages,
    trained: list[Any],
    with_images: bool,
) -> None:
    """Even a method that would keep its best pass keeps the last."""
    validation = others if with_images else None
    policy = "fixed" if with_images else None
    tuned, selection = select_tuning(
        Toy, clip, pictures, PROMPTS, policy, validation=validation, patience=0
    )
    assert len(trained) == 1
    assert (selection.policy, selection.settings) == ("fixed", {})
    expected = train(Toy(), clip, pictures, PROMPTS).finished(clip)
    np.testing.assert_array_equal(tuned.class_embeddings, expected.class_embeddings)
    assert (selection.held_out is not None) == with_images


def test_passes_that_could_have_been_kept_count_as_alternatives(
    clip: Encoder, pictures: TrainingImages, others: TrainingImages
) -> None:
    """The estimate corrects for the choice among them, as for the choice of settings."""
    _, selection = select_tuning(
        Toy, clip, pictures, PROMPTS, validation=others, patience=9, lr=0.1, share=1.0, epochs=4
    )
    assert selection.policy == "val"
    (candidate,) = selection.candidates
    assert candidate.around.shape == (15, 1 + 3)  # itself; before, and after passes 2 and 4
    assert candidate.correct == candidate.around[:, 1:].sum(0).max()


def test_equal_seeds_choose_the_same(
    clip: Encoder, pictures: TrainingImages, others: TrainingImages
) -> None:
    found = [
        select_tuning(
            Toy, clip, pictures, PROMPTS, validation=others, random_state=seed, dropout=0.5
        )[0]
        for seed in (3, 3, 4)
    ]
    assert found[0].fingerprint == found[1].fingerprint != found[2].fingerprint


@pytest.mark.parametrize(
    ("method", "policy", "given", "said"),
    [
        ("tooy", None, {}, "no tuning method 'tooy'"),
        (Toy, "test", {}, "no selection policy 'test'"),
        (Toy, "cv", {}, "once more for every fold"),
        (Toy, "val", {}, "selection 'val' needs validation images"),
        (Toy, None, {"sied": "text"}, "no setting 'sied'. Did you mean 'side'"),
        (Toy, None, {"side": "up"}, "setting 'side' of method 'toy' is 'up'"),
    ],
)
def test_refusals_come_before_any_work(
    clip: Encoder,
    pictures: TrainingImages,
    trained: list[Any],
    method: Any,
    policy: str | None,
    given: dict[str, Any],
    said: str,
) -> None:
    with pytest.raises(InputError, match=said):
        select_tuning(method, clip, pictures, PROMPTS, policy, **given)
    assert not trained


def test_a_stopped_search_is_gone_on_with(
    clip: Encoder,
    pictures: TrainingImages,
    others: TrainingImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from handful.tuning import resume, training

    arguments: dict[str, Any] = {"validation": others, "dropout": 0.3}
    expected, _ = select_tuning(Toy, clip, pictures, PROMPTS, **arguments)
    run_pass = training._Loop._pass
    passes: list[int] = []

    def counting(self: Any, *args: Any) -> None:
        if len(passes) == 5:
            passes.append(0)
            raise KeyboardInterrupt
        passes.append(1)
        run_pass(self, *args)

    monkeypatch.setattr(resume, "_COST", float("inf"))
    monkeypatch.setattr(training._Loop, "_pass", counting)
    with pytest.raises(KeyboardInterrupt):
        select_tuning(Toy, clip, pictures, PROMPTS, checkpoint=tmp_path, **arguments)
    assert len(list(tmp_path.iterdir())) == 2  # the first value is done, two passes of the second
    found, _ = select_tuning(Toy, clip, pictures, PROMPTS, checkpoint=tmp_path, **arguments)
    assert sum(passes) == 3 * 3  # none is run twice
    assert found.fingerprint == expected.fingerprint
    assert not list(tmp_path.iterdir())


def test_prompts_of_other_classes_give_another_encoder(
    clip: Encoder, pictures: TrainingImages
) -> None:
    first, _ = select_tuning(Toy, clip, pictures, PROMPTS)
    second, _ = select_tuning(Toy, clip, pictures, replace(PROMPTS, templates=("the {}",)))
    assert first.fingerprint != second.fingerprint
