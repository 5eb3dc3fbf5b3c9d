"""The crops: what they cover, what changes them, and that chance follows from its numbers alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from handful import load_encoder
from handful.errors import InputError
from handful.tuning import dino_views as module
from handful.tuning.dino_inputs import CropFeatures, small_side
from handful.tuning.dino_views import Crops, crops_ahead, view_key
from handful.tuning.towers import ImageTower, open_towers

CROPS = Crops(side=32, small_side=16, local=3, seed=0)


def picture(width: int = 60, height: int = 40, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def plain(monkeypatch: pytest.MonkeyPatch, **shares: object) -> None:
    """Switch all changes of colours off, but for some."""
    changes = {"_COLOURED": 0.0, "_GREY": 0.0, "_BLURRED": (0.0, 0.0, 0.0), "_SOLARISED": 0.0}
    for name, share in (changes | shares).items():
        monkeypatch.setattr(module, name, share)


def test_sizes_and_kinds() -> None:
    found = CROPS(picture(), "a", 0)
    assert [crop.shape for crop in found] == [(32, 32, 3)] * 2 + [(16, 16, 3)] * 3
    assert all(crop.dtype == np.uint8 for crop in found)


def test_chance_follows_from_seed_epoch_image_and_view() -> None:
    image = picture()
    first, again = CROPS(image, "a", 4), CROPS(image, "a", 4)
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    others = {
        "seed": Crops(side=32, small_side=16, local=3, seed=1)(image, "a", 4),
        "epoch": CROPS(image, "a", 5),
        "image": CROPS(image, "b", 4),
    }
    for name, other in others.items():
        assert not any(np.array_equal(x, y) for x, y in zip(first, other, strict=True)), name
    assert len({crop.tobytes() for crop in first}) == 5
    keys = {view_key(s, e, d, v) for s in (0, 1) for e in (0, 1) for d in "ab" for v in (0, 1)}
    assert len(keys) == 16


def test_crops_of_another_epoch_are_not_those_of_another_view() -> None:
    """Numbers of views go on from epoch to epoch."""
    image = picture()
    seen = {crop.tobytes() for epoch in range(6) for crop in CROPS(image, "a", epoch)}
    assert len(seen) == 6 * 5


def test_large_crops_cover_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture whose red says how far to the right, and green how far down."""
    plain(monkeypatch)
    across = np.linspace(0, 255, 200)
    ramp = np.stack(np.broadcast_arrays(across[None], across[:, None], 0.0), -1)
    image = Image.fromarray(ramp.astype(np.uint8))

    def area(crop: npt.NDArray[np.uint8]) -> float:
        # Centres of the first and last pixel are one pixel less apart than the edges.
        side = len(crop)
        width, height = (np.ptp(crop[..., c].astype(float)) / 255 for c in (0, 1))
        return float(width * height * (side / (side - 1)) ** 2)

    areas = np.array([[area(c) for c in CROPS(image, "a", epoch)] for epoch in range(200)])
    assert 0.2 < areas[:, :2].min() < 0.3 and 0.9 < areas[:, :2].max() < 1.05
    assert 0.03 < areas[:, 2:].min() < 0.08 and 0.2 < areas[:, 2:].max() < 0.3


@pytest.mark.parametrize("view", [0, 1, 2])
def test_shares_of_the_changes(monkeypatch: pytest.MonkeyPatch, view: int) -> None:
    """Counted over 400 crops, within four standard deviations of what is published."""
    counts = dict.fromkeys(("coloured", "grey", "blurred", "solarised"), 0)
    names = {"_recoloured": "coloured"}
    for name, counted in names.items():
        real = getattr(module, name)

        def spy(image: Image.Image, *given: object, real=real, counted=counted) -> Image.Image:
            counts[counted] += 1
            return real(image, *given)

        monkeypatch.setattr(module, name, spy)
    for owner, name, counted in (
        (module.ImageOps, "grayscale", "grey"),
        (module.ImageFilter, "GaussianBlur", "blurred"),
        (module.ImageOps, "solarize", "solarised"),
    ):
        real = getattr(owner, name)

        def count(*given: object, real=real, counted=counted) -> object:
            counts[counted] += 1
            return real(*given)

        monkeypatch.setattr(owner, name, count)
    image = picture(16, 16)
    for epoch in range(400):
        CROPS._crop(image, "a", epoch, view)
    expected = {
        "coloured": 0.8,
        "grey": 0.2,
        "blurred": (1.0, 0.1, 0.5)[view],
        "solarised": 0.2 if view == 1 else 0.0,
    }
    for name, share in expected.items():
        spread = np.sqrt(400 * share * (1 - share))
        assert abs(counts[name] - 400 * share) <= 4 * spread, (name, counts[name])


def test_colours_change_as_far_as_published() -> None:
    """A grey picture has no hue and no saturation: what is left is brightness, 0.6 to 1.4."""
    grey = Image.new("RGB", (8, 8), (100, 100, 100))
    rng = np.random.default_rng(0)
    found = [np.array(module._recoloured(grey, rng.random(4), rng.random(4))) for _ in range(300)]
    values = np.array([crop[0, 0] for crop in found]).astype(int)
    assert np.ptp(values, axis=1).max() == 0  # still grey
    assert 60 <= values.min() < 65 and 135 < values.max() <= 140


