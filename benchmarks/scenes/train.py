"""Train a small CLIP on drawn scenes, from random weights.

    python benchmarks/scenes/train.py --out benchmarks/scenes/model

The symmetric contrastive loss of CLIP, in which a caption that happens to be true of another
picture of the batch is no negative for it. Writes what ``dir:`` reads.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from captions import VALUES, Codes, caption, codes, describes
from draw import SIDE, draw
from tiny_clip import make_model, save
from tokens import make_tokenizer
from vocabulary import COLOURS, TRAINED, Scene, random_scene

from handful.encoders.preprocess import Preprocess

SHIFT = 3  # pixels by which a batch is moved at most
LARGEST_SCALE = 100.0  # as CLIP's


@dataclass(frozen=True)
class Recipe:
    """What a run of training depends on, besides the number of threads."""

    steps: int = 5000
    batch: int = 64
    pictures: int = 60_000
    rate: float = 1.5e-3
    decay: float = 0.1
    warm_up: int = 200
    seed: int = 0
    minutes: float = math.inf


def draw_pool(recipe: Recipe) -> tuple[list[Scene], npt.NDArray[np.uint8]]:
    """Draw the pictures of training; picture i is determined by the seed and i."""
    scenes, pictures = [], np.empty((recipe.pictures, SIDE, SIDE, 3), np.uint8)
    for index in range(recipe.pictures):
        rng = np.random.default_rng((recipe.seed, index))
        scene = random_scene(TRAINED[rng.integers(len(TRAINED))], rng)
        scenes.append(scene)
        pictures[index] = draw(scene, rng)
    return scenes, pictures


def contrastive_loss(
    cosines: torch.Tensor, scale: torch.Tensor, true: torch.Tensor
) -> torch.Tensor:
    """Return the mean of the losses of both directions.

    Args:
        cosines: ``(N, N)``, captions by pictures; pairs are on the diagonal.
        scale: inverse temperature.
        true: ``(N, N)``: whether the caption is true of the picture. Off the diagonal such a pair
            is left out, neither positive nor negative.
    """
    pair = torch.eye(len(cosines), dtype=torch.bool)
    logits = (scale * cosines).masked_fill(true & ~pair, -math.inf)
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@dataclass
class Pool:
    """Scenes and their pictures, and batches of them in random order."""

    scenes: list[Scene]
    pictures: npt.NDArray[np.uint8]
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.attributes: Codes = np.stack([codes(scene) for scene in self.scenes])
        self.order = np.empty(0, np.int64)

    def chosen(self, size: int) -> npt.NDArray[np.int64]:
        """Return the numbers of the next pictures.

        Every other batch has one colour, or two where one runs out. Colours are learnt in no time,
        and a batch of all of them would hardly ask for shapes and textures.
        """
        if len(self.order) < size:
            shuffled = self.rng.permutation(len(self.scenes))
            colour = self.attributes[shuffled, VALUES.index(COLOURS)]
            alike = shuffled[np.argsort(colour, kind="stable")].copy()
            alike = self.rng.permutation(alike[: len(alike) // size * size].reshape(-1, size))
            mixed = shuffled[: len(alike) * size].reshape(-1, size)
            self.order = np.stack([mixed, alike], 1).ravel()
        chosen, self.order = self.order[:size], self.order[size:]
        return chosen

    def batch(self, size: int) -> tuple[npt.NDArray[np.uint8], list[str], npt.NDArray[np.bool_]]:
        """Return pictures, a caption for each, and which caption is true of which picture."""
        chosen = self.chosen(size)
        said = [caption(self.scenes[i], self.rng) for i in chosen]
        true = describes(np.stack([named for _, named in said]), self.attributes[chosen])
        return moved(self.pictures[chosen], self.rng), [text for text, _ in said], true


def moved(pictures: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Shift a batch by a few pixels; the rim is repeated."""
    padded = np.pad(pictures, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
    down, right = rng.integers(2 * SHIFT + 1, size=2)
    return padded[:, down : down + SIDE, right : right + SIDE]


def train(model: Any, tokenizer: Any, recipe: Recipe) -> list[float]:
    """Train the model in place and return the loss of every step."""
    begun = time.monotonic()
    drawn = Pool(*draw_pool(recipe), np.random.default_rng((recipe.seed, 0, 0)))
    print(f"{recipe.pictures} pictures drawn in {time.monotonic() - begun:.0f} s", flush=True)
    preprocess = Preprocess(SIDE)
    optimiser = make_optimiser(model, recipe)
    losses: list[float] = []
    for step in range(recipe.steps):
        minutes = (time.monotonic() - begun) / 60
        if minutes > recipe.minutes:
            print(f"{recipe.minutes:g} minutes are over after {step} of {recipe.steps} steps")
            break
        pictures, captions, true = drawn.batch(recipe.batch)
        tokens = tokenizer(captions, padding=True, return_tensors="pt")
        pixels = preprocess.normalise(pictures).contiguous()
        images = model.get_image_features(pixel_values=pixels).pooler_output
        texts = model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
        cosines = F.normalize(texts, dim=1) @ F.normalize(images, dim=1).T
        loss = contrastive_loss(cosines, model.logit_scale.exp(), torch.from_numpy(true))
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * schedule(step, recipe)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(LARGEST_SCALE))
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            recent = np.mean(losses[-100:])
            print(f"step {step + 1}: loss {recent:.3f}, {minutes:.1f} minutes", flush=True)
    return losses


def make_optimiser(model: Any, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW; matrices decay, biases, gains and the scale do not."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))


def schedule(step: int, recipe: Recipe) -> float:
    """Return the factor of the learning rate: linear warm-up, then a cosine to zero."""
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    done = (step - recipe.warm_up) / max(recipe.steps - recipe.warm_up, 1)
    return 0.5 * (1 + math.cos(math.pi * done))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small CLIP on drawn scenes.")
    parser.add_argument("--out", type=Path, required=True)
    for name, what in (
        ("steps", "of the optimiser"),
        ("batch", "pictures in a step"),
        ("pictures", "drawn before training starts"),
        ("rate", "learning rate"),
        ("seed", "of weights, pictures and captions"),
        ("minutes", "after which training stops, wherever it is"),
    ):
        default = getattr(Recipe, name)
        parser.add_argument(
            f"--{name}", type=type(default), default=default, help=f"{what} ({default})"
        )
    given = vars(parser.parse_args())
    out = given.pop("out")
    torch.set_flush_denormal(True)  # small numbers in gradients cost much time and mean nothing
    torch.manual_seed(given["seed"])
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    begun, processor = time.monotonic(), time.process_time()
    train(model, tokenizer, Recipe(**given))
    print(
        f"{(time.monotonic() - begun) / 60:.1f} minutes,"
        f" {(time.process_time() - processor) / 60:.1f} of processor time"
    )
    save(model, tokenizer, out)


if __name__ == "__main__":
    main()
