"""Prompts are encoded once each, and class by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handful.datasets.imagenet import imagenet_classes
from handful.datasets.sentences import ClassSentences
from handful.errors import InputError
from handful.features import texts
from handful.features.store import FeatureStore
from handful.features.texts import (
    class_embeddings,
    encode_prompts,
    read_classes,
    readable_names,
    refuse_blind,
)


def test_equal_prompts_are_encoded_once_and_come_back_in_order(encoder) -> None:
    prompts = ["b", "a", "b", "c", "a"]
    features = encode_prompts(encoder, prompts)
    assert encoder.texts == ["b", "a", "c"]
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, type(encoder)().encode_texts(prompts))


def test_known_prompts_are_not_encoded_again(encoder, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "f.sqlite3")
    first = encode_prompts(encoder, ["a", "b"], store)
    second = encode_prompts(encoder, ["b", "new", "a"], store)
    assert encoder.texts == ["a", "b", "new"]
    np.testing.assert_array_equal(second[[2, 0]], first)
    store.close()


def test_a_killed_run_keeps_its_whole_batches(encoder, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(texts, "BATCH_SIZE", 2)
    store = FeatureStore(tmp_path / "f.sqlite3")
    encode = encoder.encode_texts

    def fail_third(prompts):
        if len(encoder.texts) == 4:
            raise KeyboardInterrupt
        return encode(prompts)

    encoder.encode_texts = fail_third
    with pytest.raises(KeyboardInterrupt):
        encode_prompts(encoder, list("abcdef"), store)
    assert set(store.texts(encoder.fingerprint, list("abcdef"), encoder.dim)) == set("abcd")
    store.close()


def test_class_embeddings_are_class_by_template(encoder) -> None:
    names, templates = ["solar_panel", "dam"], ["{}", "a photo of a {}.", "a {} from above"]
    features = class_embeddings(encoder, names, templates)
    assert features.shape == (2, 3, encoder.dim)
    first = encoder.encode_texts(["a photo of a solar panel."])[0]
    last = encoder.encode_texts(["a dam from above"])[0]
    np.testing.assert_array_equal(features[0, 1], first)
    np.testing.assert_array_equal(features[1, 2], last)


# -- sentences -------------------------------------------------------------------------------------


SENTENCES = ClassSentences((("a wall", "a lake", "a wall"), ()), "x.json")


def test_no_prompt_is_a_row_of_zeros(encoder) -> None:
    features = encode_prompts(encoder, [None, "a", None, "b", "a"])
    assert encoder.texts == ["a", "b"]
    want = encoder.encode_texts(["a", "b"])
    np.testing.assert_array_equal(features[[1, 3, 4]], want[[0, 1, 0]])
    assert not features[[0, 2]].any()


def test_templates_come_first_then_sentences_then_zeros(encoder) -> None:
    features = class_embeddings(encoder, ["big_dam", "cat"], ["{}.", "my {}"], None, SENTENCES)
    assert features.shape == (2, 5, encoder.dim)
    read = ["big dam.", "my big dam", "a wall", "a lake", "a wall", "cat.", "my cat"]
    np.testing.assert_array_equal(features.reshape(10, -1)[:7], type(encoder)().encode_texts(read))
    assert not features[1, 2:].any()
    # Each text once, however often it counts.
    assert sorted(encoder.texts) == sorted(set(read))


def test_sentences_alone(encoder) -> None:
    sentences = ClassSentences((("a", "b"), ("c",)))
    features = class_embeddings(encoder, ["dam", "fish"], [], None, sentences)
    want = type(encoder)().encode_texts(["a", "b", "c"])
    np.testing.assert_array_equal(features[0], want[:2])
    np.testing.assert_array_equal(features[1, 0], want[2])
    assert features.shape == (2, 2, encoder.dim)
    assert not features[1, 1].any()


def test_sentences_are_kept_in_the_store(encoder, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(texts, "LOOKUP_SIZE", 2)
    store = FeatureStore(tmp_path / "f.sqlite3")
    arguments = (["dam", "cat"], ["{}.", "my {}"], store, SENTENCES)
    first = class_embeddings(encoder, *arguments)
    encoder.texts.clear()
    np.testing.assert_array_equal(class_embeddings(encoder, *arguments), first)
    assert encoder.texts == []
    store.close()


def test_how_names_read_is_told_where_they_are_read(encoder, recwarn) -> None:
    labels, sentences = ["wind_mill", "WindMill"], ClassSentences((("a",), ("b",)))
    read_classes(encoder, labels, (), sentences=sentences)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="are read alike"):
        features = read_classes(encoder, labels, ("{}",), sentences=sentences)
    np.testing.assert_array_equal(features[1, 0], encoder.encode_texts(["Wind Mill"])[0])


def test_two_classes_of_imagenet_with_one_name_are_meant_to_be_two(recwarn) -> None:
    of_imagenet = ["missile", "missile_", "sunglasses", "sunglasses_"]
    assert set(of_imagenet) < set(imagenet_classes().values())
    readable_names(of_imagenet)
    assert not recwarn.list
    for pair in (["dam", "dam_"], ["Missile", "missile_"], ["missile", "missile__"]):
        with pytest.warns(UserWarning, match="are read alike"):
            readable_names(pair)


def test_a_blind_encoder_is_told(encoder) -> None:
    refuse_blind(encoder)
    encoder.has_text = False
    with pytest.raises(InputError, match=r"encoder fake has no text tower, .* leave them out"):
        refuse_blind(encoder)
