"""A data set of which it is known what every set-up gives, and the encoder that sees it so.

Pictures are five squares wide. A class is a shade of red in the middle square; at both sides is the
shade of the margins. The centre crop shows the middle, both sides squeezed the margins: the encoder
looks at the left edge of what it is given.

- One test image in ten has the middle and margins of another class: 90 % is the most.
- Three in ten others have another class in the margins alone: 60 % where both sides are squeezed.
- The encoder reads names as the papers write them in EuroSAT's template. In "a photo of a {}." it
  takes the first two classes for each other: 8 · 9 + 1 = 73 % are right, the one where one of the
  first class shows the second. In all other templates, and by the folder names that the papers
  change, it takes a class for the next one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handful.benchmark.verify.published import Number
from handful.datasets import catalogue as catalogue_module
from handful.datasets.catalogue import Entry, catalogue
from handful.encoders import spec as specs
from handful.encoders.options import Options
from handful.encoders.preprocess import Preprocess
from handful.encoders.two_tower import TwoTowerEncoder

SPEC = "squares:of-colour"
RIGHT, SWAPPED, SQUEEZED = 0.90, 0.73, 0.60
SIDE, STEP = 8, 20
COUNTS = {"train": 170, "val": 40, "test": 200}
FOLDERS = (
    *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial"),
    *("Pasture", "PermanentCrop", "Residential", "River", "SeaLake"),
)
NAMES = tuple(catalogue()["eurosat"].rename.get(folder, folder) for folder in FOLDERS)
WIDTH = len(FOLDERS) + 3
TEMPLATE, OTHER = "a centered satellite photo of {}.", "a photo of a {}."


def write(root: Path) -> Path:
    """Write the data set under ``root``, in EuroSAT's layout."""
    home = root / "eurosat"
    lists: dict[str, list[list[object]]] = {}
    for split, (word, count) in enumerate(COUNTS.items()):
        for label, folder in enumerate(FOLDERS):
            for number in range(count // len(FOLDERS)):
                middle = margins = label
                if word == "test" and number % 10 == 0:
                    middle = margins = (label + 1) % len(FOLDERS)
                elif word == "test" and number % 10 in (1, 2, 3):
                    margins = (label + 1) % len(FOLDERS)
                path = home / "2750" / folder / f"{word}{number:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(middle, margins, (split, label, number)).save(path)
                row = [path.relative_to(home / "2750").as_posix(), label, folder]
                lists.setdefault(word, []).append(row)
    (home / "split_zhou_EuroSAT.json").write_text(json.dumps(lists))
    return root


def picture(middle: int, margins: int, seed: tuple[int, ...]) -> Image.Image:
    """Green and blue are noise that says nothing of the class."""
    pixels = np.empty((SIDE, 5 * SIDE, 3), np.uint8)
    pixels[..., 0] = STEP * margins + STEP // 2
    pixels[:, 2 * SIDE : 3 * SIDE, 0] = STEP * middle + STEP // 2
    pixels[..., 1:] = np.random.default_rng(seed).integers(0, 256, 2)
    return Image.fromarray(pixels)


class Shades:
    """The class at the left edge, and the noise."""

    projection = None

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        edge = pixels[:, :, SIDE // 2, 0] * 255
        classes = (edge[:, 0] / STEP).long().clamp(0, len(FOLDERS) - 1)
        seen = torch.nn.functional.one_hot(classes, len(FOLDERS)).float()
        return torch.cat([seen, (edge[:, 1:] / 255 - 0.5) / 5, torch.zeros(len(seen), 1)], dim=1)

    pooled = __call__


class Prompts:
    """What each prompt is taken for."""

    def __init__(self) -> None:
        known: dict[str, int] = {}
        for label, name in enumerate(NAMES):
            known[TEMPLATE.format(name)] = label
            known[OTHER.format(name)] = {0: 1, 1: 0}.get(label, label)
        self.known = known

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        rows = torch.zeros(len(texts), WIDTH)
        for row, text in zip(rows, texts, strict=True):
            row[self.known.get(text, self._next(text))] = 1
            row[-1] = 0.3 * (text not in self.known)  # it is not so sure: there are no ties
        return rows

    pooled = __call__

    def _next(self, text: str) -> int:
        words = text.replace(" ", "").lower()
        candidates = enumerate(zip(FOLDERS, NAMES, strict=True))
        found = [label for label, pair in candidates if any(
            name.replace(" ", "").lower() in words for name in pair
        )]  # fmt: skip
        return (found[-1] + 1) % len(FOLDERS) if found else 0

    def token_ids(self, text: str) -> list[int]:
        return list(text.encode())


def load(rest: str, options: Options) -> TwoTowerEncoder:
    """The encoder, as ``PROVIDERS`` call it."""
    preprocess = options.applied(Preprocess(SIDE, mean=(0, 0, 0), std=(1, 1, 1)))
    return TwoTowerEncoder(
        spec=f"squares:{rest}{options}",
        fingerprint=hashlib.sha256(preprocess.identity.encode()).hexdigest(),
        preprocess=preprocess,
        dim=WIDTH,
        image_tower=Shades(),
        text_tower=Prompts(),
        default_templates=(OTHER,),
        device=torch.device("cpu"),
    )


def numbers(*methods: str, seeds: tuple[int, ...] = (1,)) -> list[Number]:
    """What the right set-up gives: no method can tell more than the colour tells."""
    by = {"zero-shot": (0, ()), "gda": (16, seeds)}
    return [
        Number(method, "RN50", "a test", "good: known", {"eurosat": RIGHT}, {}, *by[method], 0)
        for method in methods
    ]


def stand_in(
    monkeypatch: pytest.MonkeyPatch,
    *methods: str,
    seeds: tuple[int, ...] = (1,),
    entry: Entry | None = None,
) -> None:
    """Let the encoder be found, and the data set and published numbers stand for EuroSAT's."""
    entry = replace(entry or catalogue()["eurosat"], counts=COUNTS, digest="")
    entries = {**catalogue(), "eurosat": entry}
    monkeypatch.setattr(catalogue_module, "catalogue", lambda: entries)
    monkeypatch.setitem(specs.PROVIDERS, "squares", "coloured_squares:load")
    monkeypatch.setitem(specs.KINDS, "squares", ("squares:X", "a test", ()))
    monkeypatch.setattr(
        "handful.benchmark.verify.setup.numbers_for",
        lambda name, checkpoint: numbers(*(methods or ("zero-shot", "gda")), seeds=seeds),
    )
