"""An encoder of a few lines, so that these tests are about what surrounds an encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from handful.encoders.preprocess import Preprocess


class FakeEncoder:
    """Each image becomes the mean colour of its four quarters: row by row, so batches are equal."""

    spec = "fake"
    dim = 12
    logit_scale = 10.0
    fingerprint = "fake-1"
    default_templates = ("{}",)
    has_text = True

    def __init__(self) -> None:
        self.preprocess = Preprocess(size=8)
        self.batches: list[int] = []
        self.texts: list[str] = []
        self.fail_after: int | None = None
        self.failure: type[BaseException] = RuntimeError

    def encode_images(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if self.fail_after is not None and len(self.batches) >= self.fail_after:
            raise self.failure("killed")
        self.batches.append(len(pixels))
        quarters = pixels.astype(np.float32).reshape(len(pixels), 2, 4, 2, 4, 3)
        return quarters.mean(axis=(2, 4)).reshape(len(pixels), self.dim)

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.texts += texts
        digests = [hashlib.sha256(text.encode()).digest()[: self.dim] for text in texts]
        return np.array([list(digest) for digest in digests], np.float32).reshape(-1, self.dim)


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[[int], list[Path]]:
    """Make ``n`` small pictures, all different, and return their paths."""

    def make(n: int) -> list[Path]:
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        random = np.random.default_rng(0)
        paths = [folder / f"{i:04d}.png" for i in range(n)]
        for path in paths:
            Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).save(path)
        return paths

    return make
