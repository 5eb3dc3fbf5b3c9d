"""A tuning method with nothing to it: one vector added somewhere, with dropout on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from handful.functional.normalise import unit
from handful.methods.search import Search
from handful.tuning.tuning import Prompts, Tuned, Tuning, TuningRecipe

CLASSES = ("red", "green", "blue")
PROMPTS = Prompts(CLASSES, ("a photo of a {}.", "{}"))


class ToyTuned(Tuned):
    def __init__(self, towers: Any, prompts: Prompts, toy: Toy) -> None:
        at = None if toy.side in ("text", "features") else toy.block
        super().__init__(towers, prompts, image_from=at, trains_text=toy.side == "text")
        self.side = toy.side
        width = towers.image.width if toy.side == "image" and at != -1 else towers.dim
        rows = len(prompts.names) if toy.side == "text" else 1
        self.added = nn.Parameter(torch.zeros(rows, 1 if at == -1 else width))
        self.dropout = nn.Dropout(toy.dropout)

    def injected(self) -> tuple[nn.Module, ...]:
        return (self.dropout,)

    def image_features(self, states: Tensor) -> Tensor:
        if self.side == "text":
            return super().image_features(states)
        # The ones make dropout strike where the vector is still zero.
        struck = self.dropout(torch.ones_like(self.added)) * self.added
        return super().image_features(states + struck)

    def class_embeddings(self) -> Tensor:
        rows = super().class_embeddings()
        if self.side != "text":
            return rows
        return unit(rows + self.dropout(torch.ones_like(self.added)) * self.added)


class Toy(Tuning):
    name = "toy"
    summary = "adds one vector"
    paper = "none"
    search = Search(train={"lr": (0.0, 1e-3, 1e-1)}, sweep={"share": (0.0, 0.5, 1.0)})
    least = {"block": -1, "patience": -1}
    most = {"share": 1, "dropout": 1}
    choices = {"side": ("text", "features", "image"), "optimiser": ("adamw", "sgd")}

    def __init__(
        self,
        *,
        side: str = "text",
        block: int = 1,
        lr: float = 1e-1,
        epochs: int = 3,
        patience: int = -1,
        share: float = 1.0,
        dropout: float = 0.0,
        views: int = 2,
        optimiser: str = "adamw",
    ) -> None:
        self.side = side
        self.block = block
        self.lr = lr
        self.epochs = epochs
        self.patience = patience
        self.share = share
        self.dropout = dropout
        self.views = views
        self.optimiser = optimiser

    def recipe(self, shots: float, classes: int) -> TuningRecipe:
        return TuningRecipe(
            self.epochs,
            lr=self.lr,
            batch=4,
            views=self.views,
            patience=None if self.patience < 0 else self.patience,
            optimiser=self.optimiser,  # type: ignore[arg-type]
        )

    def open(self, towers: Any, prompts: Prompts, seed: int) -> Tuned:
        return ToyTuned(towers, prompts, self)

    def kept(self, start: Mapping[str, Tensor], end: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: torch.lerp(start[name], end[name], self.share) for name in end}


def coloured(folder: Any, each: int, seed: int = 0) -> tuple[list[Any], list[int]]:
    """Write ``each`` noisy pictures of each of the three colours; return paths and classes."""
    random = np.random.default_rng(seed)
    paths, labels = [], []
    for label in range(3):
        for number in range(each):
            pixels = random.integers(0, 120, (40, 48, 3))
            pixels[..., label] += 130
            path = folder / f"{CLASSES[label]}-{seed}-{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            paths.append(path)
            labels.append(label)
    return paths, labels
