"""Data sets of the Hugging Face hub, or in its formats on disk: ``hf:NAME``.

The package ``datasets`` (extra ``datasets``) reads them. It runs no code that comes with a data
set; releases that would have done so are too old for the extra.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handful.datasets.dataset_images import DatasetImages
from handful.datasets.hugging_face_load import load_folder, load_from_hub, need_datasets
from handful.datasets.images import SPLIT_WORDS, ImageSource, LabelledImages
from handful.datasets.missing import exists, refuse_missing
from handful.errors import InputError, did_you_mean

__all__ = ["read_dataset"]

FORMS = "hf:OWNER/NAME, hf:OWNER/NAME:CONFIG@REVISION, or hf:FOLDER"
CHOICES = ("label", "image")  # columns that may be chosen after a question mark
LABEL_COLUMNS = ("label", "labels", "class")


@dataclass(frozen=True)
class _Split:
    """Images of one split, and the name of the class of each."""

    images: DatasetImages
    labels: list[str]
    classes: list[str]  # in label order; some may have no image


def read_dataset(text: str, *, to_learn: bool = True) -> ImageSource:
    """Read ``hf:OWNER/NAME`` of the hub, or ``hf:FOLDER``.

    ``:CONFIG`` and ``@REVISION`` may follow a name. A folder is one of images, one that
    ``save_to_disk`` wrote, or one of Parquet files with images in them; a single such file will do.
    Splits have their usual names (``SPLIT_WORDS``), others are not looked at; a split alone is for
    training, unless its name says otherwise. Images are the only column of images. Labels are the
    column ``label`` (``labels``, ``class``), else the only one of class labels. ``?label=COLUMN``
    and ``?image=COLUMN`` at the end choose others.

    Args:
        text: what the user typed.
        to_learn: see :class:`~handful.datasets.images.ImageSource`; the test images, which may
            have no labels, are not looked at then.

    Raises:
        InputError: the package is missing, nothing is there, the hub does not give it, there is no
            column of images or of labels or it is not clear which, a row has no label, two splits
            are one; what :class:`~handful.datasets.images.ImageSource` refuses.
    """
    named, chosen = _columns_chosen(text)
    splits = _load(text, named)
    found = {
        word: _read_split(f"{text}, split {split}", rows, chosen)
        for word, (split, rows) in _by_word(text, splits).items()
        if not (to_learn and word == "test")
    }
    labels = {label for split in found.values() for label in split.labels}
    classes = next(iter(found.values())).classes if found else []
    names = tuple(
        [name for name in classes if name in labels] if labels <= {*classes} else sorted(labels)
    )
    empty = LabelledImages((), np.empty(0, dtype=np.int64), names)
    parts = {word: _labelled(split, names) for word, split in found.items()}
    return ImageSource(
        parts.get("train", empty), parts.get("validation"), parts.get("test"), text, to_learn
    )


def _columns_chosen(text: str) -> tuple[str, dict[str, str]]:
    named, _, rest = text.removeprefix("hf:").partition("?")
    chosen = {}
    for part in rest.split("&") if rest else ():
        choice, _, column = part.partition("=")
        if choice not in CHOICES or not column:
            raise InputError(
                f"'{part}' of {text} chooses nothing: after the question mark come label=COLUMN or"
                f" image=COLUMN.{did_you_mean(choice, CHOICES)}"
            )
        chosen[choice] = column
    return named, chosen


def _load(text: str, named: str) -> Mapping[str, Any]:
    parts = re.fullmatch(r"(.+?)(?::([^:@]+))?(?:@([^@]+))?", named)
    if not parts:
        raise InputError(f"'{text}' names no data set: expected {FORMS}.")
    name, config, revision = (named, None, None) if exists(Path(named)) else parts.groups()
    path = Path(name).expanduser()
    is_local = exists(path)
    if not is_local and not re.fullmatch(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?", name):
        refuse_missing(path, f"a folder, or a name of a data set as in {FORMS}")
    need_datasets(text)
    if is_local:
        return load_folder(path, config)
    return load_from_hub(name, config, revision)


def _by_word(text: str, splits: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return name and rows of each split by what it is called here."""
    found: dict[str, tuple[str, Any]] = {}
    for split, rows in splits.items():
        word = SPLIT_WORDS.get(split.lower(), "train" if len(splits) == 1 else "")
        if word in found:
            raise InputError(
                f"{text} has two splits for one, '{found[word][0]}' and '{split}': it cannot be"
                " used as it is."
            )
        if word:
            found[word] = (split, rows)
    if not found:
        names = ", ".join(f"'{split}'" for split in splits) or "none"
        raise InputError(f"{text} has the splits {names}: expected train, validation or test.")
    return found


