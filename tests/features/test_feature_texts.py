"""Prompts are encoded once each, and class by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handful.features import texts
from handful.features.store import FeatureStore
from handful.features.texts import class_embeddings, encode_prompts


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
