"""Near duplicates: copies are found, different images stay apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from handful.datasets import duplicates
from handful.datasets.duplicates import duplicate_groups, perceptual_hashes
from handful.errors import InputError


def pictures(photos: Path) -> list[Path]:
    return sorted(photos.glob("*/*.webp"))


def hashed(*bits: int) -> np.ndarray:
    return np.array(bits, dtype=np.uint64)


def test_hash_is_the_sign_of_horizontal_differences(tmp_path: Path) -> None:
    """Nine flat columns, brighter and darker in turn, written without loss and at hash size."""
    grey = np.tile(np.array([0, 200] * 4 + [0], dtype=np.uint8), (8, 1))
    Image.fromarray(grey).save(tmp_path / "stripes.png")
    assert perceptual_hashes([tmp_path / "stripes.png"]).tolist() == [0xAAAA_AAAA_AAAA_AAAA]


def test_different_photographs_stay_apart(photos: Path) -> None:
    paths = pictures(photos)
    hashes = perceptual_hashes(paths)
    assert hashes.dtype == np.uint64
    assert duplicate_groups(hashes).tolist() == list(range(len(paths)))


def test_different_satellite_images_stay_apart(shared: Path) -> None:
    """The classes where different images look most alike."""
    root = shared / "data" / "whu-rs19" / "images"
    paths = [p for name in ("desert", "forest", "beach") for p in sorted((root / name).iterdir())]
    assert len(paths) > 100
    assert duplicate_groups(perceptual_hashes(paths)).max() + 1 == len(paths)


def test_copies_are_found(photos: Path, tmp_path: Path) -> None:
    """Exact copies always; recompressed and half-size ones as the docstring's table says."""
    originals = pictures(photos)
    copies: list[Path] = []
    for number, path in enumerate(originals):
        with Image.open(path) as image:
            rgb = image.convert("RGB")
        exact, small, half = (tmp_path / f"{kind}{number}" for kind in ("exact", "q60", "half"))
        shutil.copy(path, exact)
        rgb.save(small, "JPEG", quality=60)
        rgb.resize((rgb.width // 2, rgb.height // 2)).save(half, "PNG")
        copies += [exact, small, half]
    count = len(originals)
    group = duplicate_groups(perceptual_hashes(originals + copies))
    found = group[count:].reshape(count, 3) == group[:count, None]
    assert found.all(axis=0).tolist() == [True, True, True]
    assert group.max() + 1 == count


def test_turned_copy_with_an_orientation_tag_is_found(photos: Path, tmp_path: Path) -> None:
    with Image.open(photos / "dam" / "dam1.webp") as image:
        upright = image.convert("RGB")
    upright.save(tmp_path / "upright.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise when shown
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    hashes = perceptual_hashes([tmp_path / "upright.jpg", tmp_path / "turned.jpg"])
    assert duplicate_groups(hashes).tolist() == [0, 0]


def test_images_without_hash_match_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not an image")
    (tmp_path / "b.jpg").write_bytes(b"not an image")
    Image.new("RGB", (20, 20), "white").save(tmp_path / "flat.png")
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg", "flat.png", "absent.jpg")]
    hashes = perceptual_hashes(paths, workers=2)
    assert hashes.tolist() == [0, 0, 0, 0]
    assert duplicate_groups(hashes).tolist() == [0, 1, 2, 3]


def test_distance_is_counted_exactly_and_chains_join() -> None:
    base = 0x0F0F_0F0F_0F0F_0F0F
    five, six = base ^ 0b11111, base ^ 0b111111
    far = five ^ (0b11111 << 40)
    assert duplicate_groups(hashed(base, five)).tolist() == [0, 0]
    assert duplicate_groups(hashed(base, six)).tolist() == [0, 1]
    assert duplicate_groups(hashed(base, six), max_distance=6).tolist() == [0, 0]
    assert duplicate_groups(hashed(far, base)).tolist() == [0, 1]
    assert duplicate_groups(hashed(far, 1, base, five)).tolist() == [0, 1, 0, 0]


def test_features_join_what_hashes_do_not() -> None:
    angles = np.deg2rad([0, 90, 5, 95, 45])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert duplicate_groups(None, features).tolist() == [0, 1, 0, 1, 2]  # cos 5° = 0.996
    assert duplicate_groups(None, features, min_cosine=0.999).tolist() == [0, 1, 2, 3, 4]
    hashes = hashed(1, 1 << 20, 0, 0, 1 << 20)  # joins the first two and the last
    assert duplicate_groups(hashes, features).tolist() == [0, 0, 0, 0, 0]


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 40), max_size=40), st.integers(0, 8))
def test_equals_a_plain_union_over_all_pairs(values: list[int], distance: int) -> None:
    expected = list(range(len(values)))
    for i, a in enumerate(values):
        for j, b in enumerate(values[:i]):
            if a and b and (a ^ b).bit_count() <= distance:
                old, new = expected[i], expected[j]
                expected = [new if group == old else group for group in expected]
    order = list(dict.fromkeys(expected))
    block = duplicates.BLOCK
    try:
        duplicates.BLOCK = 7  # several blocks, the last one smaller
        got = duplicate_groups(hashed(*values), max_distance=distance)
    finally:
        duplicates.BLOCK = block
    assert got.dtype == np.int64
    assert got.tolist() == [order.index(group) for group in expected]


def test_refused() -> None:
    with pytest.raises(InputError, match="need hashes or features"):
        duplicate_groups(None)
    with pytest.raises(InputError, match="one row per image"):
        duplicate_groups(hashed(1, 2), np.eye(3))
    with pytest.raises(InputError, match="max_distance is 32"):
        duplicate_groups(hashed(1, 2), max_distance=32)
