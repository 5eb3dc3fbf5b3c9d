"""Test images as methods see them: whose they are, where they come from, and what is counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from handful import Features, load_encoder, save_features
from handful.benchmark.adapted import adapted
from handful.benchmark.exam import Exam
from handful.benchmark.inside import run_inside
from handful.benchmark.neighbours import (
    Neighbours,
    file_name,
    flattened,
    nearest_share,
    neighbours,
)
from handful.benchmark.one_run import Run, run_once, task_of
from handful.benchmark.protocols import draw
from handful.benchmark.source import Source
from handful.benchmark.sources import features_source, images_source
from handful.errors import InputError
from handful.functional.normalise import unit
from handful.selection.select import select

COUNTS = (30, 12, 9, 25)
NAMES = ("ant", "bee", "cat", "dog")
QUICK: dict[str, Any] = {"shots": 2, "select": "fixed"}
ADAPTER = {"epochs": 5}


def a_source(folder: Path, counts: tuple[int, ...] = COUNTS, split: Any = None) -> Source:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = rng.normal(size=(len(counts), 8))
    X = (centres[labels] + 0.7 * rng.normal(size=(len(labels), 8))).astype(np.float32)
    names = NAMES if len(counts) == 4 else tuple(f"class {c}" for c in range(len(counts)))
    features = Features(
        X, labels=labels, class_names=names, class_embeddings=centres, logit_scale=20.0, split=split
    )
    save_features(folder / "things.safetensors", features, overwrite=True)
    return features_source(folder / "things.safetensors")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return a_source(tmp_path)


def units(X: np.ndarray) -> np.ndarray:
    return unit(torch.from_numpy(X.astype(np.float64))).float().numpy()


def of(found: Neighbours, place: int = 0) -> Any:
    return found.panels[place].adapted


# -- the number that is counted --------------------------------------------------------------------


def test_the_share_by_hand() -> None:
    """On a circle, in degrees: 0 and 10 are near one another, as are 30, 33 and 90, 95."""
    angles = np.radians([0, 10, 30, 33, 90, 95])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert nearest_share(vectors, np.array([0, 0, 1, 1, 2, 2])) == 1
    # Of 30 and 33 each is nearest to the other, and they are of two classes now.
    assert nearest_share(vectors, np.array([0, 0, 0, 1, 2, 2])) == pytest.approx(4 / 6)
    # A class of one image has no neighbour of its own.
    assert nearest_share(vectors[1:], np.array([0, 1, 1, 2, 2])) == pytest.approx(4 / 5)


def test_of_equally_near_ones_the_others_come_first() -> None:
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    # The three cannot be told apart, and one of them is another's; the last two can.
    assert nearest_share(vectors, np.array([0, 0, 1, 2, 2])) == pytest.approx(2 / 5)
    same = np.ones((4, 3), np.float32) / np.sqrt(np.float32(3))
    assert nearest_share(same, np.array([0, 0, 1, 1])) == 0
    assert nearest_share(same, np.array([0, 0, 0, 0])) == 1


def test_the_share_of_a_panel_is_that_of_its_vectors(source: Source) -> None:
    found = neighbours(source, [("zero-shot", {}), ("tip-adapter", {})], **QUICK)
    for panel in found.panels:
        cosines = panel.adapted.vectors.astype(float) @ panel.adapted.vectors.astype(float).T
        np.fill_diagonal(cosines, -2)
        expected = (found.labels[cosines.argmax(1)] == found.labels).mean()
        assert panel.nearest == pytest.approx(expected)
        assert 0 < expected < 1


# -- which images ----------------------------------------------------------------------------------


def test_only_test_images_are_shown(tmp_path: Path) -> None:
    """Of every split, protocol and seed: neither support nor validation is among them."""
    split = np.tile([0, 0, 0, 1, 2, 2], 100)[: sum(COUNTS)]
    for source, protocol in (
        (a_source(tmp_path), "coop"),
        (a_source(tmp_path, split=split), "coop"),
        (a_source(tmp_path, (25, 25)), "whu"),
    ):
        for seed in (1, 2, 3):
            drawn = draw(protocol, source, 2, seed)
            found = neighbours(source, [("zero-shot", {})], seed=seed, protocol=protocol, **QUICK)
            assert set(found.rows) == set(drawn.test)
            validation = [] if drawn.validation is None else drawn.validation
            assert not set(found.rows) & {*drawn.support, *validation}
            assert found.labels.tolist() == source.labels[found.rows].tolist()
            assert found.test_images == len(drawn.test)


def test_classes_have_equal_shares(source: Source) -> None:
    methods = [("zero-shot", {})]
    drawn = draw("coop", source, 2, 1)
    found = neighbours(source, methods, most=43, **QUICK)
    # A quarter of 43 is 10; of the third class 9 − 2 are left for the test.
    assert np.bincount(found.labels).tolist() == [10, 10, 7, 10]
    assert len(set(found.rows)) == 37 and set(found.rows) <= set(drawn.test)
    again, other = (neighbours(source, methods, most=43, seed=s, **QUICK) for s in (1, 2))
    assert again.rows.tolist() == found.rows.tolist()
    assert other.rows.tolist() != found.rows.tolist()


def test_classes_that_are_asked_for(source: Source) -> None:
    found = neighbours(source, [("zero-shot", {})], classes=("dog", "bee"), most=20, **QUICK)
    assert found.classes == {1: "bee", 3: "dog"}
    assert np.bincount(found.labels).tolist() == [0, 10, 0, 10]
    assert found.test_classes == 4
    # It was tested on all of them nevertheless.
    everything = neighbours(source, [("zero-shot", {})], **QUICK)
    assert of(found).accuracy == of(everything).accuracy


def test_of_many_classes_the_first_ten(tmp_path: Path) -> None:
    found = neighbours(a_source(tmp_path, (4,) * 20), [("zero-shot", {})], **QUICK)
    assert len(found.classes) == 20
    many = a_source(tmp_path, (4,) * 21)
    found = neighbours(many, [("zero-shot", {})], **QUICK)
    assert list(found.classes) == list(range(10)) and found.test_classes == 21
    with pytest.raises(InputError, match="21 classes are to be shown"):
        neighbours(many, [("zero-shot", {})], classes=many.class_names, **QUICK)


def test_base_to_new_shows_the_base_classes(source: Source) -> None:
    found = neighbours(source, [("zero-shot", {})], protocol="base-to-new", **QUICK)
    assert list(found.classes.values()) == ["ant", "bee"]
    base = Exam("base-to-new", source).learnt_from
    assert np.array_equal(of(found).vectors, units(base.image_features[found.rows]))


# -- what methods make of them ---------------------------------------------------------------------


def test_zero_shot_is_the_features_as_they_are(source: Source) -> None:
    found = neighbours(source, [("zero-shot", {})], **QUICK)
    assert (of(found).label, of(found).space) == ("zero-shot", "features")
    assert np.array_equal(of(found).vectors, units(source.image_features[found.rows]))


def test_without_new_knowledge_an_adapter_is_zero_shot(source: Source) -> None:
    """At blend 0 nothing of the adapter is in the features: equal vectors, and equal places."""
    methods = [("zero-shot", {}), ("clip-adapter", {"blend": 0.0, **ADAPTER})]
    zero, adapter = neighbours(source, methods, **QUICK).panels
    assert adapter.adapted.space == "features"
    assert np.array_equal(zero.adapted.vectors, adapter.adapted.vectors)
    assert np.array_equal(zero.places, adapter.places)
    assert (zero.nearest, zero.adapted.accuracy) == (adapter.nearest, adapter.adapted.accuracy)


@pytest.mark.parametrize("branch", ["visual", "both"])
def test_an_adapter_shows_adapted_features(source: Source, branch: str) -> None:
    given = {"branch": branch, "residual": False, **ADAPTER}
    found = neighbours(source, [("clip-adapter", given), ("zero-shot", {})], **QUICK)
    task = task_of(source, draw("coop", source, 2, 1), "fixed")
    head = select("clip-adapter", task, "fixed", random_state=1, **given)
    assert of(found).space == "features"
    expected = head.transform(source.image_features[found.rows])
    assert of(found).vectors == pytest.approx(expected, abs=1e-6)
    assert not np.allclose(of(found).vectors, of(found, 1).vectors, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("clip-adapter", {"branch": "text", **ADAPTER}),
        ("tip-adapter", {}),
        ("task-res", {"epochs": 3}),
        ("linear-probe", {}),
    ],
)
def test_methods_that_leave_images_show_scores(
    source: Source, method: str, given: dict[str, Any]
) -> None:
    found = neighbours(source, [(method, given)], **QUICK)
    task = task_of(source, draw("coop", source, 2, 1), "fixed")
    logits = select(method, task, "fixed", random_state=1, **given).logits(
        source.image_features[found.rows]
    )
    expected = logits - logits.mean(1, keepdims=True)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert of(found).space == "scores"
    assert of(found).vectors == pytest.approx(expected, abs=1e-6)


def test_accuracy_is_that_of_a_run(source: Source) -> None:
    drawn = draw("coop", source, 2, 1)
    for method in ("zero-shot", "clip-adapter", "gda"):
        found = neighbours(source, [(method, {})], **QUICK)
        run = Run(source.digest, "coop", "fixed", 2, 1, method)
        row = run_once(run, source, drawn, task_of(source, drawn, "fixed"))
        assert of(found).accuracy == row["accuracy"]


def test_settings_are_in_the_label_and_the_same_twice_is_shown_once(source: Source) -> None:
    pair = ("clip-adapter", {"residual": False, **ADAPTER})
    found = neighbours(source, [pair, ("zero-shot", {}), pair], **QUICK)
    labels = [panel.adapted.label for panel in found.panels]
    assert labels == ["clip-adapter (epochs=5, residual=false)", "zero-shot"]


def test_inside_the_encoder(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """Where the image tower is trained its features are shown; of CoOp, which reads, scores."""
    rng = np.random.default_rng(0)
    for name, colour in (("blue", (20, 20, 230)), ("red", (230, 10, 10)), ("green", (9, 220, 9))):
        (tmp_path / name).mkdir()
        for i in range(4):
            pixels = rng.normal(colour, 60, size=(32, 32, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    source = images_source(str(tmp_path), load_encoder(f"dir:{tiny('clip')}"))
    learning = {"fine-tune": {"steps": 3, "lr": 1e-2}, "coop": {"epochs": 2, "context_tokens": 4}}
    found = neighbours(source, [(m, {**g, "views": 1}) for m, g in learning.items()], **QUICK)
    assert [panel.adapted.space for panel in found.panels] == ["features", "scores"]
    drawn = draw("coop", source, 2, 1)
    assert source.pictures is not None
    assert found.rows.tolist() == drawn.test.tolist()
    pixels = source.pictures.shown(drawn.test)
    for place, (method, given) in enumerate(learning.items()):
        learnt, _, p, _ = run_inside(method, source, drawn, judge=False, seed=1, views=1, **given)
        if method == "fine-tune":
            expected = units(learnt.encoder.encode_images(pixels))
            assert np.abs(expected - units(source.image_features[drawn.test])).max() > 1e-3
        else:
            scores = np.log(p) - np.log(p).mean(1, keepdims=True)
            expected = scores / np.linalg.norm(scores, axis=1, keepdims=True)
        assert of(found, place).vectors == pytest.approx(expected, abs=2e-4)
        assert of(found, place).accuracy == (p.argmax(1) == source.labels[drawn.test]).mean()


# -- on paper --------------------------------------------------------------------------------------


def test_equal_input_gives_equal_places(source: Source) -> None:
    methods = [("zero-shot", {}), ("clip-adapter", ADAPTER)]
    one, two = (neighbours(source, methods, **QUICK) for _ in range(2))
    for a, b in zip(one.panels, two.panels, strict=True):
        assert np.array_equal(a.places, b.places)
        assert np.isfinite(a.places).all() and len(np.unique(a.places, axis=0)) > 30


def test_threads_do_not_show() -> None:
    """Two threads add in another order, which so many numbers show, and all is elsewhere then."""
    from threadpoolctl import threadpool_limits

    vectors = units(np.random.default_rng(0).normal(size=(100, 512)))
    places = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            places.append(flattened(vectors, 0))
    assert np.array_equal(*places)


def test_near_ones_stay_near() -> None:
    """Three groups at right angles: on paper each image's nearest is of its group."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    vectors = units(np.eye(3)[labels] + 0.05 * rng.normal(size=(60, 3)))
    places = flattened(vectors, 0)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e9 * np.eye(60)
    assert (labels[distances.argmin(1)] == labels).all()


