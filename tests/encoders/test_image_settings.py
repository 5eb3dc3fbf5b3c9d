"""Preprocessing from the files of checkpoints, old and new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handful import load_encoder
from handful.encoders.checkpoint.image_settings import read_preprocess
from handful.encoders.preprocess import Preprocess
from handful.errors import InputError

CLIP_NUMBERS = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def settings(folder: Path, given: dict[str, Any], model_type: str = "clip") -> Preprocess:
    (folder / "preprocessor_config.json").write_text(json.dumps(given))
    return read_preprocess(folder, model_type)


# The file of openai/clip-vit-base-patch32 as it was published, and later forms of the same.
LEGACY = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    **CLIP_NUMBERS,
    "resample": 3,
    "size": 224,
}


@pytest.mark.parametrize(
    "given",
    [
        LEGACY,
        LEGACY | {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}},
        LEGACY | {"image_processor_type": "CLIPImageProcessorFast", "crop_size": [224, 224]},
        {"size": 224},
        {"image_processor_type": "CLIPImageProcessor"},
        {k: v for k, v in LEGACY.items() if k != "feature_extractor_type"},
    ],
)
def test_forms_of_clip(tmp_path: Path, given: dict[str, Any]) -> None:
    found = settings(tmp_path, given)
    assert found.identity == Preprocess().identity
    assert found == Preprocess()


def test_transformers_5_keeps_it_in_the_processor_s_file(tmp_path: Path) -> None:
    inside = {"processor_class": "CLIPProcessor", "image_processor": LEGACY}
    (tmp_path / "processor_config.json").write_text(json.dumps(inside))
    assert read_preprocess(tmp_path, "clip") == Preprocess()


# Family, its file in the ways in which such files are published, and the class of transformers
# that reads it with Pillow.
READERS = {
    "clip": (LEGACY, "clip.image_processing_pil_clip.CLIPImageProcessorPil"),
    "clip, 336": (
        LEGACY | {"size": {"shortest_edge": 336}, "crop_size": 336},
        "clip.image_processing_pil_clip.CLIPImageProcessorPil",
    ),
    "siglip": (
        {
            "image_processor_type": "SiglipImageProcessor",
            "size": {"height": 64, "width": 64},
            "resample": 3,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
        "siglip.image_processing_pil_siglip.SiglipImageProcessorPil",
    ),
    "dinov2": (
        {
            "image_processor_type": "BitImageProcessor",
            "size": {"shortest_edge": 256},
            "crop_size": {"height": 224, "width": 224},
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        },
        "bit.image_processing_pil_bit.BitImageProcessorPil",
    ),
    "vit, legacy": (
        {"feature_extractor_type": "ViTFeatureExtractor", "size": 48, "resample": 2},
        "vit.image_processing_pil_vit.ViTImageProcessorPil",
    ),
    "convnext": (
        {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 56, "crop_pct": 0.875},
        "convnext.image_processing_pil_convnext.ConvNextImageProcessorPil",
    ),
    "convnext, whole": (
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
        "convnext.image_processing_pil_convnext.ConvNextImageProcessorPil",
    ),
    "deit": (
        {"image_processor_type": "DeiTImageProcessor"},
        "deit.image_processing_pil_deit.DeiTImageProcessorPil",
    ),
    "chinese clip": (
        {"image_processor_type": "ChineseCLIPImageProcessor", "size": {"shortest_edge": 60},
         "crop_size": 60},
        "chinese_clip.image_processing_pil_chinese_clip.ChineseCLIPImageProcessorPil",
    ),
    "another scale": (
        {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32},
         "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
        "vit.image_processing_pil_vit.ViTImageProcessorPil",
    ),
    "no normalisation": (
        {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32},
         "do_normalize": False, "resample": 0},
        "vit.image_processing_pil_vit.ViTImageProcessorPil",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_pixels_are_those_of_transformers(tmp_path: Path, photos: Path, name: str) -> None:
    """With the crop's offset cut off as there; see below for ours."""
    import importlib
    from dataclasses import replace

    given, reader = READERS[name]
    preprocess = replace(settings(tmp_path, given, "?"), crop="floor")
    module, _, cls = reader.rpartition(".")
    processor = getattr(importlib.import_module(f"transformers.models.{module}"), cls)(
        **{k: v for k, v in given.items() if not k.endswith("_type")}
    )
    images = [Image.open(path).convert("RGB") for path in sorted(photos.rglob("*.webp"))[:8]]
    theirs = np.stack([processor(i, return_tensors="np")["pixel_values"][0] for i in images])
    ours = preprocess.normalise(np.stack([preprocess(image) for image in images])).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_crop_is_openai_s_and_the_other_is_offered(tiny, tmp_path: Path) -> None:
    """635 × 224: the excess is 411, and OpenAI's offset round(205.5) = 206, transformers' 205."""
    image = Image.effect_noise((635, 224), 80).convert("RGB")
    whole = np.asarray(image)
    ours = settings(tmp_path, LEGACY)
    np.testing.assert_array_equal(ours(image), whole[:, 206:430])
    floor = load_encoder(f"dir:{tiny('clip')}?crop=floor")
    assert floor.preprocess.crop == "floor"
    theirs = Preprocess(crop="floor")
    np.testing.assert_array_equal(theirs(image), whole[:, 205:429])


def test_options_change_the_preprocessing_and_the_fingerprint(tiny) -> None:
    plain = load_encoder(f"dir:{tiny('clip')}")
    for option, value in (("style", "coop"), ("crop", "floor")):
        other = load_encoder(f"dir:{tiny('clip')}?{option}={value}")
        assert getattr(other.preprocess, option) == value
        assert other.fingerprint != plain.fingerprint
        assert other.spec == f"{plain.spec}?{option}={value}"
    # What is so already changes nothing, and is not kept.
    same = load_encoder(f"dir:{tiny('clip')}?dtype=float32")
    assert (same.spec, same.fingerprint) == (plain.spec, plain.fingerprint)


REFUSED = {
    "nothing": (None, "has no preprocessor_config.json"),
    "no JSON": ("{", "is damaged"),
    "a list": ("[]", "is damaged"),
    "unknown processor": ({"image_processor_type": "PixtralImageProcessor"}, "'Pixtral'.*know"),
    "oblong": (
        {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 9}},
        "size .* is not the side of a square",
    ),
    "any size": ({"do_resize": False}, "do_resize: false"),
    "no crop": ({"size": {"shortest_edge": 224}, "do_center_crop": False}, "does not crop"),
    "grey": ({"image_mean": [0.5], "image_std": [0.5]}, "three numbers"),
    "no spread": ({"image_std": [0, 0, 0]}, "three numbers"),
    "text for numbers": ({"image_mean": "abc"}, "three numbers"),
    "filter": ({"resample": 17}, "resample 17"),
    "no side": ({"crop_size": "big"}, "crop_size"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_file(tmp_path: Path, name: str) -> None:
    given, words = REFUSED[name]
    if given is not None:
        text = given if isinstance(given, str) else json.dumps(given)
        (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(InputError, match=f"(?s){words}") as caught:
        read_preprocess(tmp_path, "clip")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("dir:x?crops=floor", r"option 'crops=floor'.*unknown.*Did you mean 'crop'"),
        ("dir:x?crop=flor", r"option crop .* is 'flor'.*round, floor.*Did you mean 'floor'"),
        ("dir:x?", "option ''"),
        ("lite?crop=floor", "takes no options"),
        ("hf:a/b?dtype=int8", "float32, float16, bfloat16"),
    ],
)
def test_wrong_options(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_encoder(spec)
