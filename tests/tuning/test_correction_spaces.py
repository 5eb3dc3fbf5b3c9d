"""One encoder, two image spaces: exact where they must be equal, and nothing computed twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from shaken_correction import shaken
from torch import Tensor

from handful import load_encoder
from handful.encoders.derived import DerivedEncoder
from handful.encoders.joint import JointEncoder
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.features.extract import encode_images
from handful.features.store import FeatureStore
from handful.tuning.corrected_encoder import correct_features, corrected
from handful.tuning.correction import default_form
from handful.tuning.corrector import BlocksCorrector, ProjectionCorrector, open_corrector
from handful.tuning.images import TrainingImages
from handful.tuning.towers import open_towers

N = 5


@pytest.fixture(params=["clip", "siglip"])
def encoder(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Encoder:
    return load_encoder(f"dir:{tiny(request.param)}")


def pixels(encoder: Encoder, count: int = N) -> Any:
    side = encoder.preprocess.size
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def halves(both: Any) -> tuple[Any, Any]:
    d = both.shape[-1] // 2
    return both[..., :d], both[..., d:]


@pytest.mark.parametrize("form", ["blocks", "projection"])
def test_it_starts_as_the_encoder_exactly(encoder: Encoder, form: str) -> None:
    both = corrected(encoder, shaken(encoder, form, by=0.0)).encode_images(pixels(encoder))
    assert both.shape == (N, 2 * encoder.dim)
    assert both.dtype == np.float32
    original, other = halves(both)
    assert np.array_equal(original, other)
    np.testing.assert_allclose(original, encoder.encode_images(pixels(encoder)), atol=1e-5)


@pytest.mark.parametrize("form", ["blocks", "projection"])
def test_it_starts_as_the_encoder_in_training_too(clip: Encoder, form: str) -> None:
    """Dropout strikes what Up, being zero, does not let through."""
    towers = open_towers(clip)
    settings = {"width": 4, "scale": 0.5, "dropout": 0.5, "layers": "all"}
    corrector = open_corrector(towers, form, settings, dim=clip.dim, seed=0).train()
    x = towers.preprocess.normalise(pixels(clip))
    if isinstance(corrector, BlocksCorrector):
        x = corrector.entering(x)
    else:
        x = torch.randn(N, clip.dim)
    assert torch.equal(corrector(x), corrector.original(x))


@pytest.mark.parametrize("form", ["blocks", "projection"])
def test_scale_zero_is_the_encoder(encoder: Encoder, form: str) -> None:
    both = corrected(encoder, shaken(encoder, form, scale=0.0)).encode_images(pixels(encoder))
    assert np.array_equal(*halves(both))


@pytest.mark.parametrize("form", ["blocks", "projection"])
@pytest.mark.parametrize("layers", ["all", "last-1"])
def test_the_original_half_is_the_encoder(encoder: Encoder, form: str, layers: str) -> None:
    made = corrected(encoder, shaken(encoder, form, layers=layers))
    shown = pixels(encoder)
    original, other = halves(made.encode_images(shown))
    expected = encoder.encode_images(shown)
    np.testing.assert_allclose(original, expected, rtol=0, atol=1e-5)
    assert np.abs(other - original).max() > 1e-2
    assert np.array_equal(encoder.encode_images(shown), expected)  # the base is left alone


def test_off_is_the_untouched_tower_bit_for_bit(encoder: Encoder) -> None:
    towers = open_towers(encoder)
    assert towers.image is not None
    x = towers.preprocess.normalise(pixels(encoder))
    with torch.no_grad():
        expected = towers.image(x)
        settings = {"width": 5, "scale": 0.7, "dropout": 0.0, "layers": "all"}
        corrector = open_corrector(towers, "blocks", settings, dim=encoder.dim, seed=0)
        assert isinstance(corrector, BlocksCorrector)
        corrector.load(shaken(encoder, "blocks").arrays)
        assert torch.equal(towers.image(x), expected)  # in a pass of its own
        entering = corrector.entering(x)
        changed = corrector(entering)
        assert torch.equal(corrector.original(entering), expected)  # beside a corrected one
        assert torch.equal(corrector(entering), changed)
        assert not torch.equal(changed, expected)
        # Another corrector on the same tower leaves both alone, as a teacher a student.
        other = open_corrector(towers, "blocks", settings, dim=encoder.dim, seed=1)
        assert torch.equal(corrector(entering), changed)
        assert torch.equal(other.original(entering), expected)
        corrector.remove()
        assert torch.equal(corrector(entering), expected)


@pytest.mark.parametrize(("layers", "first"), [("all", 0), ("last-1", 1), ("0", 0)])
def test_blocks_are_computed_once_where_both_agree(
    encoder: Encoder, layers: str, first: int
) -> None:
    made: Any = corrected(encoder, shaken(encoder, "blocks", layers=layers))
    blocks = made._towers.image.blocks
    runs = [0] * len(blocks)

    def count(number: int) -> Any:
        return lambda *_: runs.__setitem__(number, runs[number] + 1)

    for number, block in enumerate(blocks):
        block.register_forward_hook(count(number))
    made.encode_images(pixels(encoder))
    assert runs == [1 if number < first else 2 for number in range(len(blocks))]


def test_pictures_and_pixels_are_the_same(clip: Encoder, photos: Path) -> None:
    from PIL import Image

    made = corrected(clip, shaken(clip, "blocks"))
    pictures = [Image.open(path) for path in sorted(photos.rglob("*.webp"))[:2]]
    shown = np.stack([clip.preprocess(picture) for picture in pictures])
    assert np.array_equal(made.encode_images(pictures), made.encode_images(shown))
    assert made.encode_images([]).shape == (0, 2 * clip.dim)
    with pytest.raises(InputError, match="the pixels are float64"):
        made.encode_images(np.zeros((1, 4, 4, 3)))


@pytest.mark.parametrize("form", ["blocks", "projection"])
def test_the_rest_is_the_base(clip: Encoder, form: str) -> None:
    made = corrected(clip, shaken(clip, form))
    assert isinstance(made, Encoder)
    assert np.array_equal(made.encode_texts(["cat"]), clip.encode_texts(["cat"]))
    assert (made.spec, made.logit_scale) == (clip.spec, clip.logit_scale)
    assert made.preprocess is clip.preprocess
    assert made.base is clip
    assert made.dim == 2 * clip.dim
    prints = {clip.fingerprint, made.fingerprint, made.correction.fingerprint}
    prints.add(corrected(clip, shaken(clip, form, scale=0.1)).fingerprint)
    assert len(prints) == 4


# -- the form for features -------------------------------------------------------------------


def test_the_projection_form_is_its_equation(clip: Encoder) -> None:
    correction = shaken(clip, "projection")
    z = np.random.default_rng(1).normal(size=(2, 3, clip.dim)).astype(np.float32)
    original, found = halves(correct_features(z, correction))
    assert np.array_equal(original, z)
    a = {name: array.astype(np.float64) for name, array in correction.arrays.items()}
    length = np.linalg.norm(z.astype(np.float64), axis=-1, keepdims=True)
    middle = np.maximum(z / length @ a["down.weight"].T + a["down.bias"], 0)
    expected = z + 0.7 * length * (middle @ a["up.weight"].T + a["up.bias"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # Raw and unit features are corrected alike; nothing comes of nothing.
    _, shorter = halves(correct_features(z / length, correction))
    np.testing.assert_allclose(shorter * length, found, rtol=1e-4, atol=1e-5)
    assert not correct_features(np.zeros((1, clip.dim)), correction).any()


def test_the_bottleneck_is_the_published_adapter(shared: Path) -> None:
    """Without the residual and the length: s·Up(ReLU(Down h))."""
    given = load_file(shared / "data" / "oracles" / "imo.safetensors")
    h: Tensor = given["tokens"]
    for scale in (0.03, 0.1):
        corrector = ProjectionCorrector(h.shape[-1], width=16, scale=scale).eval()
        names = ("down.weight", "down.bias", "up.weight", "up.bias")
        corrector.load({name: given[name.replace(".", "_")].numpy() for name in names})
        expected = given[f"adapter_out_s{scale:g}"]
        with torch.no_grad():
            added = corrector.adapter(h)
            torch.testing.assert_close(added, expected, rtol=0, atol=1e-4 * expected.abs().max())
            x = h / torch.linalg.vector_norm(h, dim=-1, keepdim=True)
            torch.testing.assert_close(corrector(x) - x, corrector.adapter(x), rtol=0, atol=1e-6)


def test_the_store_keeps_the_base_features(
    clip: Encoder, pictures: TrainingImages, tmp_path: Path
) -> None:
    store = FeatureStore(tmp_path / "store.sqlite3")
    plain = encode_images(clip, pictures.paths, store=store)
    made = corrected(clip, shaken(clip, "projection"))
    assert isinstance(made, DerivedEncoder)
    found = encode_images(made, pictures.paths, store=store)
    assert found.encoded == 0
    assert np.array_equal(found.features[..., : clip.dim], plain.features)
    assert np.array_equal(found.features, correct_features(plain.features, made.correction))
    assert found.digests == plain.digests
    assert store.info().images == len(pictures)
    assert encode_images(made, []).features.shape == (0, 1, 2 * clip.dim)


def test_the_store_keeps_both_spaces_of_the_blocks(
    clip: Encoder, pictures: TrainingImages, tmp_path: Path
) -> None:
    store = FeatureStore(tmp_path / "store.sqlite3")
    made = corrected(clip, shaken(clip, "blocks"))
    assert not isinstance(made, DerivedEncoder)
    first = encode_images(made, pictures.paths, store=store)
    again = encode_images(made, pictures.paths, store=store)
    assert (first.encoded, again.encoded) == (len(pictures), 0)
    assert first.features.shape == (len(pictures), 1, 2 * clip.dim)
    assert np.array_equal(again.features, first.features)
    other = corrected(clip, shaken(clip, "blocks", scale=0.1))
    assert encode_images(other, pictures.paths, store=store).encoded == len(pictures)


# -- refusals --------------------------------------------------------------------------------


def test_what_cannot_be_corrected(
    clip: Encoder, lite: Encoder, tiny: Callable[[str], Path]
) -> None:
    correction = shaken(clip, "blocks")
    with pytest.raises(InputError, match="belongs to the encoder"):
        corrected(lite, correction)
    with pytest.raises(InputError, match="a correction takes one encoder, and there are 2"):
        corrected(JointEncoder([clip, lite]), correction)
    with pytest.raises(InputError, match="has the form 'blocks', which lies inside the encoder"):
        correct_features(np.zeros((1, clip.dim)), correction)
    with pytest.raises(InputError, match=f"of width {clip.dim}, and these have 7"):
        correct_features(np.zeros((1, 7)), shaken(clip, "projection"))
    with pytest.raises(InputError, match=r"form 'blocks' .* and the encoder lite has none"):
        shaken(lite, "blocks")


def test_the_form_that_suits_an_encoder(encoder: Encoder, lite: Encoder) -> None:
    assert default_form(encoder) == "blocks"
    assert default_form(lite) == "projection"
    assert default_form(None) == "projection"