def test_what_lies_in_one_place_has_no_picture() -> None:
    """Of an adapter that has died, say; principal components would divide by nothing."""
    assert not flattened(np.zeros((9, 4), np.float32), 0).any()


def test_few_images_have_a_smaller_perplexity(tmp_path: Path) -> None:
    found = neighbours(a_source(tmp_path, (5, 6)), [("zero-shot", {})], **QUICK)
    assert len(found.rows) == 7 and found.perplexity == 2
    with pytest.raises(InputError, match="4 test images would be shown"):
        neighbours(a_source(tmp_path, (4, 4)), [("zero-shot", {})], **QUICK)


def test_names_of_files_stay_in_their_folder(source: Source) -> None:
    assert file_name(source.name, "coop", "fixed", 2, 1) == "tsne-things-coop-fixed-2-1"
    assert file_name("../../x y", "coop", "val", 16, 3) == "tsne-_x_y-coop-val-16-3"


# -- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("methods", "more", "words"),
    [
        ([], {}, "there is no method to show"),
        ([("clip-adaptor", {})], {}, "Did you mean 'clip-adapter'?"),
        ([("clip-adapter", {"blendd": 1})], {}, "has no setting 'blendd'"),
        ([("zero-shot", {})], {"protocol": "shift"}, "tests on other sources: use coop"),
        ([("zero-shot", {})], {"protocol": "cooop"}, "Did you mean 'coop'?"),
        ([("zero-shot", {})], {"select": "val"}, "no validation images under the protocol coop"),
        ([("zero-shot", {})], {"select": "vall"}, "Did you mean 'val'?"),
        ([("zero-shot", {})], {"classes": ["ants"]}, "no class 'ants' .* Did you mean 'ant'?"),
        ([("zero-shot", {})], {"classes": []}, "of 0 classes of things, 0 test images"),
        ([("zero-shot", {})], {"most": 4}, "of 4 classes of things, 4 test images would be shown"),
        ([("zero-shot", {})], {"most": -5}, "of 4 classes of things, 0 test images"),
        ([("coop", {})], {}, "trains inside the encoder: give the images"),
        ([("zero-shot", {})], {"shots": 10}, "has 9 images of 'cat'"),
    ],
)
def test_refused(source: Source, methods: Any, more: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words.replace("?", r"\?")) as error:
        neighbours(source, methods, **(QUICK | more))
    assert "\n" not in str(error.value)


def test_what_is_adapted_says_what_it_is(source: Source) -> None:
    drawn = draw("coop", source, 2, 1)
    run = Run(source.digest, "coop", "fixed", 2, 1, "gda")
    found = adapted(run, source, drawn, drawn.test[:3])
    assert (found.label, found.space, found.vectors.shape) == ("gda", "scores", (3, 4))
    assert found.vectors.dtype == np.float32
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx([1, 1, 1])
