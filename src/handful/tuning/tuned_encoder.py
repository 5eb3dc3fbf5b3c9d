"""An encoder with a trained part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from handful.encoders.preprocess import Preprocess
from handful.encoders.protocol import Encoder
from handful.encoders.two_tower import IMAGE_BATCH, TEXT_BATCH, check_pixels
from handful.features.store import FeatureStore
from handful.tuning.images import TrainingImages, entering
from handful.tuning.towers import open_towers
from handful.tuning.tuning import Prompts, Tuned, Tuning

__all__ = ["TunedEncoder", "fenced", "open_tuned"]


@contextmanager
def fenced(device: torch.device) -> Iterator[None]:
    """Leave torch's generators as they were, and compute as exactly as the encoders do."""
    devices = [device] if device.type == "cuda" else []
    # Convolutions would use TensorFloat-32 on recent GPUs, whose 10 bits of mantissa show.
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.random.fork_rng(devices), exact:
        yield


def open_tuned(tuning: Tuning, encoder: Encoder, prompts: Prompts, seed: int) -> Tuned:
    """Return a copy of an encoder's towers with what a method trains, before any training.

    Raises:
        InputError: the encoder cannot be opened up, or has not what the method trains.
    """
    towers = open_towers(encoder)
    with fenced(towers.device):
        torch.manual_seed(seed)
        return tuning.open(towers, prompts, seed).eval()


class TunedEncoder:
    """A base encoder with what a tuning method has trained; implements ``Encoder``.

    Args:
        base: the encoder, unchanged.
        tuning: the method and its settings.
        tuned: its opened towers, trained; not to be changed any more.
        seed: that the method was opened with.
        class_embeddings: where they are known, ``(C, D)``.

    Attributes:
        class_embeddings: unit, float32 ``(C, D)``, of the classes that it was trained for.
        fingerprint: digest of the base's, the method, its settings and what was trained.

    The other attributes are those of :class:`~handful.encoders.protocol.Encoder`.
    """

    def __init__(
        self,
        base: Encoder,
        tuning: Tuning,
        tuned: Tuned,
        seed: int,
        class_embeddings: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.base, self.tuning, self.tuned, self.seed = base, tuning, tuned.eval(), seed
        self.spec: str = base.spec
        self.dim: int = base.dim
        self.logit_scale: float = base.logit_scale
        self.preprocess: Preprocess = base.preprocess
        self.default_templates: tuple[str, ...] = base.default_templates
        self.has_text: bool = True
        self.fingerprint: str = _digest(base, tuning, tuned.arrays())
        tuned.settle()
        if class_embeddings is None:
            with torch.no_grad():
                class_embeddings = tuned.class_embeddings().float().cpu().numpy()
        self.class_embeddings: npt.NDArray[np.float32] = class_embeddings

    @property
    def base_fingerprint(self) -> str:
        """Fingerprint of the base."""
        return self.base.fingerprint

    @property
    def prompts(self) -> Prompts:
        """The classes, and what was read of them."""
        return self.tuned.prompts

    @property
    def sees_as(self) -> Encoder:
        """The encoder of images: the base where nothing of that side was trained.

        Its features are in the store already.
        """
        own = type(self.tuned).image_features is not Tuned.image_features
        return self if own or self.tuned.image_from is not None else self.base

    @property
    def reads_as(self) -> Encoder:
        """The encoder of texts: the base where nothing in the text tower was trained.

        What is learnt of the classes alone, such as context tokens, is no part of the tower.
        """
        own = type(self.tuned).class_embeddings is Tuned.class_embeddings
        return self if own and self.tuned.trains_text else self.base

    def trained_parameters(self) -> int:
        """Return how many numbers an optimiser set."""
        return sum(p.numel() for p in self.tuned.trained().values())

    def logits(
        self, images: TrainingImages, store: FeatureStore | None = None
    ) -> npt.NDArray[np.float32]:
        """Return what zero-shot classification says of images, ``(M, C)``.

        What enters the first trained block is not computed again where it is known.
        """
        tuned = self.tuned
        with fenced(tuned.towers.device):
            states = images.states(self.base, tuned.towers, tuned.image_from, store=store)
            text = torch.from_numpy(self.class_embeddings).to(tuned.towers.device)
            found: npt.NDArray[np.float32] = states.logits(tuned, text).numpy()
        return found

    def encode_images(self, images: Sequence[Any] | npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Encode PIL images, or pixels ``(N, S, S, 3)`` uint8 that ``preprocess`` has made.

        Returns:
            float32 ``(N, D)``, not normalised.

        Raises:
            InputError: an array of another shape or type.
        """
        if isinstance(images, np.ndarray):
            check_pixels(images, self.preprocess, self.spec)
        towers, at = self.tuned.towers, self.tuned.image_from
        size = IMAGE_BATCH.get(towers.device.type, 256)
        parts = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            with torch.no_grad(), fenced(towers.device):
                if at is None:
                    states = torch.from_numpy(self.base.encode_images(batch)).to(towers.device)
                else:
                    if not isinstance(batch, np.ndarray):
                        batch = np.stack([self.preprocess(image) for image in batch])
                    states = entering(towers, at, batch)
                parts.append(self.tuned.image_features(states).float().cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[Any]:
        """Encode texts by the text tower as it is now; float32 ``(M, D)``, not normalised.

        Learned context tokens are no part of the tower: they stand in ``class_embeddings`` alone.
        """
        tower = self.tuned.towers.text
        assert tower is not None
        parts = []
        for start in range(0, len(texts), TEXT_BATCH):
            with torch.no_grad():
                tokens = tower.tokenize(texts[start : start + TEXT_BATCH])
                parts.append(tower(tokens).float().cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)


def _digest(base: Encoder, tuning: Tuning, arrays: Mapping[str, npt.NDArray[np.float32]]) -> str:
    digest = hashlib.sha256(b"tuned-1\n")
    told = [base.fingerprint, tuning.name, tuning.settings()]
    digest.update(json.dumps(told, sort_keys=True).encode() + b"\n")
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array, np.float32).data)
    return digest.hexdigest()
