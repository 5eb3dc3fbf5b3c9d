"""From what the user gave, images or features with labels, to the columns of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from handful.datasets.images import ImageSource, LabelledImages
from handful.datasets.source import open_images
from handful.errors import InputError
from handful.features.contents import Features

__all__ = ["Images", "columns_of", "judged_rows", "source_of"]

Images = str | Path | Sequence[str | Path]
Indices = npt.NDArray[np.int64]


def source_of(
    images: Images | ImageSource, labels: Sequence[str] | None, *, to_learn: bool = True
) -> ImageSource:
    """Return the images that a call of ``fit`` or ``evaluate`` names.

    Args:
        images: a folder, a table, ``coop:SPLIT.json@ROOT``, ``hf:NAME``, images, or a list of
            files.
        labels: one label per file of such a list, and only then.
        to_learn: see :class:`~handful.datasets.images.ImageSource`.

    Raises:
        InputError: nothing is there, or labels are missing or too many.
    """
    if labels is not None and isinstance(images, ImageSource | str | Path):
        raise InputError("labels go with a list of images: a folder or table has its own.")
    if isinstance(images, ImageSource):
        return images
    if isinstance(images, str | Path):
        return open_images(images, to_learn=to_learn)
    if labels is None:
        raise InputError("a list of images needs labels: fit(paths, labels).")
    if len(labels) != len(images):
        raise InputError(f"there are {len(images)} images but {len(labels)} labels.")
    names = tuple(sorted({str(label) for label in labels}))
    position = {name: row for row, name in enumerate(names)}
    rows = np.array([position[str(label)] for label in labels], dtype=np.int64)
    train = LabelledImages(tuple(Path(i) for i in images), rows, names)
    return ImageSource(train, None, None, "the list of images")


def columns_of(images: LabelledImages, classes: Sequence[str]) -> Indices:
    """Return the classifier's column of each class of the images, −1 for a class without images.

    Raises:
        InputError: a class that has images is none of the classifier's.
    """
    position = {name: column for column, name in enumerate(classes)}
    for name, count in zip(images.class_names, images.counts(), strict=True):
        if count and name not in position:
            raise InputError(
                f"class '{name}' is none of the {len(classes)} classes of the classifier "
                f"({', '.join(classes[:5])}{', …' if len(classes) > 5 else ''}): rename it or "
                "leave it out."
            )
    return np.array([position.get(name, -1) for name in images.class_names], dtype=np.int64)


def judged_rows(features: Features, name: str, classes: Sequence[str]) -> tuple[Indices, Indices]:
    """Return the rows of a features file to evaluate on, and their columns.

    These are the rows of the test split, or all where there is none.

    Raises:
        InputError: there are no labels, or they are of other classes than the classifier's.
    """
    if features.labels is None:
        raise InputError(f"{name} has no labels: evaluation needs them.")
    if features.class_names and tuple(features.class_names) != tuple(classes):
        raise InputError(
            f"{name} has other classes than the classifier: expected {len(classes)} "
            f"from '{classes[0]}' to '{classes[-1]}' in the same order."
        )
    if features.labels.max() >= len(classes):
        raise InputError(
            f"{name} has label {features.labels.max()}: expected 0 to {len(classes) - 1}, the "
            "classes of the classifier."
        )
    rows = np.arange(len(features.labels))
    if features.split is not None and (features.split == 2).any():
        rows = np.flatnonzero(features.split == 2)
    return rows, features.labels[rows]