@pytest.mark.parametrize(("amount", "hue"), [(0.0, -0.1), (1.0, 0.1), (0.5, 0.0)])
def test_hue_turns_a_tenth_at_most(amount: float, hue: float) -> None:
    amounts = np.array([0.5, 0.5, 0.5, amount])  # the other three leave everything as it is
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    found = module._recoloured(red, np.arange(4.0), amounts).convert("HSV")
    turn = (np.array(found)[0, 0, 0] / 256 + 0.5) % 1 - 0.5
    assert turn == pytest.approx(hue, abs=0.01)


def test_blurs_are_in_proportion_to_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    radii: list[float] = []
    real = module.ImageFilter.GaussianBlur
    monkeypatch.setattr(
        module.ImageFilter, "GaussianBlur", lambda radius: radii.append(radius) or real(radius)
    )
    for side in (224, 32):
        for epoch in range(40):
            Crops(side=side, small_side=16, local=0, seed=0)._crop(picture(), "a", epoch, 0)
    large, tiny = radii[:40], radii[40:]
    assert min(large) >= 0.1 and 1.8 < max(large) <= 2.0
    np.testing.assert_allclose(np.array(tiny) * 7, large)


def test_ahead_is_the_same_as_one_by_one(tmp_path: Path) -> None:
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        picture(seed=number).save(paths[-1])
    digests = list("abcde")
    shares = [(0, [3, 1]), (0, [0]), (1, [3, 4]), (2, [2])]
    batches = list(crops_ahead(CROPS, paths, digests, shares))
    assert [len(large) for large, _ in batches] == [2, 1, 2, 1]
    for (epoch, rows), (large, small) in zip(shares, batches, strict=True):
        for place, row in enumerate(rows):
            expected = CROPS(picture(seed=row), digests[row], epoch)
            assert np.array_equal(large[place], expected[:2])
            assert np.array_equal(small[place], expected[2:])


def test_no_small_crops(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    crops = Crops(side=32, small_side=16, local=0, seed=0)
    ((large, small),) = crops_ahead(crops, [tmp_path / "a.png"], ["a"], [(0, [0])])
    assert large.shape == (1, 2, 32, 32, 3) and small.shape == (1, 0, 16, 16, 3)


def test_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a\.png is not an image"):
        list(crops_ahead(CROPS, [tmp_path / "a.png"], ["a"], [(0, [0])]))


@pytest.mark.parametrize(
    ("patch", "side", "expected"),
    [(16, 224, 96), (32, 224, 96), (14, 224, 98), (8, 48, 24), (16, 384, 160), (32, 32, 32)],
)
def test_side_of_small_crops(patch: int, side: int, expected: int) -> None:
    """96 of 224 pixels is published; for others, the nearest whole number of patches."""
    tower = ImageTower()
    tower.patch = patch
    assert small_side(tower, side) == expected


def test_a_tower_that_cannot_take_small_pictures_gets_large_ones() -> None:
    assert small_side(ImageTower(), 48) == 48


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_towers_take_small_pictures(tiny: Callable[[str], Path], family: str) -> None:
    """Positions are interpolated as transformers does; the usual size is not touched."""
    towers = open_towers(load_encoder(f"dir:{tiny(family)}"))
    tower = towers.image
    assert tower is not None and tower.patch == 8
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    small = pixels[..., :16, :16]
    model = tower.model  # type: ignore[attr-defined]
    with torch.no_grad():
        expected = model(small, interpolate_pos_encoding=True).pooler_output
        if family == "clip":
            expected = tower.projection(expected)  # type: ignore[attr-defined]
        torch.testing.assert_close(tower(small), expected)
        assert tower.enter(small).shape[1] == 4 + (family == "clip")


def test_stored_crops_are_drawn_anew_in_every_epoch() -> None:
    """Features that say which image and view they are of."""
    large = np.array([[[i, v] for v in range(4)] for i in range(3)], np.float32)
    small = large[:, :2] + 10
    digests = ["a", "b", "c"]
    with_small = CropFeatures(large, small, digests, seed=0)
    seen = set()
    for epoch in range(30):
        ((two, others),) = with_small.batches([(epoch, [2, 0])])
        assert two.shape == (2, 2, 2) and np.array_equal(others, small[[2, 0]])
        assert two[:, :, 0].tolist() == [[2, 2], [0, 0]]
        seen |= {tuple(views) for views in two[:, :, 1].astype(int).tolist()}
    assert seen == {(a, b) for a in range(4) for b in range(4) if a != b}
    alike = CropFeatures(large, None, digests, seed=0)
    ((two, others),) = alike.batches([(0, [1])])
    assert sorted(np.concatenate([two, others], 1)[0, :, 1]) == [0, 1, 2, 3]
    assert (with_small.small, alike.small) == (2, 2)
    # crop by crop: first all images' first crops
    assert with_small.entering(large[:2, :2]).tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
