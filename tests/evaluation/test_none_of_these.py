"""None of these: against loops, on classes never seen, what it promises, what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from two_spaces import with_correction

from handful import FewShotTask, load_features, select
from handful.errors import InputError
from handful.evaluation import left_out
from handful.evaluation.class_likeness import Likeness
from handful.evaluation.evidence import Evidence
from handful.evaluation.left_out import held_out_images, support_of
from handful.evaluation.none_of_these import NoneOfThese
from handful.evaluation.open_set_score import KINDS, Score, choose
from handful.evaluation.separation import auroc
from handful.functional.conformal import coverage_interval
from handful.methods.head import Head

WIDTH = 12


def images(y: np.ndarray, rng: np.random.Generator, noise: float = 0.8) -> np.ndarray:
    """Twelve Gaussian classes around centres at right angles, which every call shares."""
    centres, _ = np.linalg.qr(np.random.default_rng(99).normal(size=(12, WIDTH)))
    return 3 * centres[y] + noise * rng.normal(size=(len(y), WIDTH))


def toy(shots: int = 4, classes: int = 6, seed: int = 0, **more: Any) -> FewShotTask:
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), shots)
    text = images(np.arange(classes), np.random.default_rng(5), 0.5)
    return FewShotTask(images(y, rng), y, class_embeddings=text, **more)


def head_of(task: FewShotTask, method: str = "zero-shot", **settings: Any) -> Head:
    return select(method, task, "fixed", **settings)


def evidence_of(task: FewShotTask, classes: int) -> Evidence:
    return Evidence.of(task, [str(row) for row in range(len(task.X))], classes)


def learn(
    task: FewShotTask, method: str = "zero-shot", **settings: Any
) -> tuple[NoneOfThese, Callable[..., Any]]:
    """Return what was learnt, and a function from features to scores."""
    head = head_of(task, method, **settings)
    found = NoneOfThese.learn(head, task)
    assert found is not None
    evidence = evidence_of(task, len(head.classes_))
    return found, lambda X: found.score(X, head, evidence)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return ``only(kind)``: no other score is chosen."""

    def choose_it(kind: str) -> None:
        monkeypatch.setattr("handful.evaluation.none_of_these.choose", lambda *_: kind)

    return choose_it


# -- against loops ---------------------------------------------------------------------------------


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def likeness_by_loops(
    part: str, x: np.ndarray, task: FewShotTask, rows: list[int], classes: list[int]
) -> list[float]:
    """How like each class an image is, if the support were ``rows`` alone."""
    X = unit(unit(task.X).astype(np.float16).astype(np.float64))  # as the evidence keeps it
    text = unit(task.class_embeddings).astype(np.float32)  # type: ignore[arg-type]
    own = [[r for r in rows if task.y[r] == c] for c in classes]
    if part == "names":
        return [float(x @ text[c]) for c in classes]
    if part == "nearest":
        return [max(float(x @ X[r]) for r in of) if of else -math.inf for of in own]
    if part == "cache":
        votes = [[math.exp(20 * (float(x @ X[r]) - 1)) for r in of] for of in own]
        return [math.log(np.mean(v)) if v else -math.inf for v in votes]
    means = [X[of].mean(axis=0) if of else None for of in own]
    centre = np.mean([m for m in means if m is not None], axis=0)
    return [-math.inf if m is None else float(unit(x - centre) @ unit(m - centre)) for m in means]


