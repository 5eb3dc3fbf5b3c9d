"""CoOp split files: the splits that few-shot papers share, one JSON file per data set.

``{"train": [[path, label, class name], …], "val": […], "test": […]}``; see
https://github.com/KaiyangZhou/CoOp, DATASETS.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from handful.datasets.images import ImageSource, LabelledImages
from handful.datasets.json_file import read_json
from handful.datasets.missing import refuse_missing, refuse_missing_images
from handful.errors import InputError

__all__ = ["read_split"]

MAX_BYTES = 256 * 2**20  # of two million images; what is larger is no split file
FORM = '{"train": [[path, label, class name], …], "val": […], "test": […]}'
Triple = tuple[str, int, str]


def read_split(split: Path, root: Path, *, check_files: bool = True) -> ImageSource:
    """Read a CoOp split file; the order of its lists is kept.

    Args:
        split: the JSON file. ``val`` and ``test`` may be absent or empty.
        root: the folder that its paths are relative to.
        check_files: refuse if an image file is missing under ``root``.

    Raises:
        InputError: a file or ``root`` is missing, the JSON is huge or has another form, labels are
            not 0 to C−1 without gaps, label and name do not correspond one to one, or an image has
            two labels or is twice in a split.
    """
    lists = _lists(split)
    names = _names(split, lists)
    _refuse_repeated(split, lists)
    if check_files:
        refuse_missing(root, f"the folder with the images of {split}")
        paths = [root / path for triples in lists.values() for path, _, _ in triples]
        refuse_missing_images(paths, split, root)
    splits = {
        word: LabelledImages(
            tuple(root / path for path, _, _ in triples),
            np.array([label for _, label, _ in triples], dtype=np.int64),
            names,
        )
        for word, triples in lists.items()
        if triples
    }
    if "train" not in splits:
        raise InputError(f"{split} has no training images: expected {FORM}.")
    return ImageSource(
        splits["train"], splits.get("val"), splits.get("test"), f"coop:{split}@{root}"
    )


def _lists(split: Path) -> dict[str, list[Triple]]:
    content = read_json(split, "a CoOp split file", FORM, MAX_BYTES)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(word, []), list) for word in ("train", "val", "test")
    ):
        raise InputError(f"{split} is not a CoOp split file: expected {FORM}.")
    return {
        word: [_triple(split, word, at, entry) for at, entry in enumerate(content.get(word, []))]
        for word in ("train", "val", "test")
    }


def _triple(split: Path, word: str, at: int, entry: Any) -> Triple:
    match entry:
        case [str(path), int(label), str(name)] if not isinstance(label, bool):
            return path, label, name
    raise InputError(f"{split}: {word}[{at}] is {entry!r:.80}: expected [path, label, class name].")


def _names(split: Path, lists: dict[str, list[Triple]]) -> tuple[str, ...]:
    """Return the class names in label order."""
    name_of: dict[int, str] = {}
    for triples in lists.values():
        for path, label, name in triples:
            if name_of.setdefault(label, name) != name:
                raise InputError(
                    f"{split}: label {label} is '{name_of[label]}', but '{name}' for {path}:"
                    " expected one name per label."
                )
    if sorted(name_of) != list(range(len(name_of))):
        expected = set(range(len(name_of)))
        raise InputError(
            f"{split} has {len(name_of)} labels, but {min(expected - set(name_of))} is not among"
            f" them: expected 0 to {len(name_of) - 1} without gaps."
        )
    return tuple(name_of[label] for label in range(len(name_of)))


def _refuse_repeated(split: Path, lists: dict[str, list[Triple]]) -> None:
    first: dict[str, tuple[str, int]] = {}
    for word, triples in lists.items():
        for at, (path, label, _) in enumerate(triples):
            other, there = first.setdefault(path, (word, at))
            if (other, there) == (word, at):
                continue
            known = lists[other][there][1]
            if known != label:
                raise InputError(
                    f"{split}: {word}[{at}] labels {path} {label}, but {other}[{there}] labels it"
                    f" {known}: an image has one label."
                )
            if other == word:  # two splits: ImageSource refuses that of any source
                raise InputError(
                    f"{split}: {word}[{at}] repeats {path} of {other}[{there}]: remove one of the"
                    " two."
                )
