"""The images behind the features of a source, for methods that train inside the encoder."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from handful.benchmark.cost import Seconds, timed
from handful.datasets.names import readable
from handful.datasets.sentences import class_sentences
from handful.encoders.decode import open_image
from handful.encoders.protocol import Encoder
from handful.features.contents import Features
from handful.tuning.images import TrainingImages
from handful.tuning.prompts import Prompts

__all__ = ["SHOWN", "Pictures"]

SHOWN = 64  # images that the speed of answering is measured on, at most


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images, the encoder that made features of them, and what it read of the classes.

    Attributes:
        encoder: the base of everything that is trained.
        paths: N image files, in the order of the features.
        prompts: of the classes.
    """

    encoder: Encoder
    paths: tuple[Path, ...]
    prompts: Prompts

    @classmethod
    def behind(cls, features: Features, encoder: Encoder, sentences: str | None) -> Pictures:
        """Return the images that features were made of.

        Args:
            features: with paths and class names.
            encoder: made them.
            sentences: the file of sentences that was read of the classes, if there was one.
        """
        names, own = features.class_names or (), None
        if sentences is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # said when they were encoded
                own = class_sentences(sentences, names, needed=False).of_class
        words = tuple(readable(name) for name in names)
        prompts = Prompts(words, features.templates or (), own or ())
        return cls(encoder, tuple(Path(path) for path in features.paths or ()), prompts)

    def of(self, rows: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> TrainingImages:
        """Return some of the images; ``labels`` are of all."""
        return TrainingImages([self.paths[row] for row in rows], labels[rows])

    def shown(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Return the first of some images as the encoder takes them, ``(n, S, S, 3)``."""
        prepare = self.encoder.preprocess
        return np.stack([prepare(open_image(self.paths[row])) for row in rows[:SHOWN]])

    @cached_property
    def encoding(self) -> Seconds:
        """What the encoder takes for one image, from prepared pixels to features."""
        pixels = self.shown(range(len(self.paths)))
        self.encoder.encode_images(pixels)  # warms up
        _, seconds = timed(lambda: self.encoder.encode_images(pixels))
        return Seconds(*(one / len(pixels) for one in seconds))
