"""From what the user typed to images and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from handful.datasets.coop import read_split
from handful.datasets.folder import find_images, read_folder, split_folders
from handful.datasets.images import ImageSource
from handful.datasets.missing import exists, refuse_missing
from handful.datasets.table import TABLES, read_table
from handful.errors import InputError

__all__ = ["is_features_file", "open_images", "open_unlabelled", "short_name"]

FORMS = (
    "a folder of class folders, a table (.csv, .parquet) with columns image and label,"
    " coop:SPLIT.json@ROOT, data:NAME@ROOT, or hf:NAME"
)


def open_images(spec: str | Path, *, to_learn: bool = True) -> ImageSource:
    """Read any of the forms that images may be given in (``FORMS``).

    ``data:NAME@ROOT`` is a standard data set of the catalogue under the folder ``ROOT``.

    Args:
        spec: what the user typed.
        to_learn: see :class:`~handful.datasets.images.ImageSource`.

    Raises:
        InputError: nothing is there, it has another form, or the reader refuses it.
    """
    text = str(spec)
    source = _read(text, to_learn)
    return source if source.name == text else replace(source, name=text)


def open_unlabelled(spec: str | Path) -> Sequence[Path]:
    """Return the training images that ``spec`` names, whatever their labels.

    Of a folder these are all images in it, at any depth, also without class folders; of one with
    ``train`` and other splits in it, those of ``train``. Everything else is as for
    :func:`open_images`.

    Raises:
        InputError: nothing is there, or there are no images.
    """
    path = _path(str(spec))
    if not path.is_dir():
        return open_images(spec, to_learn=False).train.paths
    return find_images([split_folders(path).get("train", path)])


def is_features_file(spec: str | Path) -> bool:
    """Return whether this names a file of features, which holds no images."""
    return str(spec).lower().endswith(".safetensors")


def short_name(spec: str | Path) -> str:
    """Return what images are called in tables.

    It is the name of the folder, table or split file; of ``data:NAME@ROOT`` it is NAME, since many
    data sets lie under one root.
    """
    text = str(spec)
    if text.startswith("data:"):
        return text.removeprefix("data:").partition("@")[0]
    if text.startswith("coop:"):
        text = text.removeprefix("coop:").partition(".json@")[0] + ".json"
    return Path(text).stem


def _read(text: str, to_learn: bool) -> ImageSource:
    if text.startswith("coop:"):
        split, at, root = text.removeprefix("coop:").partition(".json@")
        if not (split and at and root):
            raise InputError(f"'{text}' names no split file and image folder: expected {FORMS}.")
        return read_split(_path(split + ".json"), _path(root))
    if text.startswith("data:"):
        from handful.datasets.catalogue import open_dataset

        name, _, root = text.removeprefix("data:").partition("@")
        if not (name and root):
            raise InputError(
                f"'{text}' names no data set and folder: expected data:NAME@ROOT, such as"
                " data:dtd@DATA for what lies in DATA/dtd; 'handful datasets list' has the names."
            )
        return open_dataset(name, _path(root), to_learn=to_learn)
    if text.startswith("hf:"):
        from handful.datasets.hugging_face import read_dataset

        return read_dataset(text, to_learn=to_learn)
    if is_features_file(text):
        raise InputError(f"{text} holds features, not images: expected {FORMS}.")
    path = _path(text)
    if re.match(r"[a-z_]{2,}:", text) and not exists(path):
        raise InputError(f"'{text}' has a form that is not known: expected {FORMS}.")
    refuse_missing(path, FORMS)
    if path.is_dir():
        return read_folder(path, to_learn=to_learn)
    if path.suffix.lower() in TABLES:
        return read_table(path, to_learn=to_learn)
    raise InputError(f"{path} is neither a folder nor a table: expected {FORMS}.")


def _path(text: str) -> Path:
    if not text:
        raise InputError(f"the images have an empty name: expected {FORMS}.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~somebody who has no home here
        raise InputError(f"{text} cannot be found ({error}): give the whole path.") from error
