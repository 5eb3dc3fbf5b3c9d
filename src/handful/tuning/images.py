"""The images that are trained on, in every view, as they enter the first trained block.

What comes before that block never changes: it is computed once for each image and view, and kept
in memory, or, where that is too much, in a temporary file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from handful.encoders.preprocess import Preprocess
from handful.encoders.protocol import Encoder
from handful.encoders.views import CENTRE, View
from handful.errors import InputError
from handful.features.extract import encode_images
from handful.features.prepare import prepare_ahead
from handful.features.store import FeatureStore
from handful.paths import cache_folder
from handful.progress import notice, progress
from handful.tuning.towers import Towers
from handful.tuning.tuning import PIXELS, Tuned

__all__ = ["MEMORY", "ImageStates", "TrainingImages", "entering"]

MEMORY = 2**30
"""Bytes of states that are kept in memory; more go to a file."""

JUDGED = 64  # images at once, where no gradient is asked for
BATCH = 16  # pictures that go through a tower at once, as in the encoders on a processor


@dataclass(frozen=True, eq=False)
class ImageStates:
    """What enters a tuned tower, of n images in V views.

    Attributes:
        kept: ``(V, n, …)``: float32 states or features, or uint8 pixels ``(V, n, S, S, 3)``.
        digests: SHA-256 of the bytes of each image.
        preprocess: makes input of pixels.
        device: of the towers.
    """

    kept: npt.NDArray[Any]
    digests: tuple[str, ...]
    preprocess: Preprocess
    device: torch.device

    def batch(self, view: int, rows: npt.NDArray[np.int64] | slice) -> Tensor:
        """Return what enters, of some images in one view (modulo V), float32 on the device."""
        found = np.asarray(self.kept[view % len(self.kept)][rows])
        if found.dtype == np.uint8:
            return self.preprocess.normalise(found).to(self.device)
        return torch.from_numpy(found).to(self.device)

    def logits(self, tuned: Tuned, text: Tensor) -> Tensor:
        """Return what tuned towers say of the images in their first view, ``(n, C)`` on the CPU.

        Args:
            tuned: with the towers that the states were made for.
            text: unit class embeddings ``(C, D)``.
        """
        parts = [slice(i, i + JUDGED) for i in range(0, len(self.digests), JUDGED)]
        with torch.no_grad():
            return torch.cat([tuned.logits(self.batch(0, part), text).cpu() for part in parts])


class TrainingImages:
    """Images of known class.

    Args:
        paths: n image files that can be read.
        labels: row of each image's class, ``(n,)``.
        memory: bytes of states that are kept in memory; what needs more goes to a temporary file
            in the cache folder.

    Attributes:
        labels: int64 ``(n,)``.
    """

    def __init__(
        self, paths: Sequence[str | Path], labels: npt.ArrayLike, *, memory: int = MEMORY
    ) -> None:
        self.paths = tuple(Path(path) for path in paths)
        self.labels = np.array(labels, np.int64)
        if self.labels.shape != (len(self.paths),) or not self.paths:
            raise ValueError(f"{len(self.paths)} images have labels of shape {self.labels.shape}")
        self._memory = memory
        self._last: tuple[Any, ImageStates] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def states(
        self,
        encoder: Encoder,
        towers: Towers,
        image_from: int | None,
        *,
        views: Sequence[View] = (CENTRE,),
        store: FeatureStore | None = None,
    ) -> ImageStates:
        """Return what enters the first trained block; asked for the same again, nothing is done.

        Args:
            encoder: whose towers they are.
            towers: opened; blocks before ``image_from`` are those of the encoder.
            image_from: as in :class:`~handful.tuning.tuning.Tuned`.
            views: ways to show each image.
            store: where features (not states) are kept between calls.

        Raises:
            InputError: an image cannot be read, or there is no room for the file.
        """
        asked = (encoder.fingerprint, towers.device, image_from, tuple(views))
        if self._last is None or self._last[0] != asked:
            self._last = None  # frees it first
            if image_from is None:
                found = encode_images(encoder, self.paths, views=views, store=store)
                kept, digests = found.features.swapaxes(0, 1), found.digests
            else:
                kept, digests = self._run(encoder, towers, image_from, views)
            self._last = asked, ImageStates(kept, digests, towers.preprocess, towers.device)
        return self._last[1]

    def _run(
        self, encoder: Encoder, towers: Towers, image_from: int, views: Sequence[View]
    ) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
        kept: npt.NDArray[Any] | None = None
        digests: list[str] = []
        waiting: list[tuple[int, int, npt.NDArray[np.uint8]]] = []
        prepared = prepare_ahead(encoder, self.paths, views, None, 2 * BATCH, None)
        with progress("preparing", len(self)) as advance, closing(prepared):
            for row, future in enumerate(prepared):
                image = future.result()
                digests.append(image.digest)
                waiting += [(v, row, image.pixels[view.identity]) for v, view in enumerate(views)]
                while len(waiting) >= BATCH or (waiting and row == len(self) - 1):
                    now, waiting = waiting[:BATCH], waiting[BATCH:]
                    values = np.stack([pixels for *_, pixels in now])
                    if image_from != PIXELS:
                        values = entering(towers, image_from, values).cpu().numpy()
                    if kept is None:
                        shape = (len(views), len(self), *values.shape[1:])
                        kept = _room(shape, values.dtype, self._memory)
                    for (view_number, place, _), value in zip(now, values, strict=True):
                        kept[view_number, place] = value
                advance(1)
        assert kept is not None
        return kept, tuple(digests)


def entering(towers: Towers, image_from: int, pixels: npt.NDArray[np.uint8]) -> Tensor:
    """Return what enters block ``image_from`` of pixels ``(N, S, S, 3)``, on the towers' device."""
    tower = towers.image
    assert tower is not None
    with torch.no_grad():
        x = towers.preprocess.normalise(pixels).to(towers.device)
        return x if image_from == PIXELS else tower.through(tower.enter(x), 0, image_from)


def _room(shape: tuple[int, ...], dtype: Any, memory: int) -> npt.NDArray[Any]:
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= memory:
        return np.empty(shape, dtype)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(
            f"{folder} has {free / 1e9:.1f} GB left, and what enters the first trained block takes "
            f"{size / 1e9:.1f} GB: train fewer views or later blocks, or name a larger disk in "
            "HANDFUL_CACHE."
        )
    notice(f"keeping {size / 1e9:.1f} GB of activations in {folder} while training.")
    # Without a name, so that it goes with the last array on it, however the process ends.
    with tempfile.TemporaryFile(dir=folder) as file:
        kept: npt.NDArray[Any] = np.memmap(file, dtype, "w+", shape=shape)
    return kept
