"""An encoder of a few lines that sees colours and reads their names, and pictures for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from handful.classifier import FewShotClassifier
from handful.encoders.preprocess import Preprocess

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


class ColourEncoder:
    """Mean red, green and blue of the left and of the right half: D = 6.

    Its projection, for the methods that need one, is the identity.
    """

    spec = "colours"
    dim = 6
    logit_scale = 20.0
    fingerprint = "c" * 64
    default_templates = ("a {} picture",)
    has_text = True
    projection = np.eye(6, dtype=np.float32)

    def __init__(self) -> None:
        self.preprocess = Preprocess(size=8)
        self.seen = 0
        self.read: list[str] = []

    def encode_images(
        self, pixels: npt.NDArray[np.uint8], projected: bool = True
    ) -> npt.NDArray[np.float32]:
        self.seen += len(pixels)
        halves = np.asarray(pixels, np.float32).reshape(len(pixels), 8, 2, 4, 3)
        return halves.mean(axis=(1, 3)).reshape(len(pixels), self.dim)

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.read += texts
        grey = (90, 100, 110)
        found = [next((v for k, v in COLOURS.items() if k in t), grey) * 2 for t in texts]
        return np.array(found, np.float32).reshape(-1, self.dim)


class BlindReader(ColourEncoder):
    """A vision-only encoder."""

    fingerprint = "d" * 64
    has_text = False

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        raise AssertionError("it has no text side")


@pytest.fixture
def encoder() -> ColourEncoder:
    return ColourEncoder()


@pytest.fixture
def blind() -> BlindReader:
    return BlindReader()


@pytest.fixture
def paint() -> Callable[..., Path]:
    """Paint ``n`` noisy pictures of each colour into ``folder/colour/``."""

    def paint(folder: Path, n: int = 4, seed: int = 0, colours: Sequence[str] = ()) -> Path:
        random = np.random.default_rng(seed)
        for name in colours or COLOURS:
            (folder / name).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                noise = random.normal(0, 40, (12, 12, 3)) + random.normal(0, 40, 3)
                pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{seed}-{i}.png")
        return folder

    return paint


@pytest.fixture
def pictures(paint: Callable[..., Path], tmp_path: Path) -> Path:
    return paint(tmp_path / "pictures")


@pytest.fixture
def new(paint: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """Pictures that no classifier has seen, in the order of the sorted colours."""
    return sorted(paint(tmp_path / "new", n=3, seed=1).glob("*/*.png"))


@pytest.fixture
def fitted(encoder: ColourEncoder, pictures: Path) -> FewShotClassifier:
    return FewShotClassifier(encoder, "tip-adapter").fit(pictures)
