"""What differs between families of two-tower models, and what vision-only models give.

One row per family; the equations are in ``transformers``. A family is added here, with a tiny
model of it in ``tests/encoders/test_families.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from handful.errors import InputError

__all__ = ["FAMILIES", "Family", "PooledImages", "ProjectedImages", "facts_of", "image_tower"]


@dataclass(frozen=True)
class Family:
    """How a family reads texts.

    Attributes:
        context: tokens that a text may have; None is ``max_position_embeddings`` of its tower.
        cut: whether a batch is padded to its longest text only. A causal tower that pools at the
            end token cannot see what follows it, so that nothing changes; all others are given the
            full length that they were trained with.
        masked: whether the tower is told which tokens are padding.
        clean: how texts are tidied before the tokenizer: ``clip`` as in OpenAI's code, ``lower``
            to lower case, or nothing.
        templates: prompts that suit it.
    """

    context: int | None = None
    cut: bool = False
    masked: bool = False
    clean: str = ""
    templates: tuple[str, ...] = ("a photo of a {}.",)


# SigLIP was trained on padded texts without a mask, and its pooling reads the last place.
SIGLIP = Family(clean="lower", templates=("This is a photo of {}.",))

FAMILIES = {
    "clip": Family(cut=True, clean="clip"),
    "metaclip_2": Family(cut=True),
    "siglip": SIGLIP,
    "siglip2": SIGLIP,
    "altclip": Family(context=77, masked=True),
    "chinese_clip": Family(context=52, masked=True, templates=("一张{}的照片。",)),
}


class ProjectedImages:
    """Image tower of a two-tower model: pooled states, then a linear projection where it has one.

    Args:
        model: a two-tower model of ``transformers``.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        projection = getattr(model, "visual_projection", None)
        self.projection: torch.Tensor | None = None if projection is None else projection.weight
        patch = model.config.vision_config.patch_size
        self._inputs = _patches(patch) if model.config.model_type == "siglip2" else _pixels

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return embedding(self._model.get_image_features(**self._inputs(pixels)))

    def pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.projection is None:
            return self(pixels)
        states: torch.Tensor = self._model.vision_model(pixel_values=pixels).pooler_output
        return states


class PooledImages:
    """Image tower of a vision-only model: its pooled output.

    Args:
        model: a model of ``transformers`` that takes ``pixel_values``.
    """

    projection: torch.Tensor | None = None

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        output = self._model(pixel_values=pixels)
        pooled = getattr(output, "pooler_output", None)
        if pooled is None and getattr(output, "last_hidden_state", None) is not None:
            # Without a pooling layer the class token stands for the picture.
            states = output.last_hidden_state
            pooled = states[:, 0] if states.ndim == 3 else states.mean((2, 3))
        if pooled is None:
            raise InputError(
                f"the model type {self._model.config.model_type!r} gives no pooled output, one"
                " vector for a picture: use another image model."
            )
        return torch.flatten(pooled, 1)

    def pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        return self(pixels)


def image_tower(model: Any) -> ProjectedImages | PooledImages:
    """Return the image tower of a loaded model."""
    return (ProjectedImages if model.config.model_type in FAMILIES else PooledImages)(model)


def embedding(output: Any) -> torch.Tensor:
    """Return the features in what ``get_image_features`` gives: an object since transformers 5."""
    features: torch.Tensor = getattr(output, "pooler_output", output)
    return features


def _pixels(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"pixel_values": pixels}


def _patches(side: int) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    """SigLIP 2 NaFlex takes a sequence of patches and the shape of their grid."""

    def inputs(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        count, channels, height, width = pixels.shape
        rows, columns = height // side, width // side
        patches = pixels.reshape(count, channels, rows, side, columns, side)
        patches = patches.permute(0, 2, 4, 3, 5, 1).reshape(count, rows * columns, -1)
        return {
            "pixel_values": patches,
            "pixel_attention_mask": torch.ones(patches.shape[:2], device=pixels.device),
            "spatial_shapes": torch.tensor([[rows, columns]] * count, device=pixels.device),
        }

    return inputs


# What changes features and is not in the tensors. A list, not the whole configuration: each
# version of transformers writes other defaults into a copy.
FACTS = (
    "model_type",
    "hidden_act",
    "layer_norm_eps",
    "num_attention_heads",
    "image_size",
    "patch_size",
    "eos_token_id",
    "pad_token_id",
    "vision_use_head",
    "depths",
    "rope_theta",
)


def facts_of(config: Any) -> dict[str, Any]:
    """Return what the weights do not tell of a model, for its fingerprint."""
    parts = {"": config, "text": None, "vision": None}
    parts["text"] = getattr(config, "text_config", None)
    parts["vision"] = getattr(config, "vision_config", None)
    return {
        f"{part}.{name}": getattr(settings, name)
        for part, settings in parts.items()
        if settings is not None
        for name in FACTS
        if isinstance(getattr(settings, name, None), int | float | str | list)
    }
