"""``select``: policies, what is searched, what is written down, and what is refused."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from two_spaces import task_as_taken, with_correction

from handful import FewShotTask, InputError, methods, select
from handful.functional.folds import make_folds
from handful.methods.head import Head
from handful.methods.search import Search
from handful.methods.tip_adapter import TipAdapter
from handful.methods.zero_shot import ZeroShot
from handful.selection.candidates import Judge
from handful.selection.select import choose_policy, trials_of

every_method = pytest.mark.parametrize("name", methods.names())


def toy(shots: int = 4, seed: int = 0, noise: float = 1.0, validation: int = 3) -> FewShotTask:
    """Five Gaussian classes in 24 dimensions, with text near their centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, 24))

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.repeat(np.arange(5), count)
        return centres[y] + noise * rng.normal(size=(len(y), 24)), y

    X, y = images(shots)
    X_val, y_val = images(validation)
    text = centres + 1.5 * rng.normal(size=centres.shape)
    return FewShotTask(X, y, X_val, y_val, class_embeddings=text)


def without_validation(task: FewShotTask) -> FewShotTask:
    return replace(task, X_val=None, y_val=None)


def cheap(name: str) -> dict[str, Any]:
    """Few epochs, where a method has any: given settings are not searched."""
    return {"epochs": 10} if "epochs" in inspect.signature(methods.get(name)).parameters else {}


# -- policies --------------------------------------------------------------------------------------


def test_policy_left_out_is_the_best_that_the_task_allows() -> None:
    task = toy()
    assert choose_policy(task, None) == "val"
    assert choose_policy(without_validation(task), None) == "cv"
    assert choose_policy(without_validation(toy(shots=1)), None) == "fixed"
    assert choose_policy(toy(shots=1), None) == "val"
    duplicates = replace(without_validation(toy(shots=2)), groups=np.repeat(np.arange(5), 2))
    assert choose_policy(duplicates, None) == "fixed"


@pytest.mark.parametrize("policy", ["val", "cv", "fixed"])
def test_a_policy_given_is_taken(policy: str) -> None:
    assert choose_policy(toy(), policy) == policy
    head = select("tip-adapter", toy(), policy)
    assert head.selection_.policy == policy
    assert head.selection_.to_json()["policy"] == policy


