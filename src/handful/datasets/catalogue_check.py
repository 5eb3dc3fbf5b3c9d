"""Whether a data set on disk is what its entry in the catalogue says, file by file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from handful.datasets.catalogue import Entry, entry_named, inventory
from handful.datasets.catalogue_layouts import Inventory
from handful.datasets.missing import refuse_missing
from handful.errors import InputError

__all__ = ["Checked", "check_dataset", "split_digest"]


@dataclass(frozen=True)
class Checked:
    """What was found.

    Attributes:
        entry: what was expected.
        found: images of each split.
        classes: how many there are.
        problems: one sentence each, without its full stop.
        doubts: differences from facts that nobody has confirmed.
    """

    entry: Entry
    found: Mapping[str, int]
    classes: int
    problems: tuple[str, ...]
    doubts: tuple[str, ...]


def check_dataset(name: str, root: Path) -> Checked:
    """Compare files, classes and counts with the catalogue.

    Args:
        name: of the entry.
        root: the folder that holds the data sets.

    Raises:
        InputError: there is no such entry, or no such folder.
    """
    entry = entry_named(name)
    refuse_missing(root, "the folder that holds the data sets")
    try:
        there = inventory(entry, root)
    except InputError as error:  # what should say the rest is missing or damaged
        return Checked(entry, {}, 0, (str(error).rstrip("."),), ())
    problems, doubts = list(there.faults), []
    if len(there.names) != entry.classes:
        problems.append(f"there are {len(there.names)} classes: expected {entry.classes}")
    for what, told in (("counts", _counts), ("per_class", _per_class)):
        unsure = entry.unverified.get(what)
        for sentence in told(entry, there):
            if unsure is None:
                problems.append(sentence)
            else:
                doubts.append(f"{sentence} (a number that is not verified: {unsure})")
    if entry.digest and not problems and split_digest(there, root / entry.folder) != entry.digest:
        problems.append(
            f"{root / entry.folder / entry.file} is not the published split, though its counts are"
            " the same: results cannot be compared with published ones"
        )
    found = {split: len(images) for split, images in there.splits.items()}
    return Checked(entry, found, len(there.names), tuple(problems), tuple(doubts))


def split_digest(there: Inventory, home: Path) -> str:
    """Return the SHA-256 of all lists: split, path, label and name of each image, in order."""
    digest = hashlib.sha256()
    for split, images in there.splits.items():
        for path, label in zip(images.paths, images.labels.tolist(), strict=True):
            line = (split, path.relative_to(home).as_posix(), str(label), there.names[label])
            digest.update("\t".join(line).encode() + b"\n")
    return digest.hexdigest()


def _counts(entry: Entry, there: Inventory) -> list[str]:
    found = {split: len(images) for split, images in there.splits.items()}
    return [
        f"there are {found.get(split, 0):,} {split} images: expected {entry.counts.get(split, 0):,}"
        for split in dict.fromkeys([*entry.counts, *found])
        if found.get(split, 0) != entry.counts.get(split, 0)
    ]


def _per_class(entry: Entry, there: Inventory) -> list[str]:
    return [
        f"class '{name}' has {count} {split} images: expected {expected}"
        for split, expected in entry.per_class.items()
        if split in there.splits
        for name, count in zip(there.names, there.splits[split].counts().tolist(), strict=True)
        if count != expected
    ]
