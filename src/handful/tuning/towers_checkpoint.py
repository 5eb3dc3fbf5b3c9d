"""The towers of CLIP and SigLIP, as ``transformers`` builds them, opened up."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from handful.encoders.checkpoint.text import CheckpointTexts
from handful.encoders.two_tower import TwoTowerEncoder
from handful.tuning.towers import ImageTower, TextTower, Tokens

__all__ = ["ClipImages", "ClipText", "SiglipImages", "SiglipText", "open_checkpoint"]

# The published configurations of old say 2, which is not the end token of their tokenizers.
LEGACY_END = 2


def open_checkpoint(encoder: TwoTowerEncoder) -> tuple[ImageTower, TextTower]:
    """Return opened copies of the two towers of a CLIP or SigLIP."""
    texts: Any = copy.copy(encoder.text_tower)
    texts.model = copy.deepcopy(texts.model).float()
    if texts.model.config.model_type == "clip":
        return ClipImages(texts.model), ClipText(texts)
    return SiglipImages(texts.model), SiglipText(texts)


class _Images(ImageTower):
    """What the vision transformers of ``transformers`` have in common."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.vision_model
        self.width = self.model.config.hidden_size
        self.patch = self.model.config.patch_size

    @property
    def blocks(self) -> nn.ModuleList:
        layers: nn.ModuleList = self.model.encoder.layers
        return layers

    def through(self, states: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        for block in self.blocks[start:stop]:
            states = block(states, None)
        return states


class ClipImages(_Images):
    """CLIP's vision transformer: the first place stands for the picture."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.projection = model.visual_projection

    def enter(self, pixels: Tensor) -> Tensor:
        states: Tensor = self.model.pre_layrnorm(_embedded(self.model.embeddings, pixels))
        return states

    def leave(self, states: Tensor) -> Tensor:
        features: Tensor = self.projection(self.model.post_layernorm(states[:, 0]))
        return features


class SiglipImages(_Images):
    """SigLIP's vision transformer: a last layer of attention pools the patches."""

    def enter(self, pixels: Tensor) -> Tensor:
        return _embedded(self.model.embeddings, pixels)

    def leave(self, states: Tensor) -> Tensor:
        features: Tensor = self.model.head(self.model.post_layernorm(states))
        return features


def _embedded(embeddings: Any, pixels: Tensor) -> Tensor:
    # The positions of smaller pictures are interpolated; those of the usual size are left alone.
    other = pixels.shape[-1] != embeddings.image_size
    # As the encoder does: TensorFloat-32 of recent GPUs would show in the features.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        states: Tensor = embeddings(pixels, interpolate_pos_encoding=other)
    return states


class _CheckpointText(TextTower):
    """What both text towers share."""

    def __init__(self, texts: CheckpointTexts) -> None:
        super().__init__()
        self.model = texts.model.text_model
        self._texts = texts
        self.width = self.model.config.hidden_size
        self.context = texts.context

    @property
    def blocks(self) -> nn.ModuleList:
        layers: nn.ModuleList = self.model.encoder.layers
        return layers

    def token_ids(self, text: str) -> list[int]:
        return self._texts.token_ids(text)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        ids = self._texts.inputs(texts)["input_ids"]
        ends = self._ends(ids)
        return Tokens(ids[:, : int(ends.max()) + 1] if len(texts) else ids, ends)

    def embed(self, ids: Tensor) -> Tensor:
        embeddings: Tensor = self.model.embeddings.token_embedding(ids)
        return embeddings

    def enter(self, embeddings: Tensor, start: int = 0) -> Tensor:
        places = self.model.embeddings.position_embedding.weight
        states: Tensor = embeddings + places[start : start + embeddings.shape[-2]]
        return states

    def through(
        self, states: Tensor, start: int = 0, stop: int | None = None, mask: Tensor | None = None
    ) -> Tensor:
        seen = None if mask is None else mask[:, None, None]
        if self.causal:
            size = states.shape[1]
            before = torch.ones(size, size, dtype=torch.bool, device=states.device).tril()
            seen = before if seen is None else seen & before
        # Numbers to add, not truth values: all implementations of attention know those.
        added = None
        if seen is not None:
            lowest = torch.finfo(states.dtype).min
            added = torch.zeros(seen.shape, device=states.device).masked_fill(~seen, lowest)
            added = added.expand(states.shape[0], 1, *added.shape[-2:])
        for block in self.blocks[start:stop]:
            states = block(states, added)
        return states

    def leave(self, states: Tensor, ends: Tensor) -> Tensor:
        rows = torch.arange(len(states), device=states.device)
        return self._project(self.model.final_layer_norm(states[rows, ends]))

    def _ends(self, ids: Tensor) -> Tensor:
        raise NotImplementedError

    def _project(self, pooled: Tensor) -> Tensor:
        raise NotImplementedError


class ClipText(_CheckpointText):
    """CLIP's text transformer: causal, pooled at the end of the text."""

    causal = True

    def __init__(self, texts: CheckpointTexts) -> None:
        super().__init__(texts)
        self.projection = texts.model.text_projection
        self._end: int = self.model.config.eos_token_id

    def _ends(self, ids: Tensor) -> Tensor:
        if self._end == LEGACY_END:
            return ids.argmax(1)
        return (ids == self._end).int().argmax(1)

    def _project(self, pooled: Tensor) -> Tensor:
        features: Tensor = self.projection(pooled)
        return features


class SiglipText(_CheckpointText):
    """SigLIP's text transformer: every place sees all, padding too; pooled at the last place."""

    causal = False

    def __init__(self, texts: CheckpointTexts) -> None:
        super().__init__(texts)
        self.padding = texts.padding

    def _ends(self, ids: Tensor) -> Tensor:
        return torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)

    def _project(self, pooled: Tensor) -> Tensor:
        features: Tensor = self.model.head(pooled)
        return features
