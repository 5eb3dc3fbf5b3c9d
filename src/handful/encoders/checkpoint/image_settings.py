"""Preprocessing from a checkpoint's own files, in today's form and in those of ten years.

``transformers`` has a class for each model that reads these files; most of them need torchvision,
and their pixels depend on which version is installed. The files say enough.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from handful.encoders.checkpoint.files import read_json
from handful.encoders.preprocess import FILTERS, Preprocess
from handful.errors import InputError

__all__ = ["read_preprocess"]

CLIP_MEAN, CLIP_STD = Preprocess().mean, Preprocess().std
HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# What a processor does where its file is silent, by the stem of its name: CLIPImageProcessor,
# CLIPFeatureExtractor and CLIPImageProcessorFast are one.
CLIP = {
    "size": {"shortest_edge": 224},
    "crop_size": 224,
    "do_center_crop": True,
    "resample": 3,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
}
SQUASHED = {
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "image_mean": HALF,
    "image_std": HALF,
}
SILENT: dict[str, dict[str, Any]] = {
    "CLIP": CLIP,
    "ChineseCLIP": CLIP,
    "Bit": CLIP,  # DINOv2
    "Siglip": SQUASHED | {"resample": 3},
    "ViT": SQUASHED,
    "DINOv3ViT": SQUASHED | {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD},
    "DeiT": {
        "size": {"height": 256, "width": 256},
        "crop_size": 224,
        "do_center_crop": True,
        "resample": 3,
        "image_mean": HALF,
        "image_std": HALF,
    },
    "ConvNext": {
        "size": {"shortest_edge": 384},
        "crop_pct": 224 / 256,
        "resample": 3,
        "image_mean": HALF,
        "image_std": HALF,
    },
    "Siglip2": {"resample": 2, "image_mean": HALF, "image_std": HALF},
}
# Of configurations from before processors were named: the model's type tells.
BY_MODEL = {
    "clip": "CLIP",
    "altclip": "CLIP",
    "metaclip_2": "CLIP",
    "chinese_clip": "ChineseCLIP",
    "siglip": "Siglip",
    "siglip2": "Siglip2",
    "dinov2": "Bit",
    "dinov3_vit": "DINOv3ViT",
    "vit": "ViT",
    "deit": "DeiT",
    "convnext": "ConvNext",
    "convnextv2": "ConvNext",
}
ENDINGS = ("Fast", "Pil", "ImageProcessor", "FeatureExtractor")


def read_preprocess(folder: Path, model_type: str, patch_size: int | None = None) -> Preprocess:
    """Return the preprocessing that the files of a checkpoint ask for.

    Args:
        folder: of the checkpoint.
        model_type: of its ``config.json``; tells the processor where the files do not.
        patch_size: of the image tower, for variable-resolution models.

    Raises:
        InputError: no such file, or one that asks for something else than a square picture.
    """
    given, path = _given(folder)
    stem = _stem(given, model_type)
    if stem not in SILENT:
        raise InputError(
            f"{path} names the image processor {stem!r}, which handful does not know: it knows"
            f" {', '.join(SILENT)}; use a model with one of these."
        )
    settings = SILENT[stem] | {key: value for key, value in given.items() if value is not None}
    if not settings.get("do_resize", True):
        raise InputError(
            f"{path} says do_resize: false, so pictures of every size would reach the model:"
            " handful needs one size; set do_resize and size there."
        )
    if stem == "Siglip2":
        shape = _variable(settings, patch_size)
    elif stem == "ConvNext":
        shape = _by_part(settings, path)
    else:
        shape = _shape(settings, path)
    size, resize, style = shape
    mean, std = _normalisation(settings, path)
    return Preprocess(
        size, style, mean, std, None if resize == size else resize, _filter(settings, path)
    )


def _given(folder: Path) -> tuple[dict[str, Any], Path]:
    path = folder / "preprocessor_config.json"
    if path.is_file():
        return read_json(path), path
    # transformers 5 keeps the processors of images and texts in one file.
    both = folder / "processor_config.json"
    if both.is_file():
        inside = read_json(both).get("image_processor")
        if isinstance(inside, dict):
            return inside, both
    raise InputError(
        f"{folder} has no preprocessor_config.json, so nobody knows how its model wants pictures:"
        " put the file of the model that it comes from there."
    )


def _stem(given: dict[str, Any], model_type: str) -> str:
    name = given.get("image_processor_type") or given.get("feature_extractor_type")
    if not isinstance(name, str):
        return BY_MODEL.get(model_type, model_type)
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name


def _shape(settings: dict[str, Any], path: Path) -> tuple[int, int, str]:
    """Return the side of the input, the side before the crop, and the style."""
    size = settings["size"]
    crops = bool(settings.get("do_center_crop", False))
    if isinstance(size, int):
        # The old form: the short side where a crop follows, else both sides.
        size = {"shortest_edge": size} if crops else {"height": size, "width": size}
    short = size.get("shortest_edge") if isinstance(size, dict) else None
    if short is not None and crops:
        return _square(settings.get("crop_size"), "crop_size", path), int(short), "clip"
    if short is not None:
        raise InputError(
            f"{path} resizes the short side to {short} and does not crop: handful needs square"
            " pictures; set do_center_crop and crop_size there."
        )
    side = _square(size, "size", path)
    if crops:
        return _square(settings.get("crop_size"), "crop_size", path), side, "coop"
    return side, side, "coop"


def _by_part(settings: dict[str, Any], path: Path) -> tuple[int, int, str]:
    """ConvNeXt: below 384 pixels a part ``crop_pct`` of the picture, above it all of it."""
    size = settings["size"]
    side = size.get("shortest_edge") if isinstance(size, dict) else size
    side = _square(size, "size", path) if side is None else int(side)
    if side >= 384:
        return side, side, "coop"
    return side, int(side / settings["crop_pct"]), "clip"


def _variable(settings: dict[str, Any], patch_size: int | None) -> tuple[int, int, str]:
    """SigLIP 2 NaFlex keeps the aspect ratio; ours shows it the square of as many patches."""
    patches = int(settings.get("max_num_patches") or 256)
    side = int(patches**0.5) * int(settings.get("patch_size") or patch_size or 16)
    return side, side, "coop"


def _square(value: Any, what: str, path: Path) -> int:
    if isinstance(value, dict):
        height, width = value.get("height"), value.get("width")
        value = height if height == width else None
    elif isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(
            f"the {what} in {path} is not the side of a square: handful knows square input only."
        )
    return value


Triple = tuple[float, float, float]


def _normalisation(settings: dict[str, Any], path: Path) -> tuple[Triple, Triple]:
    """Return mean and std on the scale 0 to 1, with any other scale of the pixels drawn in."""
    mean, std = ([0.0] * 3, [1.0] * 3)
    if settings.get("do_normalize", True):
        mean, std = settings["image_mean"], settings["image_std"]
    scale = (
        float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1
    )
    try:
        m, s = ([float(v) / (255 * scale) for v in values] for values in (mean, std))
    except (TypeError, ValueError, ZeroDivisionError):
        m, s = [], []
    if len(m) != 3 or len(s) != 3 or min(s) <= 0:
        raise InputError(
            f"image_mean {mean} and image_std {std} in {path} are not three numbers for red, green"
            " and blue: handful knows models for colour pictures only."
        )
    return (m[0], m[1], m[2]), (s[0], s[1], s[2])


def _filter(settings: dict[str, Any], path: Path) -> str:
    value = settings.get("resample")
    for name, resample in FILTERS.items():
        if isinstance(value, int) and Image.Resampling(resample) == value:
            return name
    raise InputError(
        f"the resample {value!r} in {path} is none of Pillow's filters, the numbers 0 to 5."
    )
