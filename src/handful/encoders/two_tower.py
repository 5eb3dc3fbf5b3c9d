"""Any image tower of torch, with or without a text tower, as an encoder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from handful.encoders.preprocess import Preprocess
from handful.errors import InputError

__all__ = ["ImageTower", "TextTower", "TwoTowerEncoder", "check_pixels", "computing_device"]

# Larger batches gain nothing on a processor; an accelerator takes what it is given.
IMAGE_BATCH = {"cpu": 16}
TEXT_BATCH = 64


class ImageTower(Protocol):
    """Turns normalised pixels, ``(N, 3, S, S)``, into features."""

    projection: torch.Tensor | None
    """``(D, H)``: the linear map from the pooled states to the features, where there is one."""

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return features ``(N, D)``, not normalised."""
        ...

    def pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the pooled states before the projection, ``(N, H)``."""
        ...


class TextTower(Protocol):
    """Turns texts into features."""

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Return features ``(M, D)``, not normalised."""
        ...

    def pooled(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the pooled states before the projection, ``(M, H)``."""
        ...

    def token_ids(self, text: str) -> list[int]:
        """Return the ids that the tower reads, start and end tokens included, padding left out."""
        ...


@dataclass(eq=False)
class TwoTowerEncoder:
    """An encoder made of parts; implements ``Encoder``.

    Attributes:
        logit_bias: added to the scaled cosines where the model was trained with a sigmoid
            (SigLIP); a softmax over classes does not feel it. 0 elsewhere.
        image_tower: on ``device``, in ``dtype``.
        text_tower: the same; None for a vision-only encoder.

    The other attributes are those of :class:`~handful.encoders.protocol.Encoder`.
    """

    spec: str
    fingerprint: str
    preprocess: Preprocess
    dim: int
    image_tower: ImageTower
    text_tower: TextTower | None
    logit_scale: float = 100.0
    logit_bias: float = 0.0
    default_templates: tuple[str, ...] = ()
    device: torch.device = field(default_factory=lambda: computing_device())
    dtype: torch.dtype = torch.float32
    has_text: bool = field(init=False)

    def __post_init__(self) -> None:
        self.has_text = self.text_tower is not None

    @property
    def projection(self) -> npt.NDArray[Any] | None:
        """float32 ``(D, H)``: the map from unprojected to projected image features, if any."""
        weights = self.image_tower.projection
        return None if weights is None else weights.detach().float().cpu().numpy()

    def encode_images(
        self, images: Sequence[Any] | npt.NDArray[np.uint8], projected: bool = True
    ) -> npt.NDArray[Any]:
        """Encode PIL images, or pixels ``(N, S, S, 3)`` uint8 that ``preprocess`` has made.

        Args:
            images: the images.
            projected: false gives the states before the image tower's projection.

        Returns:
            float32 ``(N, D)``, not normalised; ``(N, H)`` where not ``projected``.

        Raises:
            InputError: an array of another shape or type.
        """
        if isinstance(images, np.ndarray):
            check_pixels(images, self.preprocess, self.spec)
        tower = self.image_tower if projected else self.image_tower.pooled
        size = IMAGE_BATCH.get(self.device.type, 256)
        parts = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            if not isinstance(batch, np.ndarray):
                batch = np.stack([self.preprocess(image) for image in batch])
            x = self.preprocess.normalise(batch).to(self.device, self.dtype)
            parts.append(self._run(tower, x))
        width = self.dim if projected or self.projection is None else self.projection.shape[1]
        return np.concatenate(parts) if parts else np.empty((0, width), np.float32)

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[Any]:
        """Encode texts; float32 ``(M, D)``, not normalised.

        Raises:
            InputError: the encoder is vision-only.
        """
        if self.text_tower is None:
            raise InputError(
                f"the encoder {self.spec} has no text tower, so it cannot read class names or"
                " prompts: use a method that learns from images alone, or a CLIP or SigLIP model."
            )
        parts = [
            self._run(self.text_tower, list(texts[i : i + TEXT_BATCH]))
            for i in range(0, len(texts), TEXT_BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)

    def _run(self, tower: Any, batch: Any) -> npt.NDArray[Any]:
        # Convolutions would use TensorFloat-32 on recent GPUs, whose 10 bits of mantissa show.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            features: npt.NDArray[Any] = tower(batch).float().cpu().numpy()
        return features


def check_pixels(pixels: npt.NDArray[Any], preprocess: Preprocess, spec: str) -> None:
    """Refuse arrays that are not what ``preprocess`` makes.

    Raises:
        InputError: another shape or type.
    """
    size = preprocess.size
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
        raise InputError(
            f"the pixels are {pixels.dtype} {pixels.shape}: the encoder {spec} expects"
            f" uint8 (N, {size}, {size}, 3), as its preprocess makes them."
        )


def computing_device() -> torch.device:
    """Return where models run: ``HANDFUL_DEVICE``, else a CUDA device, else the processor.

    Raises:
        InputError: ``HANDFUL_DEVICE`` names no device of this machine.
    """
    named = os.environ.get("HANDFUL_DEVICE")
    if not named:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(named)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"HANDFUL_DEVICE is {named!r}, which this machine or its torch cannot use: give cpu,"
            " cuda, cuda:1 or mps, or leave it unset."
        ) from error
    return device
