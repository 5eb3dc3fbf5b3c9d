"""A training whose towers can be looked at afterwards, and other short ways of the tuning tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from toy_tuning import PROMPTS

from handful.encoders.protocol import Encoder
from handful.functional.normalise import unit
from handful.tuning.images import TrainingImages
from handful.tuning.towers import open_towers
from handful.tuning.trained import Trained
from handful.tuning.training import train
from handful.tuning.tuned_encoder import TunedEncoder
from handful.tuning.tuning import Tuned, Tuning

TOWERS = ("image", "text", "both")
TEXTS = ["red", "a photo of a blue."]


def watched(
    tuning: Tuning, encoder: Encoder, images: TrainingImages, **given: Any
) -> tuple[Trained, Tuned]:
    """Train, and return what that gave, and what was opened for it, as training left it."""
    opened: list[Tuned] = []
    real = tuning.open

    def kept(*args: Any) -> Tuned:
        opened.append(real(*args))
        return opened[-1]

    tuning.open = kept  # type: ignore[method-assign]
    done = train(tuning, encoder, images, PROMPTS, **given)
    tuning.open = real  # type: ignore[method-assign]
    return done, opened[0]


def states_of_base(encoder: Encoder) -> dict[str, Tensor]:
    """Return every number of an encoder's towers, by name."""
    return {name: p.clone() for name, p in open_towers(encoder).state_dict().items()}


def pixels(encoder: Encoder, count: int = 4) -> np.ndarray:
    """Return pictures of noise."""
    side = encoder.preprocess.size
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def far(one: Encoder, other: Encoder, tower: str) -> float:
    """Return how far features of images or of texts are from each other, at most."""
    if tower == "image":
        found = one.encode_images(pixels(one)) - other.encode_images(pixels(other))
    else:
        found = one.encode_texts(TEXTS) - other.encode_texts(TEXTS)
    return float(np.abs(found).max())


def loss(encoder: TunedEncoder, images: TrainingImages) -> float:
    """Return the cross-entropy of images."""
    from PIL import Image

    opened = [Image.open(path).convert("RGB") for path in images.paths]
    features = unit(torch.from_numpy(encoder.encode_images(opened)))
    logits = encoder.logit_scale * features @ torch.from_numpy(encoder.class_embeddings).T
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(images.labels)))
