"""How the files of standard data sets lie: one reader for each layout of the catalogue."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from handful.datasets.cifar import CifarRows
from handful.datasets.coop import read_split
from handful.datasets.dataset_images import DatasetImages
from handful.datasets.folder import image_files, sub_folders
from handful.datasets.imagenet import imagenet_classes
from handful.datasets.images import LabelledImages
from handful.datasets.missing import exists, file_size, refuse_missing
from handful.errors import InputError

if TYPE_CHECKING:
    from handful.datasets.catalogue import Entry

__all__ = ["LAYOUTS", "Inventory"]

MAX_BYTES = 64 * 2**20  # of a list of names: of a million images


@dataclass
class Inventory:
    """What lies there: images by split, names of classes, and a sentence for all that is wrong."""

    names: tuple[str, ...]
    splits: dict[str, LabelledImages] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, split: str, paths: Sequence[Path], labels: npt.ArrayLike) -> None:
        """Add the images of a split."""
        self.splits[split] = LabelledImages(paths, np.asarray(labels, np.int64), self.names)


def _coop(entry: Entry, home: Path) -> Inventory:
    images = home / entry.images
    source = read_split(home / entry.file, images, check_files=False)
    found = Inventory(tuple(entry.rename.get(name, name) for name in source.class_names))
    for split, part in (("train", source.train), ("val", source.validation), ("test", source.test)):
        if part is not None:
            found.add(split, part.paths, part.labels)
            _look_for(found, split, home / entry.file, images)
    return found


def _lists(entry: Entry, home: Path) -> Inventory:
    """``names`` has a class per line, the list of a split ``stem class name`` per image."""
    images = home / entry.images
    found = Inventory(tuple(line for _, line in _lines(home / entry.names)))
    label_of = {name: label for label, name in enumerate(found.names)}
    for split, (file,) in entry.splits.items():
        rows = []
        for number, line in _lines(home / file):
            stem, _, name = line.partition(" ")
            if name not in label_of:
                raise InputError(
                    f"{home / file}, line {number}, has the class '{name}', which is not in"
                    f" {home / entry.names}: unpack both again."
                )
            rows.append((images / f"{stem}.jpg", label_of[name]))
        found.add(split, [path for path, _ in rows], [label for _, label in rows])
        _look_for(found, split, home / file, images)
    return found


def _look_for(found: Inventory, split: str, file: Path, images: Path) -> None:
    """Look for the images that a file lists; refuse what leads out of their folder."""
    refuse_missing(images, f"the folder with the images that {file} lists")
    paths = found.splits[split].paths
    for path in paths:
        if not path.is_relative_to(images) or ".." in path.relative_to(images).parts:
            raise InputError(
                f"{file} lists {path}: expected only images in {images}; get it again."
            )
        if not os.path.isfile(path):  # noqa: PTH113 - pathlib's raises for too long a name
            found.faults.append(f"{path} is missing")
    if len(set(paths)) < len(paths):
        raise InputError(f"{file} lists an image of split {split} twice: get it again.")


def _folders(entry: Entry, home: Path) -> Inventory:
    """One folder of images per class: by WordNet id, by number, or by name."""
    where = {split: home / folder for split, (folder,) in entry.splits.items()}
    there = {split: {one.name: one for one in _class_folders(w)} for split, w in where.items()}
    keys = {name for folders in there.values() for name in folders}
    known = imagenet_classes()
    if entry.layout == "numbered":  # as numbers: 2 comes before 10
        classes = {str(number): name for number, name in enumerate(known.values())}
    elif entry.layout == "named":
        classes = {key: entry.rename.get(key, key) for key in sorted(keys)}
    else:
        part = entry.classes < len(known)  # then the folders say which classes these are
        classes = {key: name for key, name in known.items() if key in keys or not part}
    found = Inventory(tuple(classes.values()))
    for split, folders in there.items():
        rows: list[tuple[Path, int]] = []
        for label, key in enumerate(classes):
            images = image_files(folders[key]) if key in folders else []
            if not images:
                lack = "has no images" if key in folders else "is missing"
                found.faults.append(f"{where[split] / key} {lack}")
            rows += [(path, label) for path in images]
        found.faults += [
            f"{folders[key]} is no class of {entry.title}"
            for key in sorted({*folders} - {*classes})
        ]
        found.add(split, [path for path, _ in rows], [label for _, label in rows])
    return found


def _class_folders(folder: Path) -> list[Path]:
    refuse_missing(folder, "a folder with one sub-folder of images per class")
    if folder.is_dir() and (inside := sub_folders(folder)):
        return inside
    raise InputError(f"{folder} has no folders: expected one sub-folder of images per class.")


def _cifar(entry: Entry, home: Path) -> Inventory:
    found = Inventory(tuple(line for _, line in _lines(home / entry.names)))
    for split, files in entry.splits.items():
        there = [home / file for file in files if exists(home / file)]
        found.faults += [f"{home / f} is missing" for f in files if home / f not in there]
        if there:
            rows = CifarRows(there, entry.label_bytes, len(found.names))
            found.add(split, DatasetImages(rows, "image", str(home)), rows.labels)
    return found


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return number and text of the lines that are not blank."""
    file_size(path, "a list of the data set", MAX_BYTES)
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8: get it again.") from error
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


LAYOUTS: dict[str, Callable[[Entry, Path], Inventory]] = {
    "coop": _coop,
    "lists": _lists,
    "wordnet": _folders,
    "numbered": _folders,
    "named": _folders,
    "cifar": _cifar,
}