def by_loops(
    kind: str, task: FewShotTask, classes: list[int], new: np.ndarray
) -> tuple[list[float], list[float]]:
    """Scores of the held-out images, of the support each without its group, and of new images."""
    X, y = unit(task.X), task.y
    groups = np.arange(len(y)) if task.groups is None else task.groups
    rows = [r for r in range(len(y)) if y[r] in classes]
    if task.X_val is None or task.y_val is None:
        judged = [r for r in rows if any(groups[s] != groups[r] and y[s] == y[r] for s in rows)]
        beside = [(X[r], [s for s in rows if groups[s] != groups[r]]) for r in judged]
        labels = y[judged]
    else:
        beside, labels = [(x, rows) for x in unit(task.X_val)], task.y_val
    own = [classes.index(c) for c in labels]
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for part in KINDS[kind]:
        held = np.array([likeness_by_loops(part, x, task, seen, classes) for x, seen in beside])
        fresh = np.array([likeness_by_loops(part, unit(x), task, rows, classes) for x in new])
        values = [row[k] for row, k in zip(held, own, strict=True)]

        def level(k: int, without: int, values: list[float] = values) -> float:
            some = [v for i, v in enumerate(values) if own[i] == k and i != without]
            return float((sum(some) + 8 * np.mean(values)) / (len(some) + 8))

        squares = [(v - level(own[i], i)) ** 2 for i, v in enumerate(values)]
        spread = math.sqrt(np.mean(squares))
        columns = range(len(classes))
        levels = [[level(k, i if k == own[i] else -1) for k in columns] for i in range(len(held))]
        usual = [level(k, -1) for k in columns]
        parts.append(((held - levels) / spread, (fresh - usual) / spread))
    totals = []
    for which in (0, 1):
        total = sum(part[which] for part in parts)
        without = np.isneginf(total) & (len(parts) > 1)  # no images: the name speaks for both
        totals.append(np.where(without, 2 * parts[0][which], total).max(axis=1).tolist())
    return totals[0], totals[1]


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in ("concept matching", "energy")]
)
def test_scores_are_those_of_loops_that_leave_each_image_out(
    kind: str, only: Callable[[str], None]
) -> None:
    only(kind)
    task = toy(shots=3)
    task = replace(task, X=task.X[:-2], y=task.y[:-2])  # the last class has one image
    found, score = learn(task)
    new = images(np.arange(12), np.random.default_rng(3))
    held, fresh = by_loops(kind, task, list(range(6)), new)
    assert found.kind == kind and found.images == 15 and found.source == "leave-one-out"
    np.testing.assert_allclose(found.scores, held, atol=1e-6)
    np.testing.assert_allclose(score(new), fresh, atol=1e-6)


@pytest.mark.parametrize("kind", ["names + means", "names + nearest", "names + cache"])
def test_near_duplicates_are_left_out_together_and_count_once(
    kind: str, only: Callable[[str], None]
) -> None:
    only(kind)
    task = toy(shots=4)
    X = task.X.copy()
    X[1], X[5] = X[0] * 1.001, X[4] * 0.999
    groups = np.arange(24) + 100
    groups[[1, 5]] = groups[[0, 4]]
    task = replace(task, X=X, groups=groups)
    found, _ = learn(task)
    held, _ = by_loops(kind, task, list(range(6)), X[:1])
    lowest = [
        min(s for s, g in zip(held, groups, strict=True) if g == h) for h in np.unique(groups)
    ]
    assert found.images == 22
    np.testing.assert_allclose(found.scores, lowest, atol=1e-6)


def test_an_image_with_a_near_duplicate_in_another_class_is_not_judged() -> None:
    task = toy(shots=3)
    X, groups = task.X.copy(), np.arange(18)
    X[3], groups[3] = X[0], 0
    found, _ = learn(replace(task, X=X, groups=groups))
    assert found.images == 16


@pytest.mark.parametrize("kind", ["concept matching", "energy"])
def test_scores_of_names_alone(kind: str, only: Callable[[str], None]) -> None:
    only(kind)
    task = toy(shots=2)
    found, score = learn(task)
    assert task.class_embeddings is not None
    cosines = unit(task.X) @ unit(task.class_embeddings).T
    if kind == "energy":
        expected = np.log(np.exp(100 * cosines).sum(axis=1))
    else:
        expected = (np.exp(cosines) / np.exp(cosines).sum(axis=1, keepdims=True)).max(axis=1)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5)
    np.testing.assert_allclose(score(task.X), expected, rtol=1e-5)


