"""Retrieval: recall against cases counted by hand, and against a loop that sorts."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful.errors import InputError
from handful.evaluation import retrieval as module
from handful.evaluation.retrieval import retrieval
from handful.methods.clip_adapter import ClipAdapter


def by_loop(
    images: np.ndarray, texts: np.ndarray, owner: np.ndarray, k: int
) -> tuple[float, float]:
    """Recall at k both ways, one query after another, by sorting lists."""
    images = images / np.linalg.norm(images, axis=1, keepdims=True)
    texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    hits: tuple[list[bool], list[bool]] = ([], [])
    for i, image in enumerate(images):
        if i in owner:
            order = sorted(range(len(texts)), key=lambda t: -float(image @ texts[t]))
            hits[0].append(any(owner[t] == i for t in order[:k]))
    for t, text in enumerate(texts):
        order = sorted(range(len(images)), key=lambda i: -float(text @ images[i]))
        hits[1].append(owner[t] in order[:k])
    return float(np.mean(hits[0])), float(np.mean(hits[1]))


def test_a_case_counted_by_hand() -> None:
    """Cosines of three images (rows) and six texts, two of each image, as they are written here."""
    images = np.eye(3)
    cosines = np.array(
        [
            [0.9, 0.1, 0.2, 0.8, 0.25, 0.4],  # first is its own: found at 1
            [0.7, 0.6, 0.5, 0.3, 0.1, 0.15],  # its own 0.5 is third
            [0.1, 0.7, 0.6, 0.5, 0.3, 0.2],  # its own 0.3 is fourth
        ]
    )
    # A fourth axis makes each text a unit vector without touching the cosines.
    texts = np.concatenate([cosines, np.sqrt(2 - (cosines**2).sum(axis=0))[None]]).T
    images = np.concatenate([images, np.zeros((3, 1))], axis=1)
    found = retrieval(images, texts, np.array([0, 0, 1, 1, 2, 2]), at=(1, 2, 3, 4))
    assert found.image_to_text == {1: 1 / 3, 2: 1 / 3, 3: 2 / 3, 4: 1.0}
    # In the columns the own image is 1st, 3rd, 2nd, 3rd, 1st and 2nd.
    assert found.text_to_image == {1: 2 / 6, 2: 4 / 6, 3: 1.0, 4: 1.0}
    assert (found.images, found.texts) == (3, 6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 40), st.integers(1, 12))
def test_as_a_loop_finds_it(seed: int, images: int, texts: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    owner = rng.integers(images, size=texts)
    X, T = rng.normal(size=(images, 6)), rng.normal(size=(texts, 6))
    found = retrieval(X, T, owner, at=(k,))
    assert (found.image_to_text[k], found.text_to_image[k]) == by_loop(X, T, owner, k)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X, T, owner = rng.normal(size=(20, 8)), rng.normal(size=(100, 8)), np.arange(100) // 5
    whole = retrieval(X, T, owner)
    for block in (1, 130, 700):
        monkeypatch.setattr(module, "_BLOCK", block)
        assert retrieval(X, T, owner) == whole


def test_memory_does_not_grow_with_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 2**14)
    rng = np.random.default_rng(0)
    X, T = rng.normal(size=(1000, 4)), rng.normal(size=(5000, 4))
    tracemalloc.start()
    try:
        retrieval(X, T, np.arange(5000) // 5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1000 * 5000  # a byte for each pair; all cosines at once would take eight


def test_features_that_are_all_the_same_find_nothing() -> None:
    found = retrieval(np.ones((20, 4)), np.ones((100, 4)), np.arange(100) // 5)
    assert found.image_to_text == found.text_to_image == {1: 0.0, 5: 0.0, 10: 0.0}


def test_an_image_without_a_text_is_found_but_does_not_ask() -> None:
    X = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = retrieval(X, np.array([[0.6, 0.8]]), np.array([0]), at=(1, 2))
    assert found.images == 1
    assert found.image_to_text == {1: 1.0, 2: 1.0}
    assert found.text_to_image == {1: 0.0, 2: 1.0}


def test_adapted_features_on_either_side() -> None:
    """An adapter of weights set by hand: it swaps the two coordinates of images, or of texts."""
    swap = np.array([[0, 1], [1, 0]], np.float32)
    X, T = np.array([[1.0, 0.1], [0.1, 1.0]]), np.array([[0.2, 1.0], [1.0, 0.2]])
    owner = np.array([0, 1])
    head = ClipAdapter(class_embeddings=np.eye(2), branch="both", residual=False, reduction=1)
    head.set_params(epochs=1).fit(X, [0, 1])
    for name in ("up_", "text_up_"):
        setattr(head, name, np.eye(2, dtype=np.float32))
    for name in ("down_", "text_down_"):
        setattr(head, name, swap)
    assert retrieval(X, T, owner, at=(1,)).text_to_image == {1: 0.0}
    for images, texts in ((head.transform(X), T), (X, head.transform_text(T))):
        found = retrieval(images, texts, owner, at=(1,))
        assert found.image_to_text == found.text_to_image == {1: 1.0}


@pytest.mark.parametrize(
    ("images", "texts", "owner", "at", "told"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), [0, 1], (1,), "3 wide but texts 4"),
        (np.ones((2, 3)), np.ones((2, 3)), [0], (1,), "for each of 2 texts"),
        (np.ones((2, 3)), np.ones((2, 3)), [0, 2], (1,), "holds 2: expected rows of images"),
        (np.ones((2, 3)), np.ones((2, 3)), [0, -1], (1,), "holds -1"),
        (np.ones((2, 3)), np.zeros((2, 3)), [0, 1], (1,), "row 0 of the texts is zero"),
        (np.ones((0, 3)), np.ones((2, 3)), [0, 1], (1,), r"images have shape \(0, 3\)"),
        (np.ones((2, 3)), np.ones((2, 3)), [0, 1], (0,), r"at is \[0\]"),
    ],
)
def test_what_is_refused(
    images: np.ndarray, texts: np.ndarray, owner: list[int], at: tuple[int, ...], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        retrieval(images, texts, np.array(owner), at)
