"""Labelled images, and the splits that they come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from handful.datasets.dataset_images import DatasetImages
from handful.errors import InputError

__all__ = ["SPLIT_WORDS", "ImageSource", "LabelledImages"]

# What people call the three splits, in lower case, and what they are called here.
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Image files with one label each.

    Attributes:
        paths: N image files; a tuple, or the images of a data set, which become files when they are
            asked for.
        labels: int64 ``(N,)``, indices into ``class_names``; read-only.
        class_names: the user's own labels, in label order; a class may have no image here.
        groups: images with equal group belong together (one person, one scene), or None.

    Raises:
        InputError: lengths differ, a label lies outside, or class names are empty or repeated.
    """

    paths: Sequence[Path]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        given = np.asarray(self.labels)
        if given.size and given.dtype.kind not in "iu":
            raise InputError(f"labels have type {given.dtype}: expected integers.")
        labels = given.astype(np.int64)
        labels.setflags(write=False)
        if not isinstance(self.paths, DatasetImages):
            paths = tuple(p if isinstance(p, Path) else Path(p) for p in self.paths)
            object.__setattr__(self, "paths", paths)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if labels.shape != (len(self.paths),):
            raise InputError(
                f"there are {len(self.paths)} images but labels of shape {labels.shape}:"
                " expected one label per image."
            )
        if self.groups is not None:
            object.__setattr__(self, "groups", tuple(self.groups))
            if len(self.groups) != len(self.paths):
                raise InputError(
                    f"there are {len(self.paths)} images but {len(self.groups)} groups:"
                    " expected one group per image."
                )
        if not all(name.strip() for name in self.class_names):
            raise InputError(f"a class name is empty among {list(self.class_names)}: give it one.")
        for name in self.class_names:
            if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that are no UTF-8
                raise InputError(
                    f"the class name {name!a} is not readable text: rename the class folder."
                )
        if len(set(self.class_names)) != len(self.class_names):
            twice = next(name for name in self.class_names if self.class_names.count(name) > 1)
            raise InputError(f"the class name '{twice}' stands for two labels: rename one of them.")
        if labels.size and not 0 <= labels.min() <= labels.max() < len(self.class_names):
            outside = labels.min() if labels.min() < 0 else labels.max()
            raise InputError(
                f"label {outside} has no class name: expected 0 to {len(self.class_names) - 1}."
            )

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> LabelledImages:
        """Return the images at ``indices``, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        rows: list[int] = chosen.tolist()
        paths = self.paths
        return LabelledImages(
            paths.take(rows) if isinstance(paths, DatasetImages) else [paths[i] for i in rows],
            self.labels[chosen],
            self.class_names,
            None if self.groups is None else tuple(self.groups[i] for i in rows),
        )

    def counts(self) -> npt.NDArray[np.int64]:
        """Return the number of images of each class, int64 ``(C,)``."""
        return np.bincount(self.labels, minlength=len(self.class_names)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Images to learn from, and the validation and test images that came with them, if any.

    Attributes:
        train: at least one image of every class.
        validation, test: images of the same classes, or None.
        name: what the user typed.
        to_learn: false where the images are only looked at, not learnt from: then there may be one
            class, and classes without training images.

    Raises:
        InputError: splits with different class names, an image file in two splits; where
            ``to_learn``, fewer than two classes or a class without training images.
    """

    train: LabelledImages
    validation: LabelledImages | None
    test: LabelledImages | None
    name: str
    to_learn: bool = True

    def __post_init__(self) -> None:
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        given = {word: images for word, images in splits.items() if images is not None}
        for word, images in given.items():
            if images.class_names != self.class_names:
                raise InputError(
                    f"{self.name}: the {word} images have other classes than the training images:"
                    " expected the same class names in the same order."
                )
        if self.to_learn:
            self._check_learnable()
        seen: dict[Path, str] = {}
        for word, images in given.items():
            if isinstance(images.paths, DatasetImages):
                continue  # rows, not files: equal images of two splits are one file
            for path in images.paths:
                if seen.setdefault(path, word) != word:
                    raise InputError(
                        f"{self.name}: {path} is both a {seen[path]} and a {word} image:"
                        " an image belongs to one split."
                    )

    def _check_learnable(self) -> None:
        if not len(self.train):
            raise InputError(f"{self.name} has no training images: expected some of every class.")
        if len(self.class_names) < 2:
            raise InputError(
                f"{self.name} has only one class, '{self.class_names[0]}':"
                " a classifier needs images of at least two."
            )
        without = [n for n, k in zip(self.class_names, self.train.counts(), strict=True) if not k]
        if without:
            names = ", ".join(f"'{name}'" for name in without)
            raise InputError(
                f"{self.name} has no training images of {names}:"
                " add some, or remove the validation and test images of these classes."
            )

    def for_test(self) -> LabelledImages:
        """Return what to evaluate on: the test images where there are any, else ``train``."""
        return self.test if self.test is not None else self.train

    @property
    def class_names(self) -> tuple[str, ...]:
        """The user's own labels, in label order."""
        return self.train.class_names