# -- classes that were left out --------------------------------------------------------------------


def test_a_class_that_is_left_out_is_never_seen() -> None:
    """The separation is that of tasks in which the class does not exist at all."""
    task = toy(shots=3, classes=5)
    found, _ = learn(task)
    for kind in ("names + means", "means", "names + nearest", "cache"):
        expected = []
        for unseen in range(5):
            kept = [c for c in range(5) if c != unseen]
            known, unknown = by_loops(kind, task, kept, task.X[task.y == unseen])
            expected.append(auroc(np.array(known), np.array(unknown)))
        assert found.separations[kind] == pytest.approx(np.mean(expected), abs=1e-9)
    assert found.auroc == found.separations[found.kind]


def test_the_default_stays_unless_another_is_clearly_better() -> None:
    kinds = ["names + means", "means", "names"]
    usual = np.array([0.8, 0.9, 0.7, 0.95])
    assert choose(kinds, np.array([usual, usual + 0.02, usual - 0.1])) == "means"
    luck = usual + np.array([0.1, -0.05, 0.05, -0.02])
    assert luck.mean() > usual.mean()
    assert choose(kinds, np.array([usual, luck, usual - 0.1])) == "names + means"
    assert choose(kinds, np.array([usual, usual, usual])) == "names + means"
    for folds in (0, 1):
        assert choose(kinds, np.ones((3, folds))) == "names + means"


def test_names_that_say_nothing_are_not_asked() -> None:
    """Names of other classes; right names, where the images are all alike, are."""
    good = toy(shots=8, classes=8)
    assert good.class_embeddings is not None
    wrong = replace(good, class_embeddings=-good.class_embeddings)
    assert learn(good)[0].kind == "names + means"
    assert learn(wrong)[0].kind in ("means", "nearest", "cache")


def test_images_of_other_classes_are_found() -> None:
    """Six classes known, and six at right angles to them, with noise of a sixth of the length."""
    rng = np.random.default_rng(1)
    found, score = learn(toy(shots=8))
    known, unknown = (images(np.repeat(np.arange(a, a + 6), 30), rng, 0.5) for a in (0, 6))
    assert auroc(score(known), score(unknown)) > 0.99
    assert (score(unknown) < found.threshold(0.1)).mean() > 0.95


@pytest.mark.parametrize("encoder", ["vit-b-32", "vit-l-14"])
def test_unseen_classes_of_satellite_images(shared: Path, encoder: str) -> None:
    """Every third class of WHU-RS19 left out, 12 shots, judged on eight further rows of the pool,
    which no benchmark tests on. 0.9 is what was asked for of ViT-B/32 when this was built."""
    features = load_features(shared / "data/whu-rs19/features" / f"clip-{encoder}.safetensors")
    y, text = features.labels, features.class_embeddings
    assert y is not None and text is not None
    rng = np.random.RandomState(7)
    pools = [rng.permutation(np.flatnonzero(y == c)) for c in range(19)]
    found = []
    for unseen in range(0, 19, 3):
        kept = [c for c in range(19) if c != unseen]
        rows = np.concatenate([pools[c][:12] for c in kept])
        task = FewShotTask(
            features.image_features[rows], np.repeat(np.arange(18), 12), class_embeddings=text[kept]
        )
        _, score = learn(task)
        known, unknown = np.concatenate([pools[c][12:20] for c in kept]), pools[unseen][12:20]
        scores = [score(features.image_features[judged]) for judged in (known, unknown)]
        found.append(auroc(*scores))
    assert np.mean(found) >= 0.9


# -- the threshold ---------------------------------------------------------------------------------


def with_scores(scores: np.ndarray) -> NoneOfThese:
    return NoneOfThese(Score("energy", (), 1.0), scores, "validation", {})


