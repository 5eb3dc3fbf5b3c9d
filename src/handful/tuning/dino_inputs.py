"""What DINO's two networks are shown in each step: crops of pictures, or features of crops.

Batches are ``(n, crops, …)``; crops that enter a network stand crop by crop, ``(crops·n, …)``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from handful.datasets.images import LabelledImages
from handful.encoders.protocol import Encoder
from handful.encoders.views import View
from handful.errors import InputError
from handful.features.contents import Features
from handful.features.extract import encode_images
from handful.features.store import FeatureStore
from handful.tuning.corrector import BlocksCorrector
from handful.tuning.dino_views import GLOBAL_CROPS, Crops, crops_ahead, view_key
from handful.tuning.generic_set import GenericSet, generic_set
from handful.tuning.towers import ImageTower, Towers

__all__ = [
    "Batch",
    "CropFeatures",
    "Inputs",
    "PictureCrops",
    "encoded_crops",
    "small_side",
    "stored_crops",
]

_SHARE = 96 / 224  # of the input's side, small crops as published
_ORDER = -1  # stands where the number of a view does

Share = tuple[int, Sequence[int]]  # an epoch, and rows
Batch = tuple[npt.NDArray[Any], npt.NDArray[Any]]
Batches = Generator[Batch, None, None]


class Inputs(Protocol):
    """Crops of all images.

    Attributes:
        small: number of small crops of each.
        sides: of large and small crops that are encoded in training, in pixels.
    """

    small: int
    sides: dict[str, int]

    def batches(self, shares: Sequence[Share]) -> Batches:
        """Yield large and small crops of the images of each share, an epoch and rows."""
        ...

    def entering(self, crops: npt.NDArray[Any]) -> Tensor:
        """Return what enters the adapters, crop by crop."""
        ...


class PictureCrops:
    """Crops of pictures, new ones in every epoch.

    Args:
        paths: image files.
        digests: of their bytes.
        crops: how they are made.
        towers: opened.
        corrector: in the towers; blocks before its first are shared with all others.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        digests: Sequence[str],
        crops: Crops,
        towers: Towers,
        corrector: BlocksCorrector,
    ) -> None:
        self.small = crops.local
        self.sides = {"large": crops.side, "small": crops.small_side}
        self._paths, self._digests, self._crops = paths, digests, crops
        self._towers, self._corrector = towers, corrector

    def batches(self, shares: Sequence[Share]) -> Batches:
        return crops_ahead(self._crops, self._paths, self._digests, shares)

    def entering(self, crops: npt.NDArray[Any]) -> Tensor:
        pixels = crops.swapaxes(0, 1).reshape(-1, *crops.shape[2:])
        x = self._towers.preprocess.normalise(pixels).to(self._towers.device)
        return self._corrector.entering(x)


class CropFeatures:
    """Features of crops, computed once.

    Args:
        large: of large crops, float32 ``(N, G, D)``, of which two are drawn for each epoch.
        small: of small crops, ``(N, L, D)``; None: the large ones that were not drawn.
        digests: of the images.
        seed: of the draw.
    """

    def __init__(
        self,
        large: npt.NDArray[np.float32],
        small: npt.NDArray[np.float32] | None,
        digests: Sequence[str],
        seed: int,
    ) -> None:
        self._large, self._small = large, small
        self._digests, self._seed = digests, seed
        self.sides: dict[str, int] = {}
        self.small = large.shape[1] - GLOBAL_CROPS if small is None else small.shape[1]

    def batches(self, shares: Sequence[Share]) -> Batches:
        for epoch, rows in shares:
            order = np.stack([self._order(epoch, row) for row in rows])
            shown = np.take_along_axis(self._large[list(rows)], order[..., None], 1)
            others = shown[:, GLOBAL_CROPS:] if self._small is None else self._small[list(rows)]
            yield shown[:, :GLOBAL_CROPS], others

    def _order(self, epoch: int, row: int) -> npt.NDArray[np.int64]:
        key = view_key(self._seed, epoch, self._digests[row], _ORDER)
        return np.argsort(np.random.default_rng(key).random(self._large.shape[1]))

    def entering(self, crops: npt.NDArray[Any]) -> Tensor:
        flat = crops.swapaxes(0, 1).reshape(-1, crops.shape[2])
        return torch.from_numpy(np.ascontiguousarray(flat))


def small_side(tower: ImageTower, side: int) -> int:
    """Return the side of small crops, in pixels, for an input of ``side``.

    It is the multiple of the tower's patches that is nearest to 96 of 224, as published, one patch
    or more: 96 for patches of 16 and 32, 98 for 14. Where the tower cannot stretch its positions
    over fewer patches, it is ``side``: small crops are then brought to the size of large ones.
    """
    if tower.patch is None:
        return side
    return max(1, round(side * _SHARE / tower.patch)) * tower.patch


def encoded_crops(
    encoder: Encoder | None,
    source: LabelledImages,
    *,
    large: int,
    small: int,
    scales: tuple[tuple[float, float], tuple[float, float]],
    seed: int,
    store: FeatureStore | None,
) -> tuple[GenericSet, CropFeatures]:
    """Return images with features of their crops, each computed once by the frozen encoder.

    Crops are those of :class:`~handful.encoders.views.View`: colours are left as they are, and
    small ones are brought to the size of the input.

    Args:
        encoder: encodes them.
        source: images, whose labels are not read.
        large, small: number of crops of each kind.
        scales: smallest and largest part of the picture that large and small ones cover.
        seed: of the crops.
        store: where features are kept between calls; processes that share one share the work.

    Raises:
        InputError: no encoder, no images, or one that cannot be read.
    """
    if encoder is None:
        raise InputError("a correction is trained on images with an encoder: name one.")
    if not len(source):
        raise InputError("there are no images to train a correction on: give some.")
    views = [View(index, seed, scales[0]) for index in range(large)]
    views += [View(index, seed, scales[1]) for index in range(small)]
    found = encode_images(encoder, source.paths, views=views, store=store, label="encoding crops")
    told = (encoder.spec, encoder.fingerprint, encoder.dim, encoder.logit_scale)
    known = GenericSet(None, (), found.digests, *told)
    parts = found.features[:, :large], found.features[:, large:]
    return known, CropFeatures(*parts, found.digests, seed)


def stored_crops(source: Features, *, seed: int) -> tuple[GenericSet, CropFeatures]:
    """Return rows of a features file, whose views are taken for crops.

    Two of them, drawn anew in every epoch, are what the teacher sees.

    Raises:
        InputError: there are no views, or only one.
    """
    known = generic_set(None, source, "projection")
    if known.views is None or known.views.shape[1] < GLOBAL_CROPS:
        raise InputError(
            "the features file has no view_features with two views or more, which the objective"
            " 'dino' compares: write it again with 'handful embed --views 10', or give images."
        )
    return known, CropFeatures(known.views, None, known.digests, seed)
