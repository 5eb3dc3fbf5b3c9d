"""The text tower of ``lite`` opened up: a sentence encoder, and the map to the image features."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from handful.encoders.lite import LiteEncoder
from handful.encoders.lite.join import apply_map
from handful.encoders.lite.text_tower import MAX_TOKENS
from handful.functional.normalise import unit
from handful.tuning.towers import TextTower, Tokens

__all__ = ["LiteText"]


class LiteText(TextTower):
    """all-MiniLM-L6-v2: every place sees all, and the mean over the text stands for it.

    Args:
        encoder: whose text tower is copied.
    """

    causal = False
    context = MAX_TOKENS
    frame = "{}"  # the map was fitted on bare names

    def __init__(self, encoder: LiteEncoder) -> None:
        super().__init__()
        self.model = copy.deepcopy(encoder.text_tower.model)
        self._tokenizer = encoder.text_tower.tokenizer
        self.width = self.model.config.hidden_size
        for name, tensor in encoder.join.items():
            self.register_buffer(name, tensor.clone())

    @property
    def blocks(self) -> nn.ModuleList:
        layers: nn.ModuleList = self.model.encoder.layer
        return layers

    def token_ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, truncation=True)["input_ids"]
        return ids

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        return Tokens(tokens["input_ids"], tokens["attention_mask"].sum(1) - 1)

    def embed(self, ids: Tensor) -> Tensor:
        embeddings: Tensor = self.model.embeddings.word_embeddings(ids)
        return embeddings

    def enter(self, embeddings: Tensor, start: int = 0) -> Tensor:
        places = torch.arange(start, start + embeddings.shape[1], device=embeddings.device)
        states: Tensor = self.model.embeddings(inputs_embeds=embeddings, position_ids=places[None])
        return states

    def through(
        self, states: Tensor, start: int = 0, stop: int | None = None, mask: Tensor | None = None
    ) -> Tensor:
        added = None
        if mask is not None:
            lowest = torch.finfo(states.dtype).min
            added = torch.zeros(mask.shape).masked_fill(~mask, lowest)[:, None, None]
        for block in self.blocks[start:stop]:
            states = block(states, added)
        return states

    def leave(self, states: Tensor, ends: Tensor) -> Tensor:
        read = _up_to(ends, states.shape[1])[..., None]
        mean = (states * read).sum(1) / read.sum(1)
        return apply_map(unit(mean), dict(self.named_buffers(recurse=False))).float()

    def mask(self, tokens: Tokens) -> Tensor:
        return _up_to(tokens.ends, tokens.ids.shape[1])


def _up_to(ends: Tensor, length: int) -> Tensor:
    return torch.arange(length, device=ends.device) <= ends[:, None]
