"""All images of a data set as a protocol draws from them, whether they are encoded or not.

Of ImageNet's 1.28 million training images a plan draws some ten thousand. Of a large data set only
what is drawn or tested on is encoded; but it is drawn from all of them, and what the source is
called by is the same whatever a plan draws.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from handful.datasets.dataset_images import DatasetImages
from handful.datasets.images import ImageSource, LabelledImages
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.features.embed import rows_of
from handful.tuning.prompts import Prompts

__all__ = ["LARGE", "Listing", "Needed", "Thinned", "among", "tested_alone", "thinned"]

LARGE = 100_000  # training images; with more, only those that are needed are encoded

Rows = npt.NDArray[np.int64]
Row = tuple[int, Path, int]


@dataclass(frozen=True, eq=False)
class Listing:
    """What a protocol must know of a source, before anything of it is encoded.

    Attributes:
        name: what tables call the source.
        labels: int64 ``(N,)``, by class, then by path, where they are of image files.
        split: int64 ``(N,)``: 0 = pool for support, 1 = validation, 2 = test.
        class_names: C names.
    """

    name: str
    labels: Rows
    split: Rows
    class_names: tuple[str, ...]


Needed = Callable[[Listing], Rows]
"""Which images of a data set are needed: sorted positions, each once."""


@dataclass(frozen=True, eq=False)
class Thinned:
    """Those images of a data set that are to be encoded.

    Attributes:
        images: alone.
        listing: of all.
        rows: where they are among all, sorted.
        files: SHA-256 of what all files are called and how large they are, and of their labels and
            splits.
    """

    images: ImageSource
    listing: Listing
    rows: Rows
    files: str

    def digest(self, encoder: Encoder, prompts: Prompts) -> str:
        """Return what the source is known by, which is the same whatever is needed of it.

        Args:
            encoder: of its images.
            prompts: of its classes.
        """
        told = (self.files, encoder.fingerprint, self.listing.class_names, prompts.of_class())
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def thinned(images: ImageSource, name: str, needed: Needed) -> Thinned | None:
    """Return what is needed of a large data set of image files; None where all of it is.

    A data set is large with more than ``LARGE`` training images. Without test images all others
    are the test, so that all are needed. Images that lie inside the files of a data set have no
    names to tell them by before they are read: all of them are encoded.

    Args:
        images: all.
        name: in tables.
        needed: says which.

    Raises:
        InputError: an image file is no longer there.
    """
    splits = [s for s in (images.train, images.validation, images.test) if s is not None]
    if len(images.train) <= LARGE or not images.test or any(
        isinstance(split.paths, DatasetImages) for split in splits
    ):  # fmt: skip
        return None
    rows = rows_of(images)
    labels, split = (np.array([row[part] for row in rows], np.int64) for part in (0, 2))
    listing = Listing(name, labels, split, images.class_names)
    chosen = needed(listing)
    some = [rows[place] for place in chosen.tolist()]
    train, validation, test = (
        _labelled([row for row in some if row[2] == part], images) for part in range(3)
    )
    kept = ImageSource(train, validation, test, images.name, to_learn=False)
    return Thinned(kept, listing, chosen, _of(rows))


def tested_alone(images: ImageSource) -> ImageSource:
    """Return the test images without those of other splits, or everything where there are none."""
    if not images.test:
        return images
    return ImageSource(_labelled([], images), None, images.test, images.name, to_learn=False)


def among(rows: Rows, positions: Rows) -> Rows:
    """Return where positions are among sorted rows, without those that are not."""
    return np.searchsorted(rows, positions[np.isin(positions, rows)])


def _labelled(rows: Sequence[Row], images: ImageSource) -> LabelledImages:
    labels = np.array([label for label, _, _ in rows], np.int64)
    return LabelledImages([path for _, path, _ in rows], labels, images.class_names)


def _of(rows: Sequence[Row]) -> str:
    """Return the SHA-256 of a list of files, wherever their folder lies."""
    names = [path.as_posix() for _, path, _ in rows]
    # The folder that the first and the last have in common all others have, too.
    common = os.path.commonprefix((min(names), max(names)))  # noqa: RUF071 - cut at a folder
    start = common.rfind("/") + 1
    digest = hashlib.sha256()
    for (label, path, split), name in zip(rows, names, strict=True):
        try:
            size = path.stat().st_size
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
        line = f"{label} {split} {size} {name[start:]}\0"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
