"""From image files to features: encode what the store does not know yet, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.encoders.derived import DerivedEncoder
from handful.encoders.joint import JointEncoder
from handful.encoders.protocol import Encoder
from handful.encoders.views import CENTRE, View
from handful.errors import HandfulError, InputError
from handful.features.prepare import Prepared, prepare_ahead
from handful.features.store import FeatureStore
from handful.progress import progress

__all__ = ["EncodedImages", "encode_images", "stream_images"]

# Measured with lite on two cores, 256-pixel JPEGs: the model alone 125 images/s, end to end 113
# with batches of 32 or 64 and two threads, 108 one after the other.
BATCH_SIZE = 32
CHUNK_SIZE = 1024
MOST_ELSEWHERE = 4  # batches of pixels that wait for another process
PAUSE_S = 0.05  # before looking again whether it is done


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Features of several images and what became of each.

    Attributes:
        features: float32 ``(N, V, D)``, as the encoder gives them (not normalised), in the order
            of the paths; unreadable images are left out.
        kept: int64 ``(N,)``, positions in ``paths`` of these rows.
        digests: SHA-256 of the bytes of each kept image.
        encoded: image views that the model had to encode.
        reused: image views taken from the store or from an identical image of the same call;
            ``encoded + reused`` is N · V, times the encoders where there are several.
        skipped: path and reason of each image left out.
    """

    features: npt.NDArray[np.float32]
    kept: npt.NDArray[np.int64]
    digests: tuple[str, ...]
    encoded: int
    reused: int
    skipped: tuple[tuple[Path, str], ...]


def encode_images(
    encoder: Encoder,
    paths: Sequence[Path],
    *,
    views: Sequence[View] = (CENTRE,),
    store: FeatureStore | None = None,
    strict: bool = True,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    label: str = "encoding",
) -> EncodedImages:
    """Encode image files; identical images and those that the store knows are not encoded again.

    Results go to the store after every batch: a killed run loses at most the batch in flight.

    Args:
        encoder: its fingerprint and the views' identities address the store. Of several joined to
            one, each encodes under its own fingerprint, one after the other, and their features
            stand side by side. Of a derived one the store keeps the features of its base.
        paths: image files, in any order, with or without duplicates.
        views: ways to show each image, V of them.
        store: where features are kept between calls; none if None.
        strict: raise for the first unreadable image instead of skipping it.
        batch_size: image views per call of the model.
        workers: threads that read and prepare images beside the model; None takes one per core.
        label: shown by the progress bar.

    Raises:
        InputError: ``strict``, and an image cannot be read.
        HandfulError: the model gave NaN or infinity.
    """
    chunks = stream_images(
        encoder,
        paths,
        views=views,
        store=store,
        strict=strict,
        chunk_size=max(1, len(paths)),
        batch_size=batch_size,
        workers=workers,
        label=label,
    )
    for _, encoded in chunks:
        return encoded
    empty = np.empty((0, len(views), encoder.dim), np.float32)
    return EncodedImages(empty, np.empty(0, np.int64), (), 0, 0, ())


