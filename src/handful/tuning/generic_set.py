"""What teaches a correction: images, or rows of features, as batches in any order.

The published recipe shows every image once. So pictures are read, in the order of the batches, a
little ahead of the training, and nothing of them is kept; only where several passes are asked for,
what comes before the first adapter is computed once and kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from handful.datasets.images import LabelledImages
from handful.encoders.protocol import Encoder
from handful.encoders.views import CENTRE
from handful.errors import InputError
from handful.features.contents import Features
from handful.features.digests import row_digests
from handful.features.extract import encode_images
from handful.features.prepare import prepare_ahead
from handful.features.store import FeatureStore
from handful.progress import progress
from handful.tuning.corrector import BlocksCorrector, Corrector, ProjectionCorrector
from handful.tuning.images import TrainingImages
from handful.tuning.towers import Towers
from handful.tuning.tuning import PIXELS

__all__ = ["Batches", "GenericSet", "Rows", "batches_of", "digest_bytes", "generic_set"]

Rows = npt.NDArray[np.int64]
Batches = Callable[[Sequence[Rows]], Iterator[Tensor]]


@dataclass(frozen=True, eq=False)
class GenericSet:
    """What is known of the images before any is shown to the adapter.

    Attributes:
        labels: int64 ``(n,)``, positions in ``class_names``; None: unknown.
        class_names: C names.
        digests: SHA-256 of each image or row, in hexadecimal digits.
        encoder: spec of the encoder, or the name that a features file gives it.
        fingerprint: of the encoder; None: a features file that does not tell.
        dim: D.
        logit_scale: s.
        features: float32 ``(n, D)``, of the form ``projection``.
        views: float32 ``(n, V, D)``, where a features file has some.
        paths: of the images, of the form ``blocks``.
    """

    labels: npt.NDArray[np.int64] | None
    class_names: tuple[str, ...]
    digests: tuple[str, ...]
    encoder: str
    fingerprint: str | None
    dim: int
    logit_scale: float
    features: npt.NDArray[np.float32] | None = None
    views: npt.NDArray[np.float32] | None = None
    paths: Sequence[Path] | None = None

    def __len__(self) -> int:
        return len(self.digests)


def generic_set(
    encoder: Encoder | None,
    source: LabelledImages | Features,
    form: str,
    store: FeatureStore | None = None,
) -> GenericSet:
    """Return what teaches a correction.

    Args:
        encoder: None with a features file.
        source: images, or features, of which rows for validation and test are left alone.
        form: ``projection`` encodes the images, or takes the features.
        store: where features are kept between calls.

    Raises:
        InputError: nothing to learn from, images without an encoder, features for the form
            ``blocks``, or an image that cannot be read.
    """
    if isinstance(source, Features):
        if form == "blocks":
            raise InputError(
                "a correction of the form 'blocks' lies inside the encoder and needs images: give"
                " images and an encoder, or use form 'projection'."
            )
        return _of_features(source)
    if encoder is None:
        raise InputError("a correction is trained on images with an encoder: name one.")
    if not len(source):
        raise InputError("there are no images to train a correction on: give some.")
    told = (encoder.spec, encoder.fingerprint, encoder.dim, encoder.logit_scale)
    if form == "blocks":
        digests = _file_digests(source.paths)
        return GenericSet(source.labels, source.class_names, digests, *told, paths=source.paths)
    encoded = encode_images(encoder, source.paths, store=store)
    return GenericSet(
        source.labels, source.class_names, encoded.digests, *told, encoded.features[:, 0]
    )


def _of_features(source: Features) -> GenericSet:
    rows = np.arange(len(source.image_features))
    if source.split is not None:
        rows = np.flatnonzero(source.split == 0)
        if not len(rows):
            raise InputError("the features file has no training rows: expected some of split 0.")
    labels = None if source.labels is None else source.labels[rows]
    names = source.class_names or ()
    if labels is not None and not names:
        names = tuple(str(label) for label in range(int(labels.max()) + 1))
    features = source.image_features[rows]
    return GenericSet(
        labels,
        names,
        row_digests(features),
        source.encoder or "a features file",
        source.fingerprint,
        features.shape[1],
        source.logit_scale,
        features,
        None if source.view_features is None else source.view_features[rows],
    )


def _file_digests(paths: Sequence[Path]) -> tuple[str, ...]:
    found = []
    with progress("reading", len(paths)) as advance:
        for path in paths:
            try:
                found.append(hashlib.sha256(path.read_bytes()).hexdigest())
            except OSError as error:
                raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
            advance(1)
    return tuple(found)


def digest_bytes(digests: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return digests in hexadecimal digits as bytes, ``(n, 32)``."""
    return np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(-1, 32)


def batches_of(
    known: GenericSet,
    encoder: Encoder | None,
    towers: Towers | None,
    corrector: Corrector,
    *,
    passes: int,
) -> Batches:
    """Return what gives batches of images as they enter a corrector, without gradient.

    Args:
        known: the images.
        encoder, towers: of the form ``blocks``, the towers opened with the corrector inside.
            Pixels are normalised by the preprocessing of the towers.
        corrector: of either form.
        passes: how often every image will be shown. Shown once, pictures are read when they are
            needed; more often, what comes before the first adapter is kept.

    Returns:
        From the rows of each batch to what enters, on the towers' device.
    """
    if isinstance(corrector, ProjectionCorrector):
        assert known.features is not None
        features = torch.from_numpy(known.features)
        return lambda orders: (features[rows] for rows in orders)
    assert isinstance(corrector, BlocksCorrector)
    assert encoder is not None
    assert towers is not None
    assert known.paths is not None
    if passes <= 1:
        return partial(_streamed, encoder, towers, corrector, known.paths)
    # Patches are embedded in no time, and pixels are small.
    at = corrector.first or PIXELS
    images = TrainingImages(known.paths, np.zeros(len(known)))
    states = images.states(encoder, towers, at)
    if at != PIXELS:
        return lambda orders: (states.batch(0, rows) for rows in orders)
    return lambda orders: (corrector.entering(states.batch(0, rows)) for rows in orders)


def _streamed(
    encoder: Encoder,
    towers: Towers,
    corrector: BlocksCorrector,
    paths: Sequence[Path],
    orders: Sequence[Rows],
) -> Iterator[Tensor]:
    wanted = [paths[row] for rows in orders for row in rows.tolist()]
    ahead = 2 * max(map(len, orders), default=1)
    with closing(prepare_ahead(encoder, wanted, (CENTRE,), None, ahead, None)) as prepared:
        for rows in orders:
            images = [future.result() for future in islice(prepared, len(rows))]
            pixels = np.stack([image.pixels[CENTRE.identity] for image in images])
            yield corrector.entering(towers.preprocess.normalise(pixels).to(towers.device))
