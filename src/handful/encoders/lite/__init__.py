"""The embedded default encoder: a real, small two-tower model that needs no network.

EfficientNet-Lite0 sees, all-MiniLM-L6-v2 reads, and a ridge map (``join``) brings what was read to
where it is seen. Both towers come as packages that carry their weights, the extra ``lite``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from handful.encoders.lite.derived import derived
from handful.encoders.lite.image_tower import ImageTower
from handful.encoders.lite.join import (
    Map,
    apply_map,
    centred_unit_rows,
    imagenet_names,
    join_recipe,
    ridge_map,
)
from handful.encoders.lite.weights import image_weights, text_files
from handful.encoders.options import Options
from handful.encoders.preprocess import Preprocess
from handful.encoders.two_tower import check_pixels
from handful.errors import InputError

if TYPE_CHECKING:
    from handful.encoders.lite.text_tower import TextTower

__all__ = ["LiteEncoder", "load"]

# Small batches stay in the processor's cache: on two cores 8 is half again as fast as 32.
BATCH = 8


def load(style: str, options: Options) -> LiteEncoder:
    """Make the encoder of ``lite`` (empty style) or of ``lite:coop``.

    Raises:
        InputError: as :class:`LiteEncoder`, or options, which it has none of.
    """
    if str(options):
        raise InputError(f"the encoder lite takes no options: leave '{options}' out.")
    return LiteEncoder(style or "clip")


class LiteEncoder:
    """EfficientNet-Lite0 and all-MiniLM-L6-v2, joined; implements ``Encoder``.

    Texts are encoded best as bare class names: the map was fitted on names, not on sentences.

    Args:
        style: of the preprocessing, ``clip`` or ``coop``.

    Raises:
        InputError: the extra ``lite`` is not installed, a weight file is damaged, or the style is
            unknown.
    """

    dim = 1280
    # A stated constant. On the vendored photographs the zero-shot cross-entropy is lowest near it:
    # 0.658 at 25, 0.635 at 30, 0.653 at 40.
    logit_scale = 30.0
    default_templates = ("{}",)
    has_text = True

    def __init__(self, style: str = "clip") -> None:
        self.preprocess = Preprocess(224, style, mean=(0.498,) * 3, std=(0.502,) * 3)
        self.spec = "lite" if style == "clip" else f"lite:{style}"
        # Of the inputs, not of the weights after conversion: machines must agree on it.
        recipe = f"lite-1|{join_recipe()}|{self.preprocess.identity}"
        self.fingerprint = hashlib.sha256(recipe.encode()).hexdigest()
        self._weights = image_weights()
        self._image_tower = ImageTower(self._weights).eval()

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Any] | npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Encode PIL images, or pixels ``(N, 224, 224, 3)`` uint8 that ``preprocess`` has made.

        Returns:
            float32 ``(N, 1280)``, not normalised.

        Raises:
            InputError: an array of another shape or type.
        """
        if isinstance(images, np.ndarray):
            check_pixels(images, self.preprocess, self.spec)
        features = np.empty((len(images), self.dim), np.float32)
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            if not isinstance(batch, np.ndarray):
                batch = np.stack([self.preprocess(image) for image in batch])
            x = self.preprocess.normalise(batch)
            features[start : start + BATCH] = self._image_tower(x).numpy()
        return features

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[Any]:
        """Encode texts into the space of the image features.

        Returns:
            float32 ``(M, 1280)``, not normalised.
        """
        mapped = apply_map(self.text_tower(texts), self.join)
        return mapped.float().numpy()

    @cached_property
    def text_tower(self) -> TextTower:
        from handful.encoders.lite.text_tower import TextTower

        return TextTower(*text_files())

    @cached_property
    def join(self) -> Map:
        return derived("join", join_recipe(), self._fit_map)

    def _fit_map(self) -> Map:
        names = self.text_tower(imagenet_names())
        return ridge_map(names, centred_unit_rows(self._weights["_fc.weight"]))
