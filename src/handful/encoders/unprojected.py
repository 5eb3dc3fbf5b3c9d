"""An encoder seen one step earlier: image features before the projection into the joint space."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.encoders.protocol import Encoder
from handful.errors import InputError

__all__ = ["UnprojectedEncoder", "has_projection", "unprojected_fingerprint"]


class UnprojectedEncoder:
    """The same encoder with features before its projection; implements ``Encoder``.

    Texts are encoded as by ``base``, into its space: ``(M, base.dim)``.

    Args:
        encoder: one with a projection; see ``TwoTowerEncoder.projection``.
        remedy: what to do where it has none, for the message.

    Attributes:
        base: the encoder.
        projection: Π ``(D_v, D)``, float32: features h before it give z = Πᵀh.
        dim: D_v.
        fingerprint: of its own, so that a store or a classifier never takes features before the
            projection for those behind it.

    Raises:
        InputError: the encoder has no projection.
    """

    def __init__(self, encoder: Encoder, remedy: str = "use method elevater-l2p") -> None:
        if not has_projection(encoder):
            raise InputError(
                f"the encoder {encoder.spec} has no projection behind its image tower, so there "
                f"are no features before it: {remedy}."
            )
        own: Any = encoder
        self.base = encoder
        self.projection: npt.NDArray[np.float32] = np.ascontiguousarray(own.projection.T)
        self.dim = len(self.projection)
        self.spec = encoder.spec
        self.logit_scale = encoder.logit_scale
        self.fingerprint = unprojected_fingerprint(encoder.fingerprint)
        self.preprocess = encoder.preprocess
        self.default_templates = encoder.default_templates
        self.has_text = encoder.has_text

    def encode_images(self, images: Sequence[Any] | npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Encode images; float32 ``(N, D_v)``, not normalised."""
        own: Any = self.base
        features: npt.NDArray[Any] = own.encode_images(images, projected=False)
        return features

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[Any]:
        """Encode texts; float32 ``(M, D)``, not normalised."""
        return self.base.encode_texts(texts)


def has_projection(encoder: Encoder) -> bool:
    """Whether the image tower ends in a projection that is known."""
    return getattr(encoder, "projection", None) is not None


def unprojected_fingerprint(fingerprint: str) -> str:
    """Return the fingerprint of the features before the projection of an encoder."""
    return hashlib.sha256(f"unprojected-1\n{fingerprint}".encode()).hexdigest()