def _read_split(name: str, rows: Any, chosen: Mapping[str, str]) -> _Split:
    from datasets import ClassLabel, Image

    for column in chosen.values():
        if column not in rows.features:
            raise InputError(
                f"{name}: there is no column '{column}' among {_listed(rows.features)}."
                f"{did_you_mean(column, rows.features)}"
            )
    image = chosen.get("image") or _image_column(name, rows.features)
    label = chosen.get("label") or _label_column(name, rows.features)
    kind = rows.features[label]
    classes = list(kind.names) if isinstance(kind, ClassLabel) else []
    labels = []
    for row, value in enumerate(_values(rows, label), start=1):
        if value is None or value == "" or (classes and value == -1):
            raise InputError(f"{name}: row {row} has no label in its column '{label}'.")
        if not isinstance(value, str | int) or (classes and not 0 <= int(value) < len(classes)):
            raise InputError(
                f"{name}: row {row} has {value!r:.40} in its column '{label}': expected one label,"
                " a text or a whole number."
            )
        labels.append(classes[int(value)] if classes else str(value).strip())
    undecoded = rows.cast_column(image, Image(decode=False))
    return _Split(DatasetImages(undecoded, image, name), labels, classes)


def _values(rows: Any, column: str) -> Any:
    return rows.select_columns([column]).with_format("arrow")[:][column].to_pylist()


def _image_column(name: str, features: Mapping[str, Any]) -> str:
    from datasets import Image, Value

    def holds_images(feature: Any) -> bool:
        # Parquet files that others than datasets wrote have the bytes without saying what they are.
        return (
            isinstance(feature, Image)
            or feature == Value("binary")
            or (isinstance(feature, dict) and {"bytes", "path"} <= feature.keys())
        )

    found = [column for column, feature in features.items() if holds_images(feature)]
    if len(found) != 1:
        listed = _listed(features)
        if not found:
            raise InputError(f"{name}: there is no column of images among {listed}.")
        raise InputError(
            f"{name}: which column has the images is not clear among {listed}: choose one with"
            " ?image=COLUMN at the end."
        )
    return found[0]


def _label_column(name: str, features: Mapping[str, Any]) -> str:
    from datasets import ClassLabel

    of_classes = [column for column, kind in features.items() if isinstance(kind, ClassLabel)]
    for column in LABEL_COLUMNS:
        if column in features:
            return column
    if len(of_classes) != 1:
        raise InputError(
            f"{name}: which column has the labels is not clear among {_listed(features)}: choose"
            " one with ?label=COLUMN at the end."
        )
    return of_classes[0]


def _listed(features: Mapping[str, Any]) -> str:
    """Name the columns with what they hold: ``'image' (Image), 'text' (string)``."""
    kinds = {
        name: kind.dtype if type(kind).__name__ == "Value" else type(kind).__name__
        for name, kind in features.items()
    }
    return ", ".join(f"'{name}' ({kind})" for name, kind in kinds.items())


def _labelled(split: _Split, names: tuple[str, ...]) -> LabelledImages:
    label_of = {name: label for label, name in enumerate(names)}
    labels = np.array([label_of[label] for label in split.labels], dtype=np.int64)
    return LabelledImages(split.images, labels, names)