def test_no_more_than_the_stated_share_in_the_mean_over_draws() -> None:
    """Exchangeable scores: the share is that of the conformal quantile, from above and below."""
    rng = np.random.default_rng(0)
    for rate in (0.05, 0.1, 0.25, 0.07):
        draws = [with_scores(rng.normal(size=60)).threshold(rate) for _ in range(400)]
        false_alarms = np.mean([(rng.normal(size=50) < t).mean() for t in draws])
        low, high = coverage_interval(60, round(1 - rate, 9), 0.999, tested=50, draws=400)
        assert 1 - high <= false_alarms <= 1 - low


def test_the_threshold_is_the_kth_smallest_score() -> None:
    scores = np.random.default_rng(1).permutation(np.arange(1.0, 20.0))  # nineteen
    strangers = with_scores(scores)
    assert strangers.threshold(0.05) == 1
    assert strangers.threshold(0.1) == 2
    assert strangers.threshold(0.149) == 2
    assert strangers.threshold(0.15) == 3
    # 1 − 0.18 is 0.8200000000000001 in binary, which would cost an image.
    assert with_scores(np.arange(1.0, 50.0)).threshold(0.18) == 9


@pytest.mark.parametrize("validation", [False, True])
def test_false_alarms_on_new_images_of_the_classes(validation: bool) -> None:
    """30 draws of 6 classes, 4 shots, 24 held-out images, 120 new ones. Of the support the images
    meet one image fewer, so that fewer are called unsure; from validation images the share is that
    of the interval, but for the usual levels, which the images had a part in."""
    shares = []
    for seed in range(30):
        rng = np.random.default_rng(1000 + seed)
        more = {}
        if validation:
            y_val = np.repeat(np.arange(6), 4)
            more = {"X_val": images(y_val, rng), "y_val": y_val}
        found, score = learn(toy(shots=4, seed=seed, **more))
        assert found.source == ("validation" if validation else "leave-one-out")
        new = images(np.repeat(np.arange(6), 20), rng)
        shares.append((score(new) < found.threshold(0.2)).mean())
    low, high = coverage_interval(24, 0.8, 0.999, tested=120, draws=30)
    assert np.mean(shares) <= 1 - low
    assert np.mean(shares) >= (1 - high if validation else 0.05)


@pytest.mark.parametrize("kind", ["names + means", "nearest", "names + cache"])
def test_validation_images_meet_the_whole_support(kind: str, only: Callable[[str], None]) -> None:
    only(kind)
    y_val = np.repeat(np.arange(6), 2)
    task = toy(shots=3, X_val=images(y_val, np.random.default_rng(6)), y_val=y_val)
    found, score = learn(task)
    new = images(np.arange(12), np.random.default_rng(3))
    held, fresh = by_loops(kind, task, list(range(6)), new)
    np.testing.assert_allclose(found.scores, held, atol=1e-6)
    np.testing.assert_allclose(score(new), fresh, atol=1e-6)


def test_too_few_images_are_refused_with_the_number_needed() -> None:
    found, _ = learn(toy(shots=2))
    assert found.images == 12
    with pytest.raises(
        InputError, match=r"0\.05 needs 19 held-out .* there are 12: allow 0\.08 or"
    ):
        found.threshold(0.05)


def test_the_share_that_is_advised_is_the_least_that_is_possible() -> None:
    for images_ in range(1, 60):
        found = with_scores(np.arange(float(images_)))
        with pytest.raises(InputError, match="allow") as refusal:
            found.threshold(0.01)
        advised = float(str(refusal.value).partition("allow ")[2].split()[0])
        assert math.isfinite(found.threshold(advised))
        if advised > 0.02:
            with pytest.raises(InputError, match="allow"):
                found.threshold(advised - 0.01)


def test_what_is_no_share_is_refused() -> None:
    found, _ = learn(toy())
    with pytest.raises(InputError, match=r"false alarms is 5: .* Did you mean 0\.05\?"):
        found.threshold(5)
    for wrong in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(InputError, match="expected a share between 0 and 1"):
            found.threshold(wrong)