def stream_images(
    encoder: Encoder,
    paths: Sequence[Path],
    *,
    views: Sequence[View] = (CENTRE,),
    store: FeatureStore | None = None,
    strict: bool = True,
    chunk_size: int = CHUNK_SIZE,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    label: str = "encoding",
) -> Iterator[tuple[tuple[Path, ...], EncodedImages]]:
    """Encode image files chunk by chunk, keeping no more than one chunk of features.

    As ``encode_images``, with ``kept`` counting within the chunk. Identical images of different
    chunks are recognised through the store only.

    Yields:
        The paths of the chunk (at most ``chunk_size``) and what became of them.
    """
    if isinstance(encoder, JointEncoder):
        for start in range(0, len(paths), chunk_size):
            chunk = tuple(paths[start : start + chunk_size])
            parts = [
                encode_images(
                    part,
                    chunk,
                    views=views,
                    store=store,
                    strict=strict,
                    batch_size=batch_size,
                    workers=workers,
                    label=f"{label} by {part.spec}",
                )
                for part in encoder.parts
            ]
            yield chunk, _side_by_side(parts)
        return
    if isinstance(encoder, DerivedEncoder):
        chunks = stream_images(
            encoder.base,
            paths,
            views=views,
            store=store,
            strict=strict,
            chunk_size=chunk_size,
            batch_size=batch_size,
            workers=workers,
            label=label,
        )
        for chunk, encoded in chunks:
            yield chunk, replace(encoded, features=encoder.derive(encoded.features))
        return
    ahead = max(2, 2 * batch_size // len(views))
    prepared = prepare_ahead(encoder, paths, views, store, ahead, workers)
    with progress(label, len(paths)) as advance, closing(prepared):
        for start in range(0, len(paths), chunk_size):
            chunk = tuple(paths[start : start + chunk_size])
            gathering = _Chunk(encoder, views, store, batch_size, len(chunk))
            shown = 0
            for position, future in enumerate(islice(prepared, len(chunk))):
                try:
                    image = future.result()
                except InputError as error:
                    if strict:
                        raise
                    gathering.skipped.append((chunk[position], str(error)))
                else:
                    gathering.add(position, image)
                if not gathering.waiting:
                    advance(position + 1 - shown)
                    shown = position + 1
            result = gathering.finish()
            advance(len(chunk) - shown)
            yield chunk, result


def _side_by_side(parts: Sequence[EncodedImages]) -> EncodedImages:
    """Join what several encoders made of the same images: those that all of them could see."""
    # One could, and another could not, where a file vanished in between.
    kept = reduce(np.intersect1d, [part.kept for part in parts])
    features = [part.features[np.isin(part.kept, kept)] for part in parts]
    first = parts[0]
    skipped = dict.fromkeys(one for part in parts for one in part.skipped)
    return EncodedImages(
        features=np.concatenate(features, axis=2),
        kept=kept,
        digests=tuple(np.array(first.digests, dtype=object)[np.isin(first.kept, kept)]),
        encoded=sum(part.encoded for part in parts),
        reused=sum(part.reused for part in parts),
        skipped=tuple(skipped),
    )


class _Chunk:
    """The features of one chunk while they come together."""

    def __init__(
        self,
        encoder: Encoder,
        views: Sequence[View],
        store: FeatureStore | None,
        batch_size: int,
        size: int,
    ) -> None:
        self.encoder = encoder
        self.identities = [view.identity for view in views]
        self.store = store
        self.batch_size = batch_size
        self.features = np.empty((size, len(views), encoder.dim), np.float32)
        self.kept: list[int] = []
        self.digests: list[str] = []
        self.skipped: list[tuple[Path, str]] = []
        # Pixels that the model has not seen yet, by view identity and digest; where the vector of
        # each view and image is (or will be) in features; and which places take a copy of it.
        self.waiting: dict[tuple[str, str], npt.NDArray[np.uint8]] = {}
        self.places: dict[tuple[str, str], tuple[int, int]] = {}
        self.copies: list[tuple[tuple[int, int], tuple[int, int]]] = []
        # Pixels that another process is encoding: its features will do.
        self.elsewhere: dict[tuple[str, str], npt.NDArray[np.uint8]] = {}
        self.encoded = 0

    def add(self, row: int, image: Prepared) -> None:
        self.kept.append(row)
        self.digests.append(image.digest)
        for column, identity in enumerate(self.identities):
            key = (identity, image.digest)
            if identity in image.vectors:
                self.features[row, column] = image.vectors[identity]
            elif key in self.places:
                self.copies.append(((row, column), self.places[key]))
            else:
                self.places[key] = (row, column)
                self.waiting[key] = image.pixels[identity]
                if len(self.waiting) == self.batch_size:
                    self._encode()

    def finish(self) -> EncodedImages:
        if self.waiting:
            self._encode()
        while self.elsewhere:
            self._look_again()
        for target, source in self.copies:
            self.features[target] = self.features[source]
        complete = len(self.kept) == len(self.features)
        return EncodedImages(
            features=self.features if complete else self.features[self.kept],
            kept=np.asarray(self.kept, np.int64),
            digests=tuple(self.digests),
            encoded=self.encoded,
            reused=len(self.kept) * len(self.identities) - self.encoded,
            skipped=tuple(self.skipped),
        )

    def _encode(self) -> None:
        self._encode_mine()
        # Pixels of a few batches may be kept; more would fill the memory.
        while len(self.elsewhere) > MOST_ELSEWHERE * self.batch_size:
            self._look_again()

    def _encode_mine(self) -> None:
        """Encode what waits, except what another process has begun."""
        fingerprint, dim = self.encoder.fingerprint, self.encoder.dim
        if self.store is not None:
            mine = self.store.claim(fingerprint, [*self.waiting], dim)
            for key in [key for key in self.waiting if key not in mine]:
                self.elsewhere[key] = self.waiting.pop(key)
        if not self.waiting:
            return
        try:
            self._run_model()
        except BaseException:
            if self.store is not None:
                self.store.release(fingerprint, self.waiting)
            raise
        self.waiting.clear()

    def _look_again(self) -> None:
        """Take what other processes have encoded meanwhile; encode what they have given up."""
        assert self.store is not None
        before, encoded = len(self.elsewhere), self.encoded
        for identity in self.identities:
            digests = [digest for view, digest in self.elsewhere if view == identity]
            fingerprint, dim = self.encoder.fingerprint, self.encoder.dim
            for digest, vector in self.store.images(fingerprint, identity, digests, dim).items():
                self.features[self.places[identity, digest]] = vector
                del self.elsewhere[identity, digest]
        if len(self.elsewhere) == before:
            self.waiting = dict(islice(self.elsewhere.items(), self.batch_size))
            for key in self.waiting:
                del self.elsewhere[key]
            self._encode_mine()
            if self.encoded == encoded:
                time.sleep(PAUSE_S)

    def _run_model(self) -> None:
        vectors: npt.NDArray[Any] = self.encoder.encode_images(np.stack([*self.waiting.values()]))
        # Checked here, because the store would give them back for ever.
        if not np.isfinite(vectors).all():
            raise HandfulError(
                f"the encoder {self.encoder.spec} gave NaN or infinity for an image: its weights "
                "may be damaged, or its number format too narrow; use float32."
            )
        batch = dict(zip(self.waiting, vectors, strict=True))
        for key, vector in batch.items():
            self.features[self.places[key]] = vector
        if self.store is not None:
            self.store.add_images(self.encoder.fingerprint, batch)
        self.encoded += len(batch)