@pytest.mark.parametrize(
    ("task", "policy", "sentence"),
    [
        (toy(), "vla", r"no selection policy 'vla'\. Did you mean 'val'\? Use one of val, cv, fix"),
        (toy(), "test", "no selection policy 'test'"),
        (without_validation(toy()), "val", "'val' needs validation images, and there are none"),
        (toy(shots=1), "cv", "'cv' needs two distinct images of at least one class"),
    ],
)
def test_an_impossible_policy_is_refused(task: FewShotTask, policy: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        select("tip-adapter", task, policy)


# -- what is refused -------------------------------------------------------------------------------


def test_unknown_method() -> None:
    with pytest.raises(InputError, match=r"no method 'tipadapter'\. Did you mean 'tip-adapter'"):
        select("tipadapter", toy())


@pytest.mark.parametrize("policy", ["val", "cv", "fixed"])
def test_unknown_setting_suggests_the_nearest(policy: str) -> None:
    with pytest.raises(
        InputError, match=r"'tip-adapter' has no setting 'sharpnes'\. Did you mean 'sharpness'"
    ):
        select("tip-adapter", toy(), policy, sharpnes=3.0)


def test_the_setting_of_another_method_is_unknown() -> None:
    with pytest.raises(InputError, match="'zero-shot' has no setting 'C'"):
        select("zero-shot", toy(), C=1.0)


@every_method
def test_validation_labels_that_the_support_does_not_know(name: str) -> None:
    """Also where nothing is searched, so that the answer does not depend on the method."""
    task = task_as_taken(name, toy())
    assert task.y_val is not None
    strange = replace(task, y_val=task.y_val + 1)
    with pytest.raises(InputError, match="validation label 5 is none of the classes"):
        select(name, strange, "val", **cheap(name))


@every_method
@pytest.mark.parametrize("policy", ["val", "cv", "fixed"])
def test_support_labels_that_have_no_row_are_an_input_error(name: str, policy: str) -> None:
    task = task_as_taken(name, toy())
    with pytest.raises(InputError, match="label 9 belongs to no row"):
        select(name, replace(task, y=np.where(task.y == 4, 9, task.y)), policy, **cheap(name))


# -- corrections -----------------------------------------------------------------------------------


def assert_equal(found: Head, expected: Head, task: FewShotTask) -> None:
    np.testing.assert_array_equal(found.logits(task.X), expected.logits(task.X))
    assert found.selection_.to_json() == expected.selection_.to_json()


@every_method
def test_a_method_without_the_correction_sees_the_original_features_alone(name: str) -> None:
    if methods.get(name).needs_correction:
        pytest.skip("it always uses the correction")
    task = toy()
    expected = select(name, task, **cheap(name))
    assert_equal(select(name, with_correction(task), **cheap(name)), expected, task)


@pytest.mark.parametrize("name", ["tip-adapter", "tip-x", "ape"])
def test_the_setting_is_the_method_with_two_plusses(name: str) -> None:
    task = with_correction(toy())
    found = select(name, task, similarity="corrected")
    assert_equal(found, select(f"{name}++", task), task)


@pytest.mark.parametrize("policy", ["val", "cv"])
@pytest.mark.parametrize("name", [n for n in methods.names() if methods.get(n).compares_images()])
def test_a_correction_is_selected_with(name: str, policy: str) -> None:
    """Of two equal halves the same is chosen as of one."""
    plain = toy(noise=3.0)
    assert plain.X_val is not None
    wide = replace(
        plain,
        X=np.concatenate([plain.X, plain.X], axis=1),
        X_val=np.concatenate([plain.X_val, plain.X_val], axis=1),
        corrected=True,
    )
    given = {} if methods.get(name).needs_correction else {"similarity": "corrected"}
    found = select(name, wide, policy, **given, **cheap(name)).selection_.to_json()
    expected = select(name.removesuffix("++"), plain, policy, **cheap(name)).selection_.to_json()
    assert found == expected


@pytest.mark.parametrize(
    ("name", "given", "who"),
    [
        ("tip-adapter++", {}, r"'tip-adapter\+\+' needs"),
        ("proker", {"similarity": "corrected"}, "'proker' with similarity 'corrected' needs"),
    ],
)
def test_without_a_correction_it_is_said_how_to_make_one(
    name: str, given: dict[str, Any], who: str
) -> None:
    with pytest.raises(InputError, match=f"{who} a correction.*correct train.*--correction"):
        select(name, toy(), **given)


def test_a_method_with_two_plusses_has_no_such_setting() -> None:
    with pytest.raises(InputError, match=r"'ape\+\+' has no setting 'similarity'"):
        select("ape++", with_correction(toy()), similarity="original")


# -- what is searched ------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("policy", ["val", "cv"])
def test_every_searched_setting_is_chosen_and_set(name: str, policy: str) -> None:
    task = task_as_taken(name, toy())
    head = select(name, task, policy, **cheap(name))
    searched = methods.get(name).search.settings()
    assert set(head.selection_.settings) == set(searched)
    for setting, value in head.selection_.settings.items():
        assert getattr(head, setting) == value
    if searched:
        assert head.selection_.images == (15 if policy == "val" else 20)
        assert head.selection_.folds == (0 if policy == "val" else 4)
    else:
        assert head.selection_.policy == "fixed"
    np.testing.assert_array_equal(
        head.predict(task.X[:3]), head.classes_[head.logits(task.X[:3]).argmax(1)]
    )


@every_method
@pytest.mark.parametrize("policy", ["val", "cv"])
def test_the_head_is_fitted_on_the_whole_support_with_what_was_chosen(
    name: str, policy: str
) -> None:
    task = task_as_taken(name, toy())
    head = select(name, task, policy, random_state=3, **cheap(name))
    chosen = {**cheap(name), **head.selection_.settings}
    alone = methods.get(name)(**task.head_arguments(), random_state=3, **chosen)
    expected = alone.fit(task.X, task.y).logits(task.X)
    # Trained in a batch of runs or alone: equal up to the last digits of float32.
    np.testing.assert_allclose(
        head.logits(task.X), expected, rtol=0, atol=1e-4 * np.abs(expected).max()
    )
    assert head.get_params()["random_state"] == 3


@every_method
def test_fixed_takes_the_documented_defaults(name: str) -> None:
    task = task_as_taken(name, toy())
    head = select(name, task, "fixed")
    assert head.settings() == methods.get(name)().settings()
    assert head.selection_.settings == {}
    assert head.selection_.trace == ()
    assert head.selection_.accuracy is None


@pytest.mark.parametrize(
    ("given", "searched"),
    [
        ({"sharpness": 5.5}, {"blend"}),
        ({"blend": 60.0}, {"sharpness"}),
        ({"blend": 60.0, "sharpness": 5.5}, set()),
        ({"blend": 0.0}, {"sharpness"}),
    ],
)
@pytest.mark.parametrize("name", ["tip-adapter", "tip-adapter-f"])
def test_settings_that_are_given_are_not_searched(
    name: str, given: dict[str, float], searched: set[str]
) -> None:
    task = toy(noise=4.0, validation=12)
    head = select(name, task, "val", **given, **cheap(name))
    # What is given is not searched; what needs training still is.
    assert set(head.selection_.settings) == searched | set(head.search.train)
    for setting, value in given.items():
        assert getattr(head, setting) == value
    if searched:  # the accuracy is that of the settings given, not of others
        assert task.X_val is not None
        assert head.selection_.accuracy == head.score(task.X_val, task.y_val)


def test_a_training_setting_that_is_given_is_not_searched() -> None:
    head = select("linear-probe", toy(), "val", C=0.5)
    assert head.C == 0.5  # type: ignore[attr-defined]
    assert head.selection_.settings == {}
    head = select("clip-adapter", toy(), "val", blend=0.35, epochs=5)
    assert head.blend == 0.35  # type: ignore[attr-defined]


@every_method
def test_accuracy_and_trace_are_those_of_the_validation_images(name: str) -> None:
    task = task_as_taken(name, toy(noise=4.0, validation=12))
    head = select(name, task, "val", **cheap(name))
    found = head.selection_
    assert found.accuracy is None or found.accuracy < 0.99
    if not found.settings:
        pytest.skip(f"{name} has nothing to search")
    assert task.X_val is not None
    assert found.accuracy == head.score(task.X_val, task.y_val)
    assert found.trace[found.chosen] == {
        **found.settings,
        "correct": round(found.accuracy * found.images),
    }
    assert max(candidate["correct"] for candidate in found.trace) == round(
        found.accuracy * found.images
    )


@every_method
@pytest.mark.parametrize("policy", ["val", "cv", "fixed"])
def test_the_trace_is_plain_json(name: str, policy: str) -> None:
    found = select(name, task_as_taken(name, toy()), policy, **cheap(name)).selection_.to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {"policy", "settings", "images", "folds", "border", "trace"} <= found.keys()


@pytest.mark.parametrize("name", ["clip-adapter", "tip-adapter", "tip-adapter-f"])
@pytest.mark.parametrize("seed", range(4))
def test_selection_never_does_worse_than_zero_shot_on_its_own_images(name: str, seed: int) -> None:
    """Blend 0 is among the candidates, also where the support is misleading."""
    task = toy(shots=2, seed=seed, noise=3.0, validation=8)
    misleading = replace(task, y=np.roll(task.y, 2))
    assert task.X_val is not None
    zero_shot = ZeroShot(**task.head_arguments()).fit(task.X, task.y)
    for one in (task, misleading):
        found = select(name, one, "val", **cheap(name)).selection_.accuracy
        assert found is not None and found >= zero_shot.score(task.X_val, task.y_val)
        across = select(name, one, "cv", **cheap(name)).selection_
        assert across.accuracy is not None
        assert across.accuracy >= zero_shot.score(one.X, one.y)


def test_tip_adapters_candidates_are_the_sharpnesses_each_with_its_best_blend() -> None:
    task = toy()
    head = select("tip-adapter", task, "val")
    trace = head.selection_.trace
    assert [c["sharpness"] for c in trace] == list(TipAdapter.search.sweep["sharpness"])
    assert task.X_val is not None
    for candidate in trace[::5]:
        best = 0.0
        for blend in (0.0, *np.geomspace(1e-2, 99, 400)):
            tried = TipAdapter(
                **task.head_arguments(), sharpness=candidate["sharpness"], blend=blend
            )
            best = max(best, tried.fit(task.X, task.y).score(task.X_val, task.y_val))
        assert candidate["correct"] >= round(best * 15)


def test_the_images_right_around_the_best_blend_are_those_of_other_blends() -> None:
    """Multiples of the best, a factor of up to 8 either way, and zero-shot itself."""
    task = toy(noise=4.0, validation=12)
    found = select("tip-adapter", task, "val", sharpness=5.5).selection_
    (candidate,) = found.candidates
    multiples = np.array([0, 1 / 8, 1 / 4, 1 / 2, 1 / 2**0.5, 2**0.5, 2, 4, 8])
    blends = np.minimum(multiples * candidate.settings["blend"], 100)
    assert candidate.around.shape[1] == len(blends)
    for column, blend in enumerate(blends):
        head = TipAdapter(**task.head_arguments(), sharpness=5.5, blend=blend)
        right = head.fit(task.X, task.y).predict(task.X_val) == task.y_val
        np.testing.assert_array_equal(candidate.around[:, column], right)
    assert 0.2 < candidate.around[:, 0].mean() < 0.95
    assert candidate.correct >= candidate.around.sum(axis=0).max()


def test_cross_validation_judges_each_image_by_heads_that_have_not_seen_it() -> None:
    task = without_validation(toy())
    found = select("tip-adapter", task, "cv", sharpness=5.5, random_state=7)
    blend = found.selection_.settings["blend"]
    right = 0
    for fold in make_folds(task.y, seed=7):
        head = TipAdapter(**task.head_arguments(), sharpness=5.5, blend=blend)
        head.fit(task.X[fold.fit], task.y[fold.fit])
        right += int((head.predict(task.X[fold.judge]) == task.y[fold.judge]).sum())
    assert found.selection_.accuracy == right / 20


def test_near_duplicates_do_not_flatter_cross_validation() -> None:
    """Every image twice, labels at random: with the twin in another fold a nearest-neighbour
    head would seem right; with both in one fold it is at chance."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(60, 24)), 2, axis=0)
    y = np.repeat(rng.permutation(np.repeat(np.arange(3), 20)), 2)
    task = FewShotTask(X, y)
    settings_ = {"sharpness": 50.0, "blend": 1e6}

    def accuracy(task: FewShotTask) -> float:
        judge = Judge(TipAdapter, task, trials_of(task, "cv", 0), settings_, random_state=0)
        (candidate,) = judge.judge([{}])
        return float(candidate.right.mean())

    assert accuracy(task) > 0.7
    # Three standard errors of 60 independent images above chance.
    grouped = replace(task, groups=np.repeat(np.arange(60), 2))
    assert accuracy(grouped) < 1 / 3 + 3 * math.sqrt(2 / 9 / 60)


@every_method
def test_selecting_twice_gives_the_same(name: str) -> None:
    task = task_as_taken(name, toy())
    first, second = (select(name, task, "cv", random_state=1, **cheap(name)) for _ in range(2))
    assert first.selection_.to_json() == second.selection_.to_json()
    np.testing.assert_array_equal(first.logits(task.X), second.logits(task.X))


@every_method
def test_the_task_is_left_as_it_was(name: str) -> None:
    task = task_as_taken(name, toy())
    before = {k: None if v is None else np.copy(v) for k, v in vars(task).items()}
    select(name, task, "cv", **cheap(name))
    select(name, task, "val", **cheap(name))
    for field, value in before.items():
        np.testing.assert_array_equal(getattr(task, field), value)


def test_validation_images_play_no_part_in_cross_validation() -> None:
    task = toy()
    for name in ("tip-adapter", "linear-probe"):
        one, other = select(name, task, "cv"), select(name, without_validation(task), "cv")
        assert one.selection_.to_json() == other.selection_.to_json()


def test_views_reach_the_folds() -> None:
    task = toy()
    views = task.X[:, None] + np.random.default_rng(0).normal(size=(20, 3, 24))
    with_views = select("tip-adapter", replace(task, views=views), "cv", sharpness=5.5, blend=2.0)
    direct = TipAdapter(**task.head_arguments(), sharpness=5.5, blend=2.0)
    direct.fit(task.X, task.y, views=views)
    np.testing.assert_array_equal(with_views.logits(task.X), direct.logits(task.X))
    searched = select("tip-adapter", replace(task, views=views), "cv")
    assert searched.selection_.to_json() != select("tip-adapter", task, "cv").selection_.to_json()


def test_names_as_labels_choose_the_same() -> None:
    """Folds are dealt in the sorted order of the labels, so names in that order deal alike."""
    for names, policy in (
        (["pond", "airport", "quarry", "beach", "meadow"], "val"),
        ("abcde", "cv"),
    ):
        task = toy()
        named = replace(
            task,
            y=np.array(list(names))[task.y],
            y_val=np.array(list(names))[task.y_val],
            class_names=list(names),
        )
        numbers, words = (select("linear-probe", t, policy) for t in (task, named))
        assert numbers.selection_.to_json() == words.selection_.to_json()
        assert [names[c] for c in numbers.predict(task.X)] == words.predict(task.X).tolist()


def test_a_winner_on_the_border_of_its_grid_is_reported() -> None:
    class Climbing(Scripted):
        search = Search(train={"C": (0.1, 1.0, 10.0)})

    task = scripted_task([(0.5, 9.0)] * 4)
    assert select(Climbing, task, "val").selection_.border == ("C",)
    task = scripted_task([(-0.5, 0.5)] * 4)
    assert select(Climbing, task, "val").selection_.border == ()


# -- CoOp's search of the linear probe -------------------------------------------------------------


class Scripted(Head):
    """A head that is right on image i exactly where low_i < log10(C) < high_i."""

    name = "scripted"
    summary = paper = "for tests"
    learned: ClassVar[tuple[str, ...]] = ()
    search = Search(train={"C": (1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6)}, halvings=8)

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        C: float = 1.0,
        class_names: Any = None,
        logit_scale: float = 100.0,
        random_state: int | None = 0,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.C = C
        self.class_names = class_names
        self.logit_scale = logit_scale
        self.random_state = random_state

    def _logits(self, features: Tensor) -> Tensor:
        at = math.log10(self.C)
        right = (features[:, 0] < at) & (at < features[:, 1])
        return torch.stack([right.double(), 1 - right.double()], dim=1)


def scripted_task(intervals: list[tuple[float, float]]) -> FewShotTask:
    X = np.array(intervals, dtype=float)
    return FewShotTask(np.eye(2), np.array([0, 1]), X, np.zeros(len(X), int))


def coop_search(intervals: list[tuple[float, float]], start: float) -> set[float]:
    """The rule in words: from one decade each side of ``start`` (a log10), fit both ends, keep
    the better (the left where they tie), go halfway, eight times. Returns the log10 visited."""
    visited: set[float] = set()
    left, right = start - 1, start + 1
    for _ in range(8):
        visited |= {left, right}
        scores = [sum(low < end < high for low, high in intervals) for end in (left, right)]
        if scores[1] > scores[0]:
            left = (left + right) / 2
        else:
            right = (left + right) / 2
    return visited


INTERVALS = st.lists(
    st.tuples(st.floats(-9, 7), st.floats(0.3, 6)).map(lambda t: (t[0], t[0] + t[1])),
    min_size=1,
    max_size=25,
)


def visited_by(trace: tuple[dict[str, float], ...]) -> set[float]:
    """log10 of each C of a trace; C is rounded to six digits, the steps are multiples of 1/128."""
    return {round(128 * math.log10(candidate["C"])) / 128 for candidate in trace}


@settings(deadline=None, max_examples=40)
@given(INTERVALS)
def test_the_probe_visits_what_coops_search_visits(intervals: list[tuple[float, float]]) -> None:
    coarse = [-6, -4, -2, 0, 2, 4, 6]
    scores = [sum(low < c < high for low, high in intervals) for c in coarse]
    assume(scores.count(max(scores)) == 1)
    # C is rounded to six digits: keep the ends of intervals away from the values visited.
    expected = coop_search(intervals, coarse[int(np.argmax(scores))])
    assume(min(abs(e - end) for e in expected for pair in intervals for end in pair) > 1e-5)
    found = select(Scripted, scripted_task(intervals), "val")
    visited = visited_by(found.selection_.trace)
    assert visited == expected | set(coarse)
    # What is taken is best among what was visited.
    assert found.selection_.accuracy == max(
        sum(low < at < high for low, high in intervals) / len(intervals) for at in visited
    )


def test_of_tied_coarse_values_the_search_starts_in_the_middle() -> None:
    """Ties go to the middle of the plateau here too: 1, 100 and 10⁴ are equally good."""
    intervals = [(-1.0, 5.0)] * 4
    found = select(Scripted, scripted_task(intervals), "val").selection_
    assert {1.0, 3.0} <= visited_by(found.trace)
    assert found.settings["C"] == pytest.approx(100)


def test_the_probe_searches_as_described() -> None:
    search = methods.get("linear-probe").search
    assert sorted(search.train["C"]) == [1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6]
    assert search.halvings == 8