def test_the_reason_counts_the_images_that_are_more_like_a_class() -> None:
    found = with_scores(np.arange(40.0))
    assert found.reason(1.5) == (
        "it is less like any class than 95% of the 40 validation images of the classes"
    )
    assert "than 100% of the 40" in found.reason(-1)
    for source, word in (("leave-one-out", "held-out"), ("names", "training")):
        assert f"40 {word} images" in replace(found, source=source).reason(3)


# -- what there may be to learn from ---------------------------------------------------------------


def test_one_image_per_class_leaves_the_names() -> None:
    found, score = learn(toy(shots=1))
    assert (found.kind, found.source, found.images) == ("names", "names", 6)
    new = images(np.arange(12), np.random.default_rng(3))
    assert score(new).shape == (12,) and np.isfinite(score(new)).all()


def test_one_image_per_class_and_no_names_leave_nothing() -> None:
    task = replace(toy(shots=1), class_embeddings=None)
    assert NoneOfThese.learn(head_of(task, "nearest-class-mean"), task) is None


def test_one_image_per_class_with_validation_images() -> None:
    rng = np.random.default_rng(4)
    y_val = np.repeat(np.arange(6), 3)
    for text in (True, False):
        task = toy(shots=1, X_val=images(y_val, rng), y_val=y_val)
        task = task if text else replace(task, class_embeddings=None)
        found, _ = learn(task, "nearest-class-mean")
        assert (found.source, found.images) == ("validation", 18)
        assert found.separations.keys() == {k for k in KINDS if text or "names" not in KINDS[k]}


def test_without_text_only_images_are_asked() -> None:
    task = replace(toy(), class_embeddings=None)
    found, score = learn(task, "nearest-class-mean")
    assert found.separations.keys() == {"means", "nearest", "cache"}
    with_text, _ = learn(toy())
    assert found.separations["means"] == with_text.separations["means"]
    assert np.isfinite(score(task.X)).all()


def test_two_classes_have_the_default() -> None:
    """Of two classes one would be left: too few to try scores on."""
    found, score = learn(toy(shots=5, classes=2))
    assert found.kind == "names + means" and found.separations == {} and found.auroc is None
    strange = images(np.repeat(np.arange(2, 12), 10), np.random.default_rng(0), 0.3)
    known = images(np.repeat([0, 1], 10), np.random.default_rng(0), 0.3)
    assert auroc(score(known), score(strange)) > 0.9


@pytest.mark.parametrize("kind", ["names + means", "names + nearest", "means"])
def test_a_class_with_a_name_and_no_images_is_known_by_its_name(
    kind: str, only: Callable[[str], None]
) -> None:
    only(kind)
    task = toy(shots=4, classes=7)
    without = task.y != 6
    task = replace(task, X=task.X[without], y=task.y[without])
    found, score = learn(task)
    new = images(np.arange(12), np.random.default_rng(3))
    held, fresh = by_loops(kind, task, list(range(7)), new)
    np.testing.assert_allclose(found.scores, held, atol=1e-6)
    np.testing.assert_allclose(score(new), fresh, atol=1e-6)
    # Validation images of that class are not judged: they could not be like its images.
    more, _ = learn(replace(task, X_val=new[[0, 1, 6]], y_val=np.array([0, 1, 6])))
    assert more.images == 2


def test_names_as_labels() -> None:
    task = toy()
    words = np.array(["sea", "forest", "park", "airport", "desert", "bridge"])
    named = replace(task, y=words[task.y], class_names=list(words))
    val = {"X_val": task.X[::2] + 0.1, "y_val": task.y[::2]}
    for one, other in (
        (task, named),
        (replace(task, **val), replace(named, X_val=val["X_val"], y_val=words[val["y_val"]])),
    ):
        np.testing.assert_array_equal(learn(one)[0].scores, learn(other)[0].scores)


