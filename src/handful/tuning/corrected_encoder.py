"""An encoder with a correction: image features in both spaces, side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from handful.encoders.joint import refuse_several
from handful.encoders.preprocess import Preprocess
from handful.encoders.protocol import Encoder
from handful.encoders.two_tower import IMAGE_BATCH, check_pixels
from handful.errors import InputError
from handful.tuning.correction import Correction
from handful.tuning.corrector import BlocksCorrector, reopen
from handful.tuning.towers import open_towers
from handful.tuning.tuned_encoder import fenced

__all__ = ["CorrectedEncoder", "correct_features", "corrected"]

_ROWS = 2**14  # features corrected at once


class CorrectedEncoder:
    """A base encoder with a correction; implements ``Encoder``. Made by :func:`corrected`.

    Image features are ``[original | corrected]``, ``dim`` = 2·D wide; texts are the base's, D wide.

    Attributes:
        base: the encoder, unchanged. Texts are kept in a store under its fingerprint.
        correction: of the base.
        fingerprint: digest of the base's and the correction's.

    The other attributes are those of :class:`~handful.encoders.protocol.Encoder`.
    """

    def __init__(self, base: Encoder, correction: Correction) -> None:
        self.base, self.correction = base, correction
        self.spec: str = base.spec
        self.dim: int = 2 * base.dim
        self.logit_scale: float = base.logit_scale
        self.preprocess: Preprocess = base.preprocess
        self.default_templates: tuple[str, ...] = base.default_templates
        self.has_text: bool = base.has_text
        told = f"corrected-1\n{base.fingerprint}\n{correction.fingerprint}"
        self.fingerprint: str = hashlib.sha256(told.encode()).hexdigest()

    def encode_images(self, images: Sequence[Any] | npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Encode PIL images, or pixels ``(N, S, S, 3)`` uint8 that ``preprocess`` has made.

        Returns:
            float32 ``(N, 2·D)``, not normalised.

        Raises:
            InputError: an array of another shape or type.
        """
        raise NotImplementedError

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[Any]:
        """Encode texts by the base; float32 ``(M, D)``, not normalised."""
        return self.base.encode_texts(texts)


class _OnFeatures(CorrectedEncoder):
    """The form ``projection``: a ``DerivedEncoder``, so that a store keeps the base's features."""

    def encode_images(self, images: Sequence[Any] | npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        return self.derive(self.base.encode_images(images))

    def derive(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return ``[original | corrected]`` of features of the base ``(…, D)``."""
        return correct_features(features, self.correction)


class _InBlocks(CorrectedEncoder):
    """The form ``blocks``: what comes before the first adapter is computed once for both spaces."""

    def __init__(self, base: Encoder, correction: Correction) -> None:
        super().__init__(base, correction)
        self._towers = open_towers(base)
        made = reopen(correction, self._towers)
        assert isinstance(made, BlocksCorrector)
        self._corrector = made

    def encode_images(self, images: Sequence[Any] | npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        if isinstance(images, np.ndarray):
            check_pixels(images, self.preprocess, self.spec)
        device = self._towers.device
        size = IMAGE_BATCH.get(device.type, 256)
        parts = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            if not isinstance(batch, np.ndarray):
                batch = np.stack([self.preprocess(image) for image in batch])
            with torch.inference_mode(), fenced(device):
                pixels = self.preprocess.normalise(batch).to(device)
                both = self._corrector.both(self._corrector.entering(pixels))
                parts.append(both.float().cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)


def corrected(encoder: Encoder, correction: Correction) -> CorrectedEncoder:
    """Return an encoder with its correction.

    Args:
        encoder: the one that the correction was trained for.
        correction: of either form.

    Raises:
        InputError: another encoder, several of them, or one whose features have another width.
    """
    refuse_several(encoder, "a correction")
    correction.check(encoder.fingerprint, encoder.spec)
    _check_width(encoder.dim, correction)
    kind = _OnFeatures if correction.form == "projection" else _InBlocks
    return kind(encoder, correction)


def correct_features(features: npt.NDArray[Any], correction: Correction) -> npt.NDArray[np.float32]:
    """Return ``[original | corrected]`` ``(…, 2·D)``, float32, of features ``(…, D)``.

    Args:
        features: raw or unit, of the encoder that the correction was trained for.
        correction: of the form ``projection``.

    Raises:
        InputError: a correction of the form ``blocks``, or features of another width.
    """
    if correction.form != "projection":
        raise InputError(
            f"the correction of {correction.encoder} has the form '{correction.form}', which lies"
            " inside the encoder: give images, or train one of the form 'projection'."
        )
    rows = np.asarray(features, np.float32)
    _check_width(rows.shape[-1], correction)
    corrector = reopen(correction, None)
    found = np.empty((*rows.shape[:-1], 2 * correction.dim), np.float32)
    flat, out = rows.reshape(-1, correction.dim), found.reshape(-1, 2 * correction.dim)
    for start in range(0, len(flat), _ROWS):
        part = torch.from_numpy(np.ascontiguousarray(flat[start : start + _ROWS]))
        with torch.inference_mode():
            out[start : start + _ROWS] = corrector.both(part).numpy()
    return found


def _check_width(width: int, correction: Correction) -> None:
    if width != correction.dim:
        raise InputError(
            f"the correction of {correction.encoder} is for features of width {correction.dim},"
            f" and these have {width}: give those of the encoder that it was trained for."
        )
