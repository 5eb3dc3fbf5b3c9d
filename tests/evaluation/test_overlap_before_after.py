"""The overlap of labelled features: which rows, which bins, what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from small_corrections import small_correction

from handful import Features, InputError
from handful.evaluation.overlap import overlap_of, overlaps_of_features
from handful.features.digests import row_digests
from handful.functional.overlap import modality_gap, pair_cosines
from handful.tuning.corrected_encoder import correct_features


def drawn(n: int = 60, **more: Any) -> Features:
    """Three classes in eight dimensions, a third of them in each split; the fourth has no image."""
    rng, labels = np.random.default_rng(0), np.arange(n) % 3
    rows = rng.normal(size=(3, 8))[labels] + rng.normal(size=(n, 8))
    text = rng.normal(size=(4, 8))
    split = np.arange(n) // 3 % 3
    return Features(rows, labels=labels, split=split, class_embeddings=text,
                    class_names=("a", "b", "c", "none"), **more)  # fmt: skip


def test_few_pairs_have_wide_bins() -> None:
    """Of two equal distributions the area must come near 1, whatever the number of images.

    Half the sum of |p̂ − q̂| over B bins is at most ½·√(B·(1/n + 1/m)) in the mean, for n and m
    independent cosines (Jensen, Cauchy-Schwarz).
    """
    rng = np.random.default_rng(0)
    bins = []
    for n in (12, 60, 600):
        # No class means anything here.
        found = overlap_of(rng.normal(size=(n, 16)).astype(np.float32), np.arange(n) % 3)
        fine = found.cosines.overlap
        bins.append(found.bins)
        n_paired, n_unpaired = (
            int(c.sum()) for c in (found.cosines.paired, found.cosines.unpaired)
        )
        assert found.area > 1 - math.sqrt(found.bins * (1 / n_paired + 1 / n_unpaired)) / 2
        assert found.area > fine or n == 600
        assert found.divergence < found.cosines.divergence or n == 600
    assert bins == sorted(bins) and bins[0] < bins[-1] == 400


def test_both_spaces_are_those_of_their_rows() -> None:
    f = drawn()
    correction = small_correction(8, taught=row_digests(f.image_features[[0, 1, 50]]))
    found = overlaps_of_features(f, "f", correction=correction)
    both = correct_features(f.image_features, correction)
    assert found.after is not None
    labels = torch.from_numpy(f.labels)
    for one, X in ((found.before, both[:, :8]), (found.after, both[:, 8:])):
        expected = pair_cosines(torch.from_numpy(np.ascontiguousarray(X)), labels)
        assert one.cosines.auroc == pytest.approx(expected.auroc)
        assert one.cosines.separation == pytest.approx(expected.separation)
        # The class without images is no part of the gap.
        gap = modality_gap(torch.from_numpy(X.copy()), torch.from_numpy(f.class_embeddings[:3]))
        assert one.gap == pytest.approx(gap)
    assert found.before.cosines.auroc != found.after.cosines.auroc
    assert (found.taught, found.classes, found.images) == (3, ("a", "b", "c"), 60)
    assert found.pairs == (3 * 20 * 19 // 2, 60 * 59 // 2 - 3 * 20 * 19 // 2)


def test_a_split_alone() -> None:
    f = drawn()
    correction = small_correction(8, taught=row_digests(f.image_features[f.split == 2][:4]))
    for split, number, taught in (("train", 0, 0), ("val", 1, 0), ("test", 2, 4)):
        found = overlaps_of_features(f, "f", split=split, correction=correction)
        expected = overlap_of(f.image_features[f.split == number], f.labels[f.split == number])
        assert found.images == int((f.split == number).sum())
        assert found.before.area == expected.area
        assert found.taught == taught


def test_what_is_refused() -> None:
    f = drawn()
    with pytest.raises(InputError, match="two classes, and two images of one"):
        overlap_of(f.image_features[:3], f.labels[:3])
    with pytest.raises(InputError, match="two classes"):
        overlap_of(f.image_features[f.labels == 0], f.labels[f.labels == 0])
    with pytest.raises(InputError, match="f has no labels"):
        overlaps_of_features(Features(f.image_features), "f")
    with pytest.raises(InputError, match="no split 'tset'"):
        overlaps_of_features(f, "f", split="tset")
    with pytest.raises(InputError, match="no images of the split 'test'"):
        overlaps_of_features(Features(f.image_features, labels=f.labels), "f", split="test")
    with pytest.raises(InputError, match="width 7"):
        overlaps_of_features(f, "f", correction=small_correction(7))
    told = drawn(fingerprint="1" * 64)
    with pytest.raises(InputError, match="belongs to the encoder"):
        overlaps_of_features(told, "f", correction=small_correction(8, fingerprint="2" * 64))