@pytest.mark.parametrize("kind", ["means", "names + nearest"])
def test_several_encoders_side_by_side(kind: str, only: Callable[[str], None]) -> None:
    """Each counts the same, whatever the length of its features; names are read by the first."""
    only(kind)
    task = toy()
    other = np.random.default_rng(8).normal(size=(len(task.X), 5)) + 3 * np.eye(6, 5)[task.y]
    joint = replace(task, X=np.hstack([task.X, 50 * other]), widths=(WIDTH, 5))
    found, score = learn(joint, "cafo", epochs=0)
    assert task.class_embeddings is not None
    text = np.hstack([unit(task.class_embeddings), np.zeros((6, 5))])
    alike = replace(task, X=np.hstack([unit(task.X), unit(other)]), class_embeddings=text)
    expected, alike_score = learn(alike)
    # A cosine with half of the features zero is smaller by √2 everywhere, the spread, too.
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(score(joint.X), alike_score(alike.X), atol=1e-6)


def test_before_the_projection() -> None:
    task = toy()
    projection = np.random.default_rng(2).normal(size=(WIDTH, 7))
    assert task.class_embeddings is not None
    earlier = replace(
        task, class_embeddings=task.class_embeddings @ projection, projection=projection
    )
    found, score = learn(earlier, "elevater-l1p", epochs=0)
    assert found.images == 24 and "names + means" in found.separations
    assert auroc(score(task.X), score(images(np.repeat([7, 9], 9), np.random.default_rng(0)))) > 0.7


def test_more_images_than_are_needed_are_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left_out, "_MOST", 15)
    task = toy()
    head = head_of(task)
    seen, rows = support_of(head, task)
    drawn = [held_out_images(head, task, seen, rows, seed) for seed in (1, 1, 2)]
    labels = [found[0].groups.tolist() for found in drawn if found is not None]
    assert labels[0] == labels[1] != labels[2] and len(set(labels[0])) == 15
    found = NoneOfThese.learn(head, task)
    assert found is not None and found.images == 15


def test_the_answer_does_not_depend_on_the_batch() -> None:
    _, score = learn(toy())
    new = images(np.arange(12), np.random.default_rng(3))
    together = score(new)
    np.testing.assert_allclose(together, [score(new[i : i + 1])[0] for i in range(12)], rtol=1e-9)


