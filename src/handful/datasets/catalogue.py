"""The standard data sets by name: what is known of them, and how one on disk is opened.

What is known stands in ``catalogue.toml``; nothing is ever downloaded.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from handful.datasets.catalogue_layouts import LAYOUTS, Inventory
from handful.datasets.images import ImageSource, LabelledImages
from handful.datasets.missing import refuse_missing
from handful.errors import InputError, did_you_mean

__all__ = ["Entry", "catalogue", "entry_named", "inventory", "open_dataset"]


@dataclass(frozen=True)
class Entry:
    """What is known of a data set; ``catalogue.toml`` says what each field means."""

    name: str
    title: str
    layout: str
    folder: str
    classes: int
    counts: Mapping[str, int]
    templates: str
    citation: str
    licence: str
    get: str
    images: str = ""
    file: str = ""
    names: str = ""
    splits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    label_bytes: int = 0
    per_class: Mapping[str, int] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    naming: str = ""
    digest: str = ""
    note: str = ""
    unverified: Mapping[str, str] = field(default_factory=dict)


@cache
def catalogue() -> dict[str, Entry]:
    """Return all entries by name."""
    text = resources.files("handful.datasets").joinpath("catalogue.toml").read_text("utf-8")
    return {name: Entry(name, **facts) for name, facts in tomllib.loads(text).items()}


def entry_named(name: str) -> Entry:
    """Return an entry; case does not count, and a hyphen is an underscore.

    Raises:
        InputError: there is none of this name.
    """
    known = catalogue()
    key = name.lower().replace("-", "_")
    if key not in known:
        raise InputError(
            f"the data set '{name}' is not in the catalogue: expected one of {', '.join(known)}."
            f"{did_you_mean(key, known)}"
        )
    return known[key]


def inventory(entry: Entry, root: Path) -> Inventory:
    """Return what lies under a data root of a data set.

    Raises:
        InputError: a list or a folder that says what there should be is missing or damaged.
    """
    home = root / entry.folder
    hint = f"; did you mean {root.parent} instead of {root}?" if root.name == entry.folder else ""
    refuse_missing(home, f"the folder of {entry.title} in the folder of all data sets{hint}")
    return LAYOUTS[entry.layout](entry, home)


def open_dataset(name: str, root: Path, *, to_learn: bool = True) -> ImageSource:
    """Open a data set of the catalogue.

    Args:
        name: of the entry.
        root: the folder that holds the data sets, each in the folder that its entry names.
        to_learn: see :class:`~handful.datasets.images.ImageSource`; sets for tests only have no
            training images.

    Raises:
        InputError: there is no such entry, or what lies there is not all of it.
    """
    entry = entry_named(name)
    found = inventory(entry, root)
    faults = list(found.faults)
    if len(found.names) != entry.classes:
        faults.append(f"{root / entry.folder} has {len(found.names)} classes, not {entry.classes}")
    if faults:
        more = f" (and {len(faults) - 1:,} more)" if len(faults) > 1 else ""
        raise InputError(
            f"{faults[0]}{more}: see 'handful datasets check {entry.name} --root {root}'."
        )
    nothing = LabelledImages((), np.empty(0, np.int64), found.names)
    train, validation, test = (found.splits.get(split) for split in ("train", "val", "test"))
    return ImageSource(train or nothing, validation, test, f"data:{name}@{root}", to_learn)
