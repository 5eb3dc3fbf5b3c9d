"""CLIP-LoRA (Zanella and Ben Ayed, "Low-Rank Few-Shot Adaptation of Vision-Language Models", CVPR
workshops 2024, arXiv 2405.18541).

Updates of rank 2 of the attention matrices q, k and v in all blocks of both towers. One recipe for
all data sets, as published: AdamW 2e-4, weight decay 0.01, cosine to 1e-6 over 500 steps per shot,
batches of 32, random crops of 8 to 100 % and flips, dropout 0.25 on what A reads, the last step.

Where we differ from the published code, and why:

- The prompts are those of the data set or the encoder; the code has "a photo of a {}." for all.
- float32 instead of mixed precision.
- ``views`` different random crops of each image are shown in turn, so that what comes before the
  first block is computed once for each; the published code draws new ones all the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from handful.tuning.lora import add_lora, save_peft
from handful.tuning.sides import TOWERS, sides
from handful.tuning.towers import Towers
from handful.tuning.tuning import Prompts, Tuned, Tuning, TuningRecipe

__all__ = ["ClipLora", "LowRank"]


class ClipLora(Tuning):
    """M ← M + (α/√r)·B·A of q, k, v.

    Args:
        tower: that gets updates: ``image``, ``text`` or ``both``.
        rank: r.
        alpha: α.
        dropout: on what A reads.
        output: the output projection of attention too.
        steps: for each image per class.
        lr: highest learning rate.
        views: random crops of each image that are shown in turn.
    """

    name = "clip-lora"
    summary = "low-rank updates of attention in both towers"
    paper = "Zanella and Ben Ayed 2024, arXiv 2405.18541"
    choices = {"tower": TOWERS}
    least = {"rank": 1, "views": 1}
    most = {"dropout": 0.9}

    def __init__(
        self,
        *,
        tower: str = "both",
        rank: int = 2,
        alpha: float = 1.0,
        dropout: float = 0.25,
        output: bool = False,
        steps: int = 500,
        lr: float = 2e-4,
        views: int = 10,
    ) -> None:
        self.tower = tower
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.output = output
        self.steps = steps
        self.lr = lr
        self.views = views

    def recipe(self, shots: float, classes: int) -> TuningRecipe:
        """Return the published recipe for so many images per class."""
        return TuningRecipe(
            epochs=1,
            steps=round(self.steps * shots),
            lr=self.lr,
            lowest=min(1e-6, self.lr),
            views=self.views,
        )

    def open(self, towers: Towers, prompts: Prompts, seed: int) -> Tuned:
        """Put low-rank updates into the towers.

        Raises:
            InputError: the package ``peft`` is not installed, or a tower is missing.
        """
        trained = sides(towers, self.tower)
        model = add_lora(
            trained,
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            output=self.output,
            seed=seed,
        )
        # The name as transformers wants it: hf: and dir: are our words, and it knows no others.
        kind, _, name = towers.spec.partition(":")
        known = name.partition("?")[0] if kind in ("hf", "dir") else towers.spec
        model.peft_config["default"].base_model_name_or_path = known
        return LowRank(towers, prompts, model, set(trained))


class LowRank(Tuned):
    """Towers with low-rank updates.

    Attributes:
        lora: the ``PeftModel`` of the blocks. ``lora.unmerge_adapter()`` takes the updates out of
            the matrices again, and ``lora.unload()`` then leaves the base.
    """

    def __init__(self, towers: Towers, prompts: Prompts, lora: Any, trained: set[str]) -> None:
        image_from = 0 if "image" in trained else None
        super().__init__(towers, prompts, image_from=image_from, trains_text="text" in trained)
        self.lora = lora

    def injected(self) -> Iterable[nn.Module]:
        for name, module in self.lora.named_modules():
            if name.endswith(".lora_dropout"):
                yield module

    def settle(self) -> None:
        """Add the updates to the matrices: predicting costs what it costs without them."""
        self.lora.merge_adapter()

    def trained(self) -> dict[str, nn.Parameter]:
        """Return A and B of each matrix, by the names that PEFT's files have."""
        return {
            name.replace(".default.", "."): parameter
            for name, parameter in self.lora.named_parameters()
            if parameter.requires_grad
        }

    def save_peft(self, folder: Path) -> None:
        """Write what was trained in PEFT's format: see :func:`~handful.tuning.lora.save_peft`."""
        save_peft(self.lora, folder)