@pytest.mark.parametrize("kind", ["nearest", "cache"])
def test_many_images_are_compared_a_part_at_a_time(
    kind: str, only: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    only(kind)
    found, score = learn(toy())
    new = images(np.arange(12), np.random.default_rng(3))
    whole = score(new)
    monkeypatch.setattr("handful.evaluation.class_likeness._AT_ONCE", 60)  # two images
    parted, score = learn(toy())
    np.testing.assert_allclose(parted.scores, found.scores, rtol=1e-9)
    np.testing.assert_allclose(score(new), whole, rtol=1e-9)


def test_the_same_seed_gives_the_same() -> None:
    task = toy(classes=12, shots=3)
    head = head_of(task)
    some = [NoneOfThese.learn(head, task, random_state=seed) for seed in (0, 0, 1)]
    one, same, other = (s for s in some if s is not None)
    assert one.separations == same.separations != other.separations


# -- the saved form --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["names + means", "nearest", "energy"])
def test_what_is_saved_comes_back(kind: str, only: Callable[[str], None]) -> None:
    only(kind)
    task = toy()
    found, score = learn(task)
    told, arrays = json.loads(json.dumps(found.to_json())), load(save(found.arrays()))
    back = NoneOfThese.from_saved(told, arrays)
    head, evidence = head_of(task), evidence_of(task, 6)
    new = images(np.arange(12), np.random.default_rng(3))
    np.testing.assert_array_equal(back.score(new, head, evidence), score(new))
    assert back.threshold(0.1) == found.threshold(0.1)
    assert (back.kind, back.auroc, back.source) == (found.kind, found.auroc, found.source)
    assert back.separations == found.separations


@pytest.mark.parametrize(
    "damage",
    [
        lambda told, arrays: told.update(kind="luck"),
        lambda told, arrays: told.update(kind="means"),
        lambda told, arrays: told.update(kind="energy"),
        lambda told, arrays: told.update(source="hearsay"),
        lambda told, arrays: told.update(logit_scale="large"),
        lambda told, arrays: told.update(logit_scale=float("nan")),
        lambda told, arrays: told.pop("separations"),
        lambda told, arrays: told.update(separations={"means": "good"}),
        lambda told, arrays: arrays.pop("scores"),
        lambda told, arrays: arrays.pop("level1"),
        lambda told, arrays: arrays.update(scores=np.empty(0)),
        lambda told, arrays: arrays.update(scores=np.array([np.nan, 1.0])),
        lambda told, arrays: arrays.update(scores=arrays["scores"].astype(np.float32)),
        lambda told, arrays: arrays.update(spreads=np.array([1.0, 0.0])),
        lambda told, arrays: arrays.update(level0=arrays["level0"][None]),
        lambda told, arrays: arrays.update(level0=arrays["level0"][:-1]),
    ],
)
def test_what_is_damaged_is_refused(damage: Callable[..., Any]) -> None:
    found, _ = learn(toy())
    told, arrays = found.to_json(), found.arrays()
    NoneOfThese.from_saved(told, arrays)
    damage(told, arrays)
    with pytest.raises((ValueError, LookupError, TypeError)):
        NoneOfThese.from_saved(told, arrays)


# -- corrections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("validation", [False, True])
def test_names_are_asked_of_the_original_features_and_images_of_the_corrected_ones(
    validation: bool,
) -> None:
    task, rng = toy(), np.random.default_rng(7)
    if validation:
        y = np.repeat(np.arange(6), 5)
        task = replace(task, X_val=images(y, rng), y_val=y)
    turn = rng.normal(size=(WIDTH, WIDTH))

    def beside(X: np.ndarray | None) -> np.ndarray | None:
        return None if X is None else np.concatenate([X, X @ turn], axis=1)

    wide = replace(task, X=beside(task.X), X_val=beside(task.X_val), corrected=True)
    of_names = head_of(task)
    alone = replace(task, X=task.X @ turn, X_val=None if not validation else task.X_val @ turn)
    head = head_of(wide, "tip-adapter++")
    seen, rows = support_of(head, wide)
    (found, source), (by_name, _), (by_image, _) = (
        held_out_images(asked, t, *support_of(asked, t), 0)  # type: ignore[misc]
        for asked, t in ((head, wide), (of_names, task), (of_names, alone))
    )
    assert source == ("validation" if validation else "leave-one-out")
    torch.testing.assert_close(found.cosines, by_name.cosines)
    torch.testing.assert_close(found.features, by_image.features)
    torch.testing.assert_close(seen.features, support_of(of_names, alone)[0].features)
    # And so with images to be judged.
    learnt, X = NoneOfThese.learn(head, wide), images(np.arange(12), rng)
    assert learnt is not None and len(rows) == len(task.X)
    evidence = evidence_of(wide, 6)
    nobody = np.full(12, -1)
    judged = replace(
        left_out.images_of(of_names, X, None, nobody, nobody),
        features=left_out.images_of(None, X @ turn, None, nobody, nobody).features,
    )
    expected = learnt.chosen.of(Likeness.of(judged, seen, KINDS[learnt.kind]))
    both = beside(X)
    assert both is not None
    np.testing.assert_allclose(learnt.score(both, head, evidence), expected, atol=1e-12)


def test_a_head_without_the_correction_learns_from_the_original_features_alone() -> None:
    task = toy()
    head = head_of(with_correction(task), "gda")
    found, expected = (NoneOfThese.learn(head, t) for t in (with_correction(task), task))
    assert found is not None and expected is not None
    np.testing.assert_array_equal(found.scores, expected.scores)
