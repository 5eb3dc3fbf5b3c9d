"""From labelled images to the contents of a features file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handful.datasets.images import ImageSource, LabelledImages
from handful.encoders.views import CENTRE, random_views
from handful.errors import InputError
from handful.features.embed import embed_images
from handful.features.extract import encode_images
from handful.features.file import load_features, save_features
from handful.features.store import FeatureStore
from handful.features.texts import class_embeddings
from handful.functional.pooling import pool_templates

CLASSES = ("big_dog", "cat")


@pytest.fixture
def source(pictures) -> ImageSource:
    """Ten pictures: six to learn from, two to validate, two to test, labels in no order."""
    paths = pictures(10)[::-1]

    def some(rows: slice, labels: list[int]) -> LabelledImages:
        return LabelledImages(tuple(paths[rows]), np.array(labels), CLASSES)

    return ImageSource(
        some(slice(6), [1, 0, 1, 0, 0, 1]),
        some(slice(6, 8), [1, 0]),
        some(slice(8, 10), [0, 1]),
        "some pictures",
    )


def test_rows_are_sorted_by_class_then_path_and_keep_their_split(encoder, source) -> None:
    found = embed_images(source, encoder).features
    rows = sorted(
        (label, str(path), split)
        for split, images in enumerate((source.train, source.validation, source.test))
        for path, label in zip(images.paths, images.labels.tolist(), strict=True)
    )
    assert found.labels.tolist() == [label for label, _, _ in rows]
    assert list(found.paths) == [path for _, path, _ in rows]
    assert found.split.tolist() == [split for _, _, split in rows]
    want = encode_images(encoder, [Path(path) for path in found.paths]).features[:, 0]
    np.testing.assert_array_equal(found.image_features, want)


def test_text_side_and_metadata(encoder, source) -> None:
    import torch

    templates = ["a {}.", "my {}."]
    found = embed_images(source, encoder, templates=templates).features
    # Labels stay the user's own; prompts read them as words.
    assert found.class_names == CLASSES
    assert {"a big dog.", "my big dog.", "a cat.", "my cat."} <= set(encoder.texts)
    want = class_embeddings(encoder, ["big dog", "cat"], templates)
    np.testing.assert_array_equal(found.text_features, want)
    np.testing.assert_array_equal(
        found.class_embeddings, pool_templates(torch.from_numpy(want)).numpy()
    )
    assert found.templates == tuple(templates)
    assert found.logit_scale == encoder.logit_scale
    assert (found.encoder, found.fingerprint) == (encoder.spec, encoder.fingerprint)
    assert embed_images(source, encoder).features.templates == encoder.default_templates


def test_views(encoder, source) -> None:
    plain = embed_images(source, encoder)
    assert plain.features.view_features is None
    found = embed_images(source, encoder, views=3, seed=5)
    paths = [Path(path) for path in found.features.paths]
    want = encode_images(encoder, paths, views=(CENTRE, *random_views(3, seed=5))).features
    np.testing.assert_array_equal(found.features.image_features, want[:, 0])
    np.testing.assert_array_equal(found.features.view_features, want[:, 1:])
    assert (plain.encoded, found.encoded) == (10, 40)
    other = embed_images(source, encoder, views=3, seed=6).features.view_features
    assert not np.array_equal(found.features.view_features, other)


def test_a_vision_only_encoder(encoder, source) -> None:
    encoder.has_text = False
    found = embed_images(source, encoder).features
    assert found.text_features is None
    assert found.class_embeddings is None
    assert found.templates is None
    assert encoder.texts == []


PROMPTS = {"cat": ["whiskers", "a purring pet", "whiskers"], "Big Dog": "it barks", "cow": "moo"}


def test_prompts_stand_for_templates(encoder, source) -> None:
    with pytest.warns(UserWarning, match="the key 'cow' of prompts is no class of the images"):
        found = embed_images(source, encoder, prompts=PROMPTS).features
    assert sorted(encoder.texts) == ["a purring pet", "it barks", "whiskers"]
    want = encoder.encode_texts(["it barks", "whiskers", "a purring pet"])
    np.testing.assert_array_equal(found.text_features[0, 0], want[0])
    assert not found.text_features[0, 1:].any()
    np.testing.assert_array_equal(found.text_features[1], want[[1, 2, 1]])
    np.testing.assert_allclose(
        found.class_embeddings[0], want[0] / np.linalg.norm(want[0]), rtol=1e-6
    )
    assert (found.templates, found.sentences.counts) == ((), (1, 3))


@pytest.mark.filterwarnings("ignore:the key 'cow'")
def test_prompts_after_templates(encoder, source, tmp_path: Path) -> None:
    path = tmp_path / "pets.json"
    path.write_text(json.dumps(PROMPTS))
    found = embed_images(source, encoder, templates=["a {}.", "my {}."], prompts=path).features
    assert found.text_features.shape == (2, 5, encoder.dim)
    read = ["a big dog.", "my big dog.", "it barks"]
    np.testing.assert_array_equal(found.text_features[0, :3], encoder.encode_texts(read))
    assert not found.text_features[0, 3:].any()
    assert found.templates == ("a {}.", "my {}.")
    assert (found.sentences.file, found.sentences.counts) == ("pets.json", (1, 3))
    # And all of it is in the file.
    for dtype in ("float32", "float16"):
        save_features(tmp_path / dtype, found, dtype=dtype)
        again = load_features(tmp_path / dtype)
        assert (again.templates, again.sentences) == (found.templates, found.sentences)
        np.testing.assert_allclose(again.text_features, found.text_features, rtol=1e-3)
        assert not again.text_features[0, 3:].any()


def test_with_templates_a_class_may_lack_sentences(encoder, source) -> None:
    with pytest.warns(UserWarning, match="no sentences for the class 'big_dog': there only templ"):
        found = embed_images(source, encoder, templates="{}", prompts={"cat": "it purrs"}).features
    assert found.sentences.counts == (0, 1)
    assert found.text_features.any(axis=-1).tolist() == [[True, False], [True, True]]


def test_the_second_time_nothing_is_encoded(encoder, source, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features.sqlite3")
    first = embed_images(source, encoder, store=store, views=1)
    encoder.texts.clear()
    second = embed_images(source, encoder, store=store, views=1)
    assert (first.encoded, first.reused) == (20, 0)
    assert (second.encoded, second.reused) == (0, 20)
    assert encoder.texts == []
    np.testing.assert_array_equal(first.features.image_features, second.features.image_features)
    store.close()


def test_unreadable_images(encoder, source) -> None:
    bad = [source.train.paths[2], source.test.paths[0]]
    for path in bad:
        path.write_bytes(b"no picture")
    found = embed_images(source, encoder)
    assert sorted(path for path, _ in found.skipped) == sorted(bad)
    assert len(found.features.labels) == len(found.features.split) == 8
    assert not {str(path) for path in bad} & set(found.features.paths)
    with pytest.raises(InputError, match="is not an image"):
        embed_images(source, encoder, strict=True)
    for images in (source.train, source.validation, source.test):
        for path in images.paths:
            path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="none of the 10 images of some pictures"):
        embed_images(source, encoder)


def test_what_is_wrong_is_said_before_the_work(encoder, source) -> None:
    with pytest.raises(InputError, match="template"):
        embed_images(source, encoder, templates="no name")
    with pytest.raises(InputError, match="views is -1"):
        embed_images(source, encoder, views=-1)
    with pytest.raises(InputError, match="prompts has no sentences for the class 'cat'"):
        embed_images(source, encoder, prompts={"big dog": "x"})
    encoder.has_text = False
    with pytest.raises(InputError, match="no text tower, so there is nothing to read prompts"):
        embed_images(source, encoder, prompts=PROMPTS)
    assert encoder.batches == []


def test_the_file_gives_the_same_back(encoder, source, tmp_path: Path) -> None:
    found = embed_images(source, encoder, views=1).features
    save_features(tmp_path / "f.safetensors", found)
    again = load_features(tmp_path / "f.safetensors")
    for name in ("image_features", "labels", "split", "view_features", "text_features"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    for name in ("class_names", "paths", "templates", "encoder", "fingerprint", "logit_scale"):
        assert getattr(again, name) == getattr(found, name)
