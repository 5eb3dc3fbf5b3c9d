"""A folder of class folders: the name of the folder is the label of the images in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image

from handful.datasets.images import SPLIT_WORDS, ImageSource, LabelledImages
from handful.datasets.missing import refuse_missing
from handful.errors import InputError

__all__ = [
    "find_images",
    "image_files",
    "image_suffixes",
    "read_folder",
    "split_folders",
    "sub_folders",
]

# fmt: off
COMMON = (
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif",
    ".avif", ".heic", ".heif",  # where Pillow has the codec
)
# fmt: on
# Folders that operating systems and network drives add by themselves.
NOT_CLASSES = {"__MACOSX", "@eaDir"}


def read_folder(folder: Path, *, to_learn: bool = True) -> ImageSource:
    """Read ``folder/class name/…/image``, or ``folder/{train,val,test}/class name/…/image``.

    The second form is taken when there are sub-folders for ``train`` and for at least one other
    split (``val``, ``valid``, ``validation``, ``test``, in any case) and none besides. Classes are
    sorted by name, the images of a class by their path. Hidden files, files that are no images, and
    images beside the class folders are ignored.

    Args:
        folder: the folder.
        to_learn: see :class:`~handful.datasets.images.ImageSource`.

    Raises:
        InputError: missing, no folder, empty, not laid out like this, one split alone, a class
            without images; where ``to_learn``, only one class, or a class that has no training
            images.
    """
    refuse_missing(folder, "a folder with one sub-folder of images per class")
    if not folder.is_dir():
        raise InputError(
            f"{folder} is a file: expected a folder with one sub-folder of images per class."
        )
    splits = split_folders(folder)
    train = _read_classes(splits.get("train", folder))
    if to_learn and len(train) < 2:
        _refuse_one_class(splits.get("train", folder), next(iter(train)))
    if not splits and len(train) == 1:
        _refuse_split_alone(folder, next(iter(train)))
    names = tuple(train)
    others: dict[str, LabelledImages] = {}
    for split in ("validation", "test"):
        if split in splits:
            classes = _read_classes(splits[split])
            for name in classes:
                if name not in train:
                    raise InputError(
                        f"class folder {splits[split] / name} has no counterpart in"
                        f" {splits['train']}: every class needs training images."
                    )
            others[split] = _labelled(classes, names)
    return ImageSource(
        _labelled(train, names),
        others.get("validation"),
        others.get("test"),
        str(folder),
        to_learn,
    )


def image_files(folder: Path) -> list[Path]:
    """Return the image files in ``folder`` and below, sorted by relative path (POSIX form).

    Links to folders are followed once each, so a circle of links ends; those that lead back up, out
    of ``folder``, are not. Hidden files are left out.

    Raises:
        InputError: a folder cannot be read.
    """
    return _walk(folder)[0]


def find_images(places: Sequence[Path]) -> list[Path]:
    """Return the files among ``places``, whatever their suffix, and all images of its folders.

    Raises:
        InputError: a place does not exist, or a folder holds no images.
    """
    found: list[Path] = []
    for place in places:
        if os.path.isfile(place):  # noqa: PTH113 - first, for a list may be long
            found.append(place)
            continue
        refuse_missing(place, "an image file or a folder of images")
        inside = image_files(place) if place.is_dir() else [place]
        if not inside:
            raise InputError(f"{place} has no images: expected some of {_formats()}.")
        found += inside
    return found


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of common image formats that this Pillow can read, in lower case."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix in COMMON if known.get(suffix) in Image.OPEN)


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each split, or nothing if the sub-folders are classes."""
    inside = sub_folders(folder)
    words = [SPLIT_WORDS.get(entry.name.lower()) for entry in inside]
    if None in words or "train" not in words or len(inside) < 2:
        return {}
    if len(set(words)) < len(words):
        names = ", ".join(f"'{entry.name}'" for entry in inside)
        raise InputError(f"{folder} has two folders for one split among {names}: merge them.")
    return {str(word): entry for word, entry in zip(words, inside, strict=True)}


def _read_classes(folder: Path) -> dict[str, list[Path]]:
    classes = sub_folders(folder)
    if not classes:
        _refuse_no_classes(folder)
    found = {}
    for class_folder in classes:
        images, others = _walk(class_folder)
        if not images:
            inside = f", only {len(others)} other file(s) like '{others[0].name}'" if others else ""
            raise InputError(
                f"class folder {class_folder} has no images{inside}:"
                f" add some ({_formats()}), or remove the folder."
            )
        found[class_folder.name] = images
    return found


def _labelled(classes: dict[str, list[Path]], names: Sequence[str]) -> LabelledImages:
    rows = [(path, label) for label, name in enumerate(names) for path in classes.get(name, [])]
    return LabelledImages(
        tuple(path for path, _ in rows),
        np.array([label for _, label in rows], dtype=np.int64),
        tuple(names),
    )


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return images and other visible files below ``folder``, each sorted."""
    images: list[Path] = []
    others: list[Path] = []
    # A link that leads back up would give this folder the images of its neighbours.
    visited = set(folder.resolve().parents)
    for here, folders, files in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        real = Path(here).resolve()
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not _ignored(name))
        for path in (Path(here, name) for name in files if not _ignored(name)):
            # A link to nothing or a pipe, too: whoever reads it says what is wrong with it.
            (images if path.suffix.lower() in image_suffixes() else others).append(path)

    def order(path: Path) -> str:
        return path.relative_to(folder).as_posix()

    return sorted(images, key=order), sorted(others, key=order)


def sub_folders(folder: Path) -> list[Path]:
    """Return the visible folders in ``folder``, sorted by name.

    Raises:
        InputError: it cannot be read, or holds a link that leads nowhere.
    """
    try:
        inside = sorted(entry for entry in folder.iterdir() if not _ignored(entry.name))
    except OSError as error:
        _refuse_unreadable(error)
    for entry in inside:
        if entry.is_symlink() and not entry.exists():
            raise InputError(f"{entry} is a link that leads nowhere: mend it, or remove it.")
    return [entry for entry in inside if entry.is_dir()]


def _ignored(name: str) -> bool:
    return name.startswith(".") or name in NOT_CLASSES


def _formats() -> str:
    return ", ".join(suffix for suffix in COMMON if suffix in image_suffixes())


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _refuse_no_classes(folder: Path) -> NoReturn:
    images, others = _walk(folder)
    layout = f"expected one sub-folder per class, like {folder / 'cat' / 'image.jpg'}"
    if images:
        raise InputError(f"{len(images)} image(s) lie directly in {folder}: {layout}.")
    raise InputError(f"{folder} {'has no class folders' if others else 'is empty'}: {layout}.")


def _refuse_split_alone(folder: Path, name: str) -> None:
    """Refuse a folder of which nothing is there but one split: its images are of many classes."""
    if name.lower() in SPLIT_WORDS and sub_folders(folder / name):
        raise InputError(
            f"{folder} has only the folder '{name}', which is a split and no class: give"
            f" {folder / name}, whose folders are the classes."
        )


def _refuse_one_class(folder: Path, name: str) -> NoReturn:
    inside = sub_folders(folder / name)
    hint = f"; if the classes are the folders in it, give {folder / name}" if inside else ""
    raise InputError(
        f"{folder} has only one class folder, '{name}':"
        f" a classifier needs images of at least two classes{hint}."
    )
