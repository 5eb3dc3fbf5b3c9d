"""Pictures made ready beside the model, a little ahead of it.

A pool of threads reads, hashes, looks up, decodes and prepares images while the model works in the
calling thread (both let go of Python's lock). What waits between the two is at most a few batches
of pixels, however many images there are.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from handful.encoders.decode import open_image
from handful.encoders.protocol import Encoder
from handful.encoders.views import View
from handful.errors import InputError
from handful.features.store import FeatureStore

__all__ = ["Prepared", "prepare_ahead"]


@dataclass(frozen=True)
class Prepared:
    """One image, read: by view identity, either its vector or the pixels to make it from."""

    digest: str
    vectors: dict[str, npt.NDArray[np.float32]]
    pixels: dict[str, npt.NDArray[np.uint8]]


def prepare_ahead(
    encoder: Encoder,
    paths: Sequence[Path],
    views: Sequence[View],
    store: FeatureStore | None,
    ahead: int,
    workers: int,
) -> Generator[Future[Prepared], None, None]:
    """Yield the images in order, with at most ``ahead`` of them prepared or in preparation."""
    with ThreadPoolExecutor(workers, thread_name_prefix="handful-prepare") as pool:
        waiting: deque[Future[Prepared]] = deque()
        try:
            for path in paths:
                waiting.append(pool.submit(_prepare, encoder, path, views, store))
                if len(waiting) == ahead:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for future in waiting:
                future.cancel()


def _prepare(
    encoder: Encoder, path: Path, views: Sequence[View], store: FeatureStore | None
) -> Prepared:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    digest = hashlib.sha256(content).hexdigest()
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    if store is not None:
        for view in views:
            found = store.images(encoder.fingerprint, view.identity, [digest], encoder.dim)
            if found:
                vectors[view.identity] = found[digest]
    missing = [view for view in views if view.identity not in vectors]
    pixels: dict[str, npt.NDArray[np.uint8]] = {}
    if missing:
        image = open_image(content, str(path))
        for view in missing:
            pixels[view.identity] = encoder.preprocess(image, view, digest)
    return Prepared(digest, vectors, pixels)
