"""Images and prompts as one set of samples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handful.functional.mixture import mix

IMAGES = torch.arange(1, 13, dtype=torch.float32).reshape(6, 2, 1)  # of 2 views, all different
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])
PROMPTS = -torch.arange(1, 10, dtype=torch.float32).reshape(3, 3, 1)  # class 2 has no image


def test_samples_of_images_are_their_views_and_of_text_their_prompts() -> None:
    mixed = mix(IMAGES, LABELS, PROMPTS, 0.5)
    vectors = mixed.table[mixed.rows][..., 0]
    for image, row in zip(IMAGES, vectors[:6], strict=True):
        assert set(row.tolist()) == set(image[:, 0].tolist())
    assert torch.equal(mixed.labels[:6], LABELS)
    for row, label in zip(vectors[6:], mixed.labels[6:].tolist(), strict=True):
        assert set(row.tolist()) == set(PROMPTS[label, :, 0].tolist())


def test_each_view_and_prompt_as_often_as_the_others() -> None:
    rows = mix(IMAGES, LABELS, PROMPTS, 0.5).rows
    assert rows.shape[1] == 6  # of 2 views and 3 prompts
    for row in rows:
        assert len(set(row.unique(return_counts=True)[1].tolist())) == 1


def test_rows_of_zeros_are_no_prompts() -> None:
    ragged = PROMPTS.clone()
    ragged[1, 1:] = 0
    ragged[2, 0] = 0
    mixed = mix(IMAGES, LABELS, ragged, 0.5)
    vectors = mixed.table[mixed.rows][..., 0]
    assert (vectors != 0).all()
    assert set(vectors[mixed.labels == 2].flatten().tolist()) == {-8.0, -9.0}
    assert set(vectors[6:][mixed.labels[6:] == 1].flatten().tolist()) == {-4.0}


@pytest.mark.parametrize(("share", "of_each_class"), [(0.0, 0), (0.5, 2), (0.75, 6), (0.9, 18)])
def test_the_share_of_text(share: float, of_each_class: int) -> None:
    """6 images, 3 classes: half is 6 prompts, three quarters 18, nine tenths 54."""
    text = mix(IMAGES, LABELS, PROMPTS, share).labels[6:]
    assert torch.equal(torch.bincount(text, minlength=3), torch.full((3,), of_each_class))


@given(st.integers(1, 40), st.integers(2, 9), st.floats(0.01, 0.95))
def test_never_less_text_than_asked_for_nor_a_whole_round_more(
    n: int, n_classes: int, share: float
) -> None:
    prompts = torch.ones(n_classes, 1, 1)
    labels = torch.zeros(n, dtype=torch.int64)
    text = len(mix(torch.ones(n, 1, 1), labels, prompts, share).labels) - n
    asked = share / (1 - share) * n
    assert asked - 1e-6 <= text < asked + n_classes
