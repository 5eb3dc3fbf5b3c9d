"""Pictures made ready beside the model, a little ahead of it.

A pool of threads reads, hashes, looks up, decodes and prepares images while the model works in the
calling thread (both let go of Python's lock). What waits between the two is at most a few batches
of pixels, however many images there are.
"""

from __future__ import annotations

import hashlib
import os
import stat
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

MAX_WORKERS = 8  # a decoded photograph is up to 270 MB


@dataclass(frozen=True, eq=False)
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
    workers: int | None,
) -> Generator[Future[Prepared], None, None]:
    """Yield the images in order, with at most ``ahead`` of them prepared or in preparation.

    ``future.result()`` raises ``InputError`` for an image that cannot be read.

    Args:
        encoder: prepares the pictures, and addresses the store together with ``views``.
        paths: image files.
        views: ways to show each image.
        store: where vectors may be known already.
        ahead: images.
        workers: threads; None takes one per usable core, at most ``MAX_WORKERS``.
    """
    threads = workers if workers is not None else min(MAX_WORKERS, _usable_cores())
    with ThreadPoolExecutor(threads, thread_name_prefix="handful-prepare") as pool:
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


def _usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _prepare(
    encoder: Encoder, path: Path, views: Sequence[View], store: FeatureStore | None
) -> Prepared:
    path = Path(path)
    try:
        # A pipe may never give anything, a device never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(
                f"{path} is a pipe, a device or a folder: expected an image file; save the image "
                "to one first."
            )
        content = path.read_bytes()
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
