"""Calibration from few held-out images: what must hold, and that it helps on real features."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.evaluation.calibrate import LEAST, PER_CLASS, Calibration, Quality, calibrate
from handful.evaluation.calibration import calibration_error, negative_log_likelihood
from handful.features.file import load_features
from handful.functional.temperature import fit_temperature
from handful.selection.candidates import HeldOut
from handful.selection.select import held_out, select
from handful.task import FewShotTask


def held(
    seed: int = 0, images: int = 40, classes: int = 4, sharp: float = 3.0, bias: float = 0.0
) -> HeldOut:
    """Held-out images whose labels were drawn from softmax(logits / sharp − bias of class 0)."""
    rng = np.random.default_rng(seed)
    true = 2 * rng.normal(size=(images, classes))
    labels = (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    labels[: min(images, classes)] = np.arange(classes)[:images]
    true[:, 0] += bias
    rows = np.arange(images)
    return HeldOut(sharp * true, labels, rows, rows, rows % 4, 0.75 * images, images)


def test_sharp_logits_are_softened_and_what_was_measured_is_told() -> None:
    given_ = held(sharp=4.0)
    found = calibrate(given_)
    assert (found.kind, found.images, found.source) == ("temperature", 40, "cross-validation")
    assert 2 < found.temperature < 8
    assert found.before is not None and found.after is not None
    plain = Calibration().probabilities(given_.logits)
    assert found.before == Quality.of(plain, given_.labels)
    assert found.before.negative_log_likelihood == pytest.approx(
        negative_log_likelihood(plain, given_.labels)
    )
    assert found.before.calibration_error == pytest.approx(calibration_error(plain, given_.labels))
    assert found.after.negative_log_likelihood < found.before.negative_log_likelihood
    assert found.after == Quality.of(found.cross_fitted(given_), given_.labels)
    validation = calibrate(replace(given_, rows=None))
    assert validation.source == "validation"


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_temperature_changes_no_answer_and_scales_with_the_logits(seed: int, factor: float) -> None:
    one = held(seed, images=16)
    found = calibrate(one)
    probabilities = found.probabilities(one.logits)
    assert (probabilities.argmax(axis=1) == one.logits.argmax(axis=1)).all()
    assert probabilities.sum(axis=1) == pytest.approx(1)
    scaled = calibrate(replace(one, logits=one.logits * factor))
    assert scaled.temperature == pytest.approx(factor * found.temperature, rel=1e-5)
    assert scaled.probabilities(one.logits * factor) == pytest.approx(probabilities, abs=1e-6)


def test_all_right_is_not_certainty() -> None:
    one = held(images=8)
    one = replace(one, labels=one.logits.argmax(axis=1))
    sure = calibrate(one).probabilities(one.logits).max(axis=1).mean()
    assert 0.85 < sure < 1  # (8 + ½) / (8 + 1) is 0.944


def test_near_duplicates_count_once() -> None:
    one = held(images=20)
    thrice = np.concatenate([np.arange(20), [7, 7, 9]])
    more = HeldOut(
        one.logits[thrice], one.labels[thrice], one.groups[thrice], one.groups[thrice],
        one.fold[thrice], 15, 20,
    )  # fmt: skip
    found, expected = calibrate(more), calibrate(one)
    assert found.images == expected.images == 20
    assert found.temperature == pytest.approx(expected.temperature)
    # ... and are left out together.
    assert found.cross_fitted(more)[20] == pytest.approx(expected.cross_fitted(one)[7])


def test_each_image_is_calibrated_without_itself() -> None:
    one = held(images=10)
    found = calibrate(one).cross_fitted(one)
    for i in range(10):
        others = np.arange(10) != i
        t = fit_temperature(one.logits[others], one.labels[others], None, 0.5)
        alone = Calibration("temperature", t).probabilities(one.logits[i : i + 1])[0]
        assert found[i] == pytest.approx(alone)
    # With many images it is five parts; still, its own label has no say.
    many = held(images=60)
    before = calibrate(many).cross_fitted(many)
    changed = many.labels.copy()
    changed[30] = (changed[30] + 1) % 4
    after = calibrate(many).cross_fitted(replace(many, labels=changed))
    assert after[30] == pytest.approx(before[30])
    assert not np.allclose(after, before)


def test_too_few_images_or_classes_say_nothing() -> None:
    assert calibrate(None) == Calibration()
    assert calibrate(held(images=LEAST)).kind == "temperature"
    assert calibrate(held(images=LEAST - 1)) == Calibration()
    one = held(images=30, classes=6)
    for classes, kind in ((2, "none"), (3, "temperature")):
        some = replace(one, labels=one.labels % classes)
        assert calibrate(some).kind == kind
    twins = replace(held(images=LEAST), groups=np.array([0, 0, 1, 2, 3, 4]))
    assert calibrate(twins).kind == "none"
    few = held(images=2)
    assert calibrate(few).cross_fitted(few) == pytest.approx(
        Calibration().probabilities(few.logits)
    )


# -- vector scaling --------------------------------------------------------------------------------


def test_a_biased_class_gets_vector_scaling_where_there_are_images_enough() -> None:
    per_class = PER_CLASS * 4
    biased = held(1, images=5 * per_class, sharp=1.0, bias=2.5)
    found = calibrate(biased)
    assert found.kind == "vector" and found.scale is not None and found.bias is not None
    assert len(found.scale) == len(found.bias) == 4
    assert found.bias[0] < min(found.bias[1:])
    assert found.before is not None and found.after is not None
    assert found.after.negative_log_likelihood < found.before.negative_log_likelihood - 0.1
    mean = found.probabilities(biased.logits)[:, 0].mean()
    assert mean == pytest.approx((biased.labels == 0).mean(), abs=0.03)
    few = held(1, images=per_class - 1, sharp=1.0, bias=2.5)
    assert calibrate(few).kind == "temperature"


def test_without_a_bias_it_is_hardly_ever_vector_scaling() -> None:
    kinds = [calibrate(held(seed, images=80)).kind for seed in range(40)]
    # Two standard errors: by chance in about one of forty.
    assert kinds.count("vector") <= 3


# -- one shot --------------------------------------------------------------------------------------


def whu(shared: Path, shots: int, seed: int):
    """A task and rows to judge; both of p[:20] of seed 1, which is no test row of that seed."""
    f = load_features(shared / "data" / "whu-rs19" / "features" / "clip-vit-b-32.safetensors")
    generator = np.random.RandomState(1)
    rows = [generator.permutation(np.flatnonzero(f.labels == c))[:20] for c in range(19)]
    draw = np.random.default_rng(seed)
    rows = [draw.permutation(own) for own in rows]
    support = np.concatenate([own[:shots] for own in rows])
    judged = np.concatenate([own[shots:] for own in rows])
    X, y = f.image_features, f.labels
    task = FewShotTask(X[support], y[support], class_embeddings=f.class_embeddings)
    return task, X[judged], y[judged]


def test_at_one_shot_the_names_are_calibrated_for_heads_that_start_from_them(shared: Path) -> None:
    task, _, _ = whu(shared, 1, 0)
    names = select("zero-shot", task)
    assert held_out(names, task) is None
    found = calibrate(None, head=names, task=task)
    assert (found.kind, found.source, found.images) == ("temperature", "support", 19)
    assert found.temperature == pytest.approx(
        fit_temperature(names.logits(task.X), task.y, None, 0.5)
    )
    assert found.before is not None and found.after is not None
    tip = select("tip-adapter", task)
    of_tip = calibrate(None, head=tip, task=task)
    assert of_tip == replace(found, before=None, after=None)
    mean = select("nearest-class-mean", task)
    assert calibrate(None, head=mean, task=task) == Calibration()
    without = FewShotTask(task.X, task.y)
    assert calibrate(None, head=select("zero-shot", without), task=without) == Calibration()
    one = held(images=4, classes=19)  # images too few to go by: the names again
    assert calibrate(one, head=tip, task=task) == of_tip
    assert of_tip.cross_fitted(one) == pytest.approx(of_tip.probabilities(one.logits))


def test_halves_large_errors_on_real_features(shared: Path) -> None:
    """The promise: where the error was above 5 %, it is at least halved on average."""
    before, after, likelihood = [], [], []
    for method, shots in (("zero-shot", 4), ("proker", 4), ("linear-probe", 2)):
        for seed in range(3):
            task, X, y = whu(shared, shots, seed)
            head = select(method, task, random_state=seed)
            found = calibrate(held_out(head, task, random_state=seed), head=head, task=task)
            plain, better = (c.probabilities(head.logits(X)) for c in (Calibration(), found))
            if calibration_error(plain, y) > 0.05:
                before.append(calibration_error(plain, y))
                after.append(calibration_error(better, y))
            scores = [negative_log_likelihood(p, y) for p in (better, plain)]
            likelihood.append(scores[0] - scores[1])
    assert len(before) >= 6
    assert np.mean(after) < np.mean(before) / 2
    assert np.mean(likelihood) < 0


# -- the saved form --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "found",
    [
        Calibration(),
        calibrate(held()),
        calibrate(held(1, images=160, sharp=1.0, bias=2.5)),
    ],
    ids=lambda found: found.kind,
)
def test_comes_back_from_json(found: Calibration) -> None:
    text = json.dumps(found.to_json(), allow_nan=False)
    again = Calibration.from_json(json.loads(text))
    assert again == found
    logits = held().logits
    assert np.array_equal(again.probabilities(logits), found.probabilities(logits))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "platt"},
        {"source": "test"},
        {"temperature": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": "1"},
        {"temperature": None},
        {"images": -1},
        {"images": 2.5},
        {"images": None},
        {"scale": [1.0, 1.0]},
        {"kind": "vector"},
        {"kind": "vector", "scale": [1.0, 1.0], "bias": [0.0]},
        {"kind": "vector", "scale": [1.0, 1.0], "bias": [0.0, float("nan")]},
        {"kind": "vector", "scale": [1.0, 1.0], "bias": "ab"},
        {"kind": "vector", "scale": 1.0, "bias": 0.0},
        {"before": {"calibration_error": 0.1}},
        {"after": {"calibration_error": float("nan"), "negative_log_likelihood": 1.0}},
        {"after": {"calibration_error": "low", "negative_log_likelihood": 1.0}},
        {"before": 0.1},
        {"further": 1},
    ],
    ids=str,
)
def test_nonsense_is_refused(wrong: dict) -> None:
    good = calibrate(held()).to_json()
    with pytest.raises(ValueError, match="no calibration"):
        Calibration.from_json({**good, **wrong})


@pytest.mark.parametrize("wrong", [None, [], 3, "temperature", {}, {"kind": "none"}], ids=str)
def test_what_is_not_even_an_object_with_its_parts_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="no calibration"):
        Calibration.from_json(wrong)  # type: ignore[arg-type]


def test_at_one_shot_names_that_claim_too_much_do_not_soften_a_head_that_learnt() -> None:
    """Random names are wrong mostly: a temperature above 1 for them, and none for others."""
    generator = np.random.default_rng(3)
    X = np.eye(8, 16) + 0.1 * generator.normal(size=(8, 16))
    task = FewShotTask(
        X, np.arange(8), class_embeddings=generator.normal(size=(8, 16)), logit_scale=100.0
    )
    names, head = (select(method, task, "fixed") for method in ("zero-shot", "tip-adapter"))
    assert calibrate(None, head=names, task=task).temperature > 1
    assert calibrate(None, head=head, task=task).temperature == 1


def test_best_is_left_alone_where_the_folds_could_not_fit_its_mixture() -> None:
    """With two images per class the heads in the folds have one; with four they are alike."""
    generator = np.random.default_rng(4)
    for shots, kind in ((2, "none"), (4, "temperature")):
        y = np.repeat(np.arange(6), shots)
        X = np.eye(6, 16)[y] + 0.3 * generator.normal(size=(len(y), 16))
        task = FewShotTask(X, y, class_embeddings=np.eye(6, 16))
        head = select("best", task)
        found = calibrate(held_out(head, task), head=head, task=task)
        assert (found.kind, found.source == "method") == (kind, kind == "none")
        other = select("gda", task)
        assert calibrate(held_out(other, task), head=other, task=task).kind == "temperature"
