"""An encoder that gives the known answers of a public checkpoint, without its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from handful.encoders.known_answers import KnownAnswers, demand
from handful.encoders.preprocess import Preprocess
from handful.encoders.two_tower import TwoTowerEncoder

CAT = "a photo of a cat"
WIDTH = 40  # of the pooled states


def numbers(text: str, count: int) -> torch.Tensor:
    """Numbers that a text stands for: equal texts, equal numbers."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


class Texts:
    """A text tower that gives the known answers, as a real one would: not quite, not unit."""

    def __init__(self, known: KnownAnswers, dim: int) -> None:
        self.known, self.dim = known, dim

    def token_ids(self, text: str) -> list[int]:
        ids = self.known.tokens.get(text)
        return list(ids) if ids else [49406, *text.encode(), 49407]

    def pooled(self, texts: Sequence[str]) -> torch.Tensor:
        states = torch.stack([numbers(text, WIDTH) for text in texts])
        if self.known.pooled_text and CAT in texts:
            states[texts.index(CAT), 1:4] = torch.tensor(self.known.pooled_text) + 5e-4
        return states

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        rows = []
        for text in texts:
            row = 9 * numbers(text, self.dim)
            if self.known.text_features is not None and text in self.known.prompts:
                right = self.known.text_features[self.known.prompts.index(text)]
                row = 7 * torch.tensor(right) + 2e-4 * row
            rows.append(row)
        return torch.stack(rows)


class Images:
    """A random linear map of a small copy, but for the two inputs with a published answer."""

    projection = None

    def __init__(self, known: KnownAnswers, dim: int) -> None:
        self.known, self.dim = known, dim
        self.weights = torch.randn(3 * 7 * 7, dim, generator=torch.Generator().manual_seed(1))

    def pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        states = torch.zeros(len(pixels), WIDTH)
        if self.known.pooled_image and bool((pixels == 0.5).all()):
            states[:, 1:4] = torch.tensor(self.known.pooled_image) - 5e-4
        return states

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.adaptive_avg_pool2d(pixels.float(), 7).flatten(1)
        features = small @ self.weights
        torch.manual_seed(0)  # what others did before they made their noise
        if pixels.shape == (1, 3, 224, 224) and torch.equal(pixels, torch.randn(1, 3, 224, 224)):
            aim = self.known.noise_mean  # the mean at unit length
            centred = torch.nn.functional.normalize(features - features.mean())
            features = 5 * (centred * (1 - self.dim * aim**2) ** 0.5 + aim)
        return features


def encoder(name: str, spec: str | None = None, **changes: Any) -> TwoTowerEncoder:
    """The encoder ``name`` as if it were loaded; ``changes`` replace its parts."""
    known = demand(name)
    dim = 512 if known.text_features is None else known.text_features.shape[1]
    parts: dict[str, Any] = {
        "spec": spec or (name if ":" in name else f"hf:{name}@{'0a' * 20}"),
        "fingerprint": "f" * 64,
        "preprocess": Preprocess(),
        "dim": dim,
        "image_tower": Images(known, dim),
        "text_tower": Texts(known, dim),
        "logit_scale": 99.99998,
        "device": torch.device("cpu"),
    }
    return TwoTowerEncoder(**parts | changes)
