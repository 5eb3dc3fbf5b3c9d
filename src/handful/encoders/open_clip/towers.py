"""The two towers of a model of open_clip, with and without their last linear map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from handful.errors import InputError

__all__ = ["ImageTower", "TextTower", "Tokenizer"]

# Where a model keeps the last linear map of a tower: (H, D) as a parameter, (D, H) as the weight
# of a layer.
IMAGE_MAPS = ("visual.proj", "visual.head.proj.weight")
TEXT_MAPS = (
    "text_projection",
    "text_projection.weight",
    "text.text_projection",
    "text.text_projection.weight",
    "text.proj.weight",
)


class Tower(torch.nn.Module):
    """One side of a model.

    Args:
        model: the model.
        encode: name of its method that encodes.
        maps: names that the last linear map may have; none of them is there where the tower has
            no such map.
    """

    def __init__(self, model: Any, encode: str, maps: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self._encode = encode
        names = dict(model.named_parameters())
        self.map = next((name for name in maps if name in names), None)
        bias = (self.map or "").removesuffix("weight") + "bias"
        self.bias = bias if bias in names else None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return features ``(N, D)``."""
        features: torch.Tensor = getattr(self.model, self._encode)(inputs, normalize=False)
        return features

    def matrix(self) -> torch.Tensor | None:
        """Return the last linear map, ``(D, H)``."""
        if self.map is None:
            return None
        weights: torch.Tensor = self.model.get_parameter(self.map)
        return weights if self.map.endswith(".weight") else weights.T

    def unprojected(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what the tower gives with the identity as its last linear map, ``(N, H)``."""
        matrix = self.matrix()
        stand_ins = {}
        if matrix is not None:
            stand_ins[f"model.{self.map}"] = torch.eye(matrix.shape[1]).to(matrix)
            if self.bias:
                stand_ins[f"model.{self.bias}"] = matrix.new_zeros(matrix.shape[1])
        states: torch.Tensor = torch.func.functional_call(self, stand_ins, (inputs,))
        return states


class ImageTower:
    """Turns normalised pixels into features."""

    def __init__(self, model: Any) -> None:
        self._tower = Tower(model, "encode_image", IMAGE_MAPS)
        self.projection = self._tower.matrix()

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._tower.forward(pixels)

    def pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._tower.unprojected(pixels)


class Tokenizer:
    """A tokenizer of open_clip.

    Args:
        tokenizer: texts to ids ``(M, L)``, each text padded to the model's full context length.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Return ids ``(M, L)``, padded."""
        tokens: torch.Tensor = self._tokenizer(list(texts))
        return tokens

    def ids(self, text: str) -> list[int]:
        """Return the ids of one text, start and end tokens included, padding left out."""
        ids: list[int] = self([text])[0].tolist()
        # The tokenizers of transformers tell; open_clip's own pads with 0, which is no end token.
        inner = getattr(self._tokenizer, "tokenizer", None)
        padding, end = getattr(inner, "pad_token_id", 0), getattr(inner, "eos_token_id", None)
        length = len(ids)
        while length and ids[length - 1] == padding:
            length -= 1
        if padding == end:  # SigLIP's: the first of them ends the text
            length += 1
        return ids[:length]


class TextTower:
    """Turns texts into features. Every text is padded to the model's full context length.

    Args:
        model: the model.
        tokenizer: from open_clip, texts to ids ``(M, L)``.
        name: of the model, for messages.

    Attributes:
        model: the model, both of its towers.
        tokenizer: its tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model = model
        self.tokenizer = Tokenizer(tokenizer)
        self._tower = Tower(model, "encode_text", TEXT_MAPS)
        self._name = name

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        return self._tower.forward(self._tokens(texts))

    def pooled(self, texts: Sequence[str]) -> torch.Tensor:
        names = (name for name, _ in self.model.named_parameters())
        if not self._tower.map and any(name.startswith("text.proj.") for name in names):
            raise InputError(
                f"the text tower of open_clip:{self._name} ends in a network and not in one linear"
                " map, so there are no states before its projection: use another model."
            )
        return self._tower.unprojected(self._tokens(texts))

    def token_ids(self, text: str) -> list[int]:
        return self.tokenizer.ids(text)

    def _tokens(self, texts: Sequence[str]) -> torch.Tensor:
        return self.tokenizer(texts).to(self.model.logit_scale.device)
