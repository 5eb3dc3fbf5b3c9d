"""Pixels as the encoders' authors made them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from handful.encoders.preprocess import Preprocess
from handful.encoders.views import random_views
from handful.errors import InputError


def noise(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8))


def openai_pixels(image: Image.Image, size: int) -> np.ndarray:
    """What torchvision documents for Resize(size, bicubic) and CenterCrop(size)."""
    width, height = image.size
    if width <= height:
        image = image.resize((size, int(size * height / width)), Image.Resampling.BICUBIC)
    else:
        image = image.resize((int(size * width / height), size), Image.Resampling.BICUBIC)
    left = round((image.width - size) / 2.0)
    top = round((image.height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))
def test_clip_style_is_openai_s(width: int, height: int, size: int) -> None:
    image = noise(width, height)
    np.testing.assert_array_equal(Preprocess(size)(image), openai_pixels(image, size))


def test_clip_style_on_photographs(pictures: list[Image.Image]) -> None:
    for image in pictures:
        np.testing.assert_array_equal(Preprocess()(image), openai_pixels(image, 224))


def test_clip_style_and_normalise_agree_with_transformers() -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    # The excess over 224 is even here: otherwise transformers cuts the offset off, we round it.
    images = [noise(448, 300), noise(224, 230), noise(100, 150)]
    theirs = CLIPImageProcessorPil()(images, return_tensors="pt")["pixel_values"]
    preprocess = Preprocess()
    ours = preprocess.normalise(np.stack([preprocess(image) for image in images]))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_coop_style_shows_the_whole_image_out_of_shape() -> None:
    image = noise(60, 30)
    pixels = Preprocess(32, "coop")(image)
    np.testing.assert_array_equal(pixels, image.resize((32, 32), Image.Resampling.BICUBIC))
    square = noise(50, 50)  # a square loses nothing in either style
    np.testing.assert_array_equal(Preprocess(32, "coop")(square), Preprocess(32)(square))


@pytest.mark.parametrize("style", ["clip", "coop"])
def test_a_random_view_is_its_crop_resized_and_mirrored(style: str) -> None:
    image = noise(70, 50)
    preprocess = Preprocess(32, style)
    mirrors = set()
    for view in random_views(8):
        box, mirror = view.crop(70, 50, "abc")
        expected = np.asarray(image.crop(box).resize((32, 32), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(
            preprocess(image, view, "abc"), expected[:, ::-1] if mirror else expected
        )
        mirrors.add(mirror)
    assert mirrors == {False, True}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_gives_writable_rgb_pixels(mode: str) -> None:
    pixels = Preprocess(16)(Image.new(mode, (20, 30)))
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable


def test_normalise() -> None:
    preprocess = Preprocess(4, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    pixels[1] = 255
    pixels.flags.writeable = False  # as read from a file mapped into memory
    x = preprocess.normalise(pixels)
    assert x.dtype == torch.float32
    assert x.shape == (2, 3, 4, 4)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x[0, :, 0, 0].tolist() == [-1, -1, 0]
    assert x[1, :, 3, 3].tolist() == [1, 3, 0.5]


def test_identity_tells_all_settings_apart() -> None:
    first = Preprocess()
    others = [
        Preprocess(336),
        Preprocess(style="coop"),
        Preprocess(mean=(0.5, 0.5, 0.5)),
        Preprocess(std=(0.5, 0.5, 0.5)),
        Preprocess(resize=256),
        Preprocess(resample="bilinear"),
        Preprocess(crop="floor"),
    ]
    assert first.identity == Preprocess().identity
    assert len({p.identity for p in [first, *others]}) == 1 + len(others)
    # One of the others per setting: a new setting must enter the identity, and this list.
    assert len(others) == len(dataclasses.fields(Preprocess))


def test_settings_that_change_nothing_do_not_enter_the_identity() -> None:
    assert Preprocess(resize=224).identity == Preprocess().identity
    both = Preprocess(style="coop")
    assert Preprocess(style="coop", crop="floor").identity == both.identity
    # What stores and classifiers of the first version were keyed with.
    assert Preprocess().identity.startswith("preprocess-1:clip:224:bicubic:mean=0.48145466,")
    assert Preprocess().identity.count(":") == 5


def test_a_crop_after_a_larger_resize() -> None:
    image = noise(60, 40)
    whole = np.asarray(image.resize((48, 32), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(Preprocess(20, resize=32)(image), whole[6:26, 14:34])
    squashed = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
    found = Preprocess(20, "coop", resize=32, resample="bilinear")(image)
    np.testing.assert_array_equal(found, squashed[6:26, 6:26])


def test_wrong_settings() -> None:
    with pytest.raises(InputError, match=r"'clp' is unknown.*clip, coop.*Did you mean 'clip'"):
        Preprocess(style="clp")
    with pytest.raises(InputError, match="input size is 0 pixels"):
        Preprocess(0)
    with pytest.raises(InputError, match="input size is 0 pixels"):
        Preprocess(resize=0)
    with pytest.raises(InputError, match=r"filter 'bicubi' is unknown.*Did you mean 'bicubic'"):
        Preprocess(resample="bicubi")
    with pytest.raises(InputError, match=r"crop 'flor' is unknown.*Did you mean 'floor'"):
        Preprocess(crop="flor")
