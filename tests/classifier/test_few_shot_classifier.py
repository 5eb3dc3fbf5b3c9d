"""``FewShotClassifier`` from Python: what may be given, what comes back, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_corrections import correction_for

from handful import Features, FewShotClassifier, InputError, methods, save_features
from handful.datasets.images import LabelledImages
from handful.datasets.source import open_images
from handful.encoders.templates import template_sets

CLASSES = ("blue", "green", "red")
TRUTH = [name for name in CLASSES for _ in range(3)]


@pytest.mark.parametrize("method", methods.names())
def test_fit_and_predict(encoder, pictures: Path, new: list[Path], method: str) -> None:
    needed = correction_for(method, encoder)
    classifier = FewShotClassifier(encoder, method, correction=needed).fit(pictures)
    assert classifier.classes_ == CLASSES
    assert classifier.counts_ == (4, 4, 4)
    assert classifier.predict(new) == TRUTH
    probabilities = classifier.predict_proba(new)
    assert probabilities.shape == (9, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert classifier.verified


def test_every_form_of_the_same_images(encoder, pictures: Path, new: list[Path]) -> None:
    paths = sorted(pictures.glob("*/*.png"))
    labels = [path.parent.name for path in paths]
    table = pictures.parent / "table.csv"
    rows = [f"{p},{label}" for p, label in zip(paths, labels, strict=True)]
    table.write_text("image,label\n" + "\n".join(rows))
    want = FewShotClassifier(encoder, "tip-adapter").fit(pictures).predict_proba(new)
    for arguments in (
        (str(pictures),),
        (open_images(pictures),),
        (table,),
        (paths, labels),
        ([str(path) for path in paths], np.array(labels)),
    ):
        found = FewShotClassifier(encoder, "tip-adapter").fit(*arguments).predict_proba(new)
        np.testing.assert_array_equal(found, want)


def test_an_answer_does_not_depend_on_its_company(fitted, new: list[Path]) -> None:
    together = fitted.predict_proba(new)
    np.testing.assert_array_equal(fitted.predict_proba(new[4]), together[4:5])
    np.testing.assert_array_equal(fitted.predict_proba(new[::-1]), together[::-1])
    assert fitted.predict([str(new[4])]) == [TRUTH[4]]
    assert fitted.predict([]) == []
    assert fitted.predict_proba([]).shape == (0, 3)


def test_streaming_gives_the_same(fitted, new: list[Path]) -> None:
    paths, probabilities, encoded = zip(*fitted.predict_stream(new), strict=True)
    assert [path for chunk in paths for path in chunk] == new
    np.testing.assert_array_equal(np.concatenate(probabilities), fitted.predict_proba(new))
    assert sum(len(chunk.kept) for chunk in encoded) == len(new)


def test_streaming_past_unreadable_images(fitted, new: list[Path]) -> None:
    new[2].write_bytes(b"no picture")
    with pytest.raises(InputError, match=new[2].name):
        list(fitted.predict_stream(new))
    ((paths, probabilities, encoded),) = fitted.predict_stream(new, strict=False)
    assert paths == [*new[:2], *new[3:]]
    assert probabilities.shape == (8, 3)
    assert [path for path, _ in encoded.skipped] == [new[2]]
    for path in new:
        path.write_bytes(b"no picture")
    ((paths, probabilities, _),) = fitted.predict_stream(new, strict=False)
    assert paths == []
    assert probabilities.shape == (0, 3)


def test_shots_are_drawn_with_the_seed(encoder, pictures: Path) -> None:
    draws = [
        FewShotClassifier(encoder, "tip-adapter", shots=2, seed=seed).fit(pictures).digests_
        for seed in (1, 1, 2, 3)
    ]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1
    assert all(len(draw) == 6 for draw in draws)


def test_names_are_made_readable_for_prompts_only(encoder, pictures: Path) -> None:
    (pictures / "red").rename(pictures / "bright_red")
    classifier = FewShotClassifier(encoder, "zero-shot").fit(pictures)
    assert classifier.classes_ == ("blue", "bright_red", "green")
    assert "a bright red picture" in encoder.read


def test_templates(encoder, pictures: Path) -> None:
    one = FewShotClassifier(encoder, "zero-shot").fit(pictures)
    assert one.templates_ == encoder.default_templates
    seven = FewShotClassifier(encoder, "zero-shot", templates="imagenet-7").fit(pictures)
    assert seven.templates_ == template_sets()["imagenet-7"]
    several = FewShotClassifier(encoder, "zero-shot", templates=["{}", "my {}"]).fit(pictures)
    assert several.templates_ == ("{}", "my {}")


def test_a_vision_only_encoder_learns_from_images_alone(
    blind, pictures: Path, new: list[Path], tmp_path: Path
) -> None:
    classifier = FewShotClassifier(blind, "linear-probe").fit(pictures)
    assert classifier.predict(new) == TRUTH
    assert classifier.templates_ == ()
    assert classifier.zero_shot_ is None
    again = FewShotClassifier.load(classifier.save(tmp_path / "model"), encoder=blind)
    assert again.predict(new) == TRUTH


def test_views_are_learnt_from(encoder, pictures: Path) -> None:
    plain = FewShotClassifier(encoder, "tip-adapter", select="fixed").fit(pictures)
    with_views = FewShotClassifier(encoder, "tip-adapter", select="fixed", views=3).fit(pictures)
    assert with_views.gathered_.encoded + with_views.gathered_.reused == 12 * 4
    assert not np.array_equal(with_views.head_.keys_, plain.head_.keys_)


def test_given_settings_are_used(encoder, pictures: Path) -> None:
    classifier = FewShotClassifier(
        encoder, "tip-adapter", settings={"blend": 2.5, "sharpness": 1.5}
    ).fit(pictures)
    assert classifier.head_.settings() == {
        "blend": 2.5,
        "sharpness": 1.5,
        "class_weight": "balanced",
        "similarity": "original",
    }
    assert classifier.selection_["policy"] == "fixed"
    part = FewShotClassifier(encoder, "tip-adapter", settings={"blend": 2.5}).fit(pictures)
    assert part.head_.blend == 2.5
    assert part.selection_["settings"].keys() == {"sharpness"}


def test_fitting_again_forgets_what_was_before(encoder, pictures: Path, paint) -> None:
    two = paint(pictures.parent / "two", colours=("red", "blue"))
    classifier = FewShotClassifier(encoder, "tip-adapter").fit(pictures).fit(two)
    fresh = FewShotClassifier(encoder, "tip-adapter").fit(two)
    assert classifier.classes_ == fresh.classes_ == ("blue", "red")
    assert classifier.digests_ == fresh.digests_
    assert classifier.selection_ == fresh.selection_


# -- evaluation ------------------------------------------------------------------------------------


def test_evaluate_counts_what_is_right(fitted, new: list[Path]) -> None:
    # Two of nine pictures are given the label of another colour.
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    labels[[1, 5]] = 2
    found = fitted.evaluate(LabelledImages(tuple(new), labels, CLASSES))
    assert found.accuracy == 7 / 9
    assert (found.n, found.seen_in_training, found.skipped) == (9, 0, ())
    assert {(c.label, c.n): c.recall for c in found.per_class} == {
        ("blue", 2): 1,
        ("green", 2): 1,
        ("red", 5): 3 / 5,
    }
    assert {(c.label, c.predicted, c.n) for c in found.confusions} == {
        ("red", "blue", 1),
        ("red", "green", 1),
    }


def test_evaluate_knows_its_training_images_under_any_name(
    fitted, pictures: Path, tmp_path: Path
) -> None:
    for number, path in enumerate(sorted(pictures.glob("*/*.png"))[:5]):
        folder = tmp_path / "copies" / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"renamed {number}.png").write_bytes(path.read_bytes())
    assert fitted.evaluate(tmp_path / "copies").seen_in_training == 5


def test_evaluate_takes_the_test_split(fitted, paint, tmp_path: Path) -> None:
    folder = tmp_path / "splits"
    paint(folder / "train", n=2, seed=5)
    paint(folder / "test", n=3, seed=6)
    assert fitted.evaluate(folder).n == 9


def test_evaluate_takes_classes_by_name_not_by_position(fitted, paint, tmp_path: Path) -> None:
    found = fitted.evaluate(paint(tmp_path / "some", n=2, seed=7, colours=("green", "red")))
    assert (found.accuracy, found.n) == (1, 4)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"method": "tip"}, "there is no method 'tip'"),
        ({"select": "best"}, "there is no selection policy 'best'"),
        ({"settings": {"blnd": 1}}, "Did you mean 'blend'"),
        ({"settings": {"blend": "much"}}, "'blend'.*'much'"),
        ({"text_pool": "mean"}, "text pooling 'mean'"),
        ({"shots": 0}, "shots is 0"),
        ({"shots": 5}, "5 shots were asked for"),
        ({"views": -1}, "views is -1"),
        ({"views": 10**6}, "views is 1000000"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"templates": "imagenet"[:-1]}, "Did you mean 'imagenet'"),
        ({"templates": []}, "list of templates is empty"),
        ({"select": "val"}, "needs validation images"),
    ],
)
def test_what_cannot_be_asked(encoder, pictures: Path, arguments, says: str) -> None:
    arguments = {"method": "tip-adapter", **arguments}
    with pytest.raises(InputError, match=says):
        FewShotClassifier(encoder, **arguments).fit(pictures)


def test_lists_and_labels_go_together(encoder, pictures: Path) -> None:
    paths = sorted(pictures.glob("*/*.png"))
    classifier = FewShotClassifier(encoder)
    with pytest.raises(InputError, match="needs labels"):
        classifier.fit(paths)
    with pytest.raises(InputError, match="12 images but 2 labels"):
        classifier.fit(paths, ["a", "b"])
    with pytest.raises(InputError, match="labels go with a list of images"):
        classifier.fit(pictures, ["a", "b"])
    with pytest.raises(InputError, match="only one class, 'a'"):
        classifier.fit(paths, ["a"] * 12)
    with pytest.raises(InputError, match="the list of images has no training images"):
        classifier.fit([], [])


@pytest.mark.parametrize("verb", ["predict", "predict_proba", "evaluate", "save"])
def test_not_fitted(verb: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not fitted yet"):
        getattr(FewShotClassifier(), verb)(tmp_path)


def test_unreadable_images_name_themselves(fitted, new: list[Path]) -> None:
    new[3].write_bytes(b"no picture")
    for verb in (fitted.predict, fitted.predict_proba):
        with pytest.raises(InputError, match=new[3].name):
            verb(new)


def test_a_failed_fit_leaves_the_classifier_as_it_was(fitted, new: list[Path], tmp_path) -> None:
    before = fitted.predict_proba(new)
    rows = np.eye(4, 6, dtype=np.float32)
    file = tmp_path / "one shot too few.safetensors"
    save_features(file, Features(rows, labels=np.array([0, 1, 0, 1]), encoder="another"))
    fitted.shots = 3
    for source in (tmp_path / "nothing", file):
        with pytest.raises(InputError):
            fitted.fit(source)
    np.testing.assert_array_equal(fitted.predict_proba(new), before)
    assert fitted.verified
