"""Accuracies that others published of a checkpoint, to check one's own set-up against."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from handful.datasets.catalogue import entry_named
from handful.encoders.known_answers import name_of_spec, named
from handful.errors import InputError, did_you_mean

__all__ = ["Number", "Table", "checkpoint_named", "checkpoint_of", "numbers_for", "published"]


@dataclass(frozen=True)
class Number:
    """What a method reaches in print; ``published.toml`` says what each field means.

    Attributes:
        by: accuracy by data set, 0 to 1.
    """

    method: str
    checkpoint: str
    source: str
    trust: str
    by: Mapping[str, float]
    doubts: Mapping[str, str]
    shots: int = 0
    seeds: tuple[int, ...] = ()
    views: int = 0


@dataclass(frozen=True)
class Table:
    """All that is known.

    Attributes:
        style: of the preprocessing, ``clip`` or ``coop``.
        templates: set of templates by data set, where it is not the set's own.
        checkpoints: encoder by the name that tables give it.
        numbers: one for each method and checkpoint.
    """

    style: str
    templates: Mapping[str, str]
    checkpoints: Mapping[str, str]
    numbers: tuple[Number, ...]

    def templates_of(self, dataset: str) -> str:
        """Return the set of templates that the numbers of a data set were made with."""
        return self.templates.get(dataset, entry_named(dataset).templates)


@cache
def published() -> Table:
    """Return what ``published.toml`` holds."""
    text = resources.files("handful.benchmark.verify").joinpath("published.toml").read_text("utf-8")
    table = tomllib.loads(text)
    numbers = [
        Number(
            **{**one, "seeds": tuple(one.get("seeds", ())), "doubts": one.get("doubts", {})}
            | {"by": {name: value / 100 for name, value in one["by"].items()}}
        )
        for one in table["number"]
    ]
    return Table(table["style"], table["templates"], table["checkpoints"], tuple(numbers))


def numbers_for(dataset: str, checkpoint: str) -> list[Number]:
    """Return the numbers of a data set and checkpoint; zero-shot comes first, where there is one.

    Raises:
        InputError: there are none; the message names those that there are.
    """
    table = published()
    found = [n for n in table.numbers if n.checkpoint == checkpoint and dataset in n.by]
    if found:
        return found
    sets = dict.fromkeys(name for n in table.numbers for name in n.by)
    raise InputError(
        f"no trusted accuracy of {checkpoint} on {dataset} is published: there are numbers of"
        f" {' and '.join(table.checkpoints)} on {', '.join(sets)}."
    )


def checkpoint_named(name: str) -> str:
    """Return a checkpoint as tables spell it; case, hyphens and slashes do not count.

    Raises:
        InputError: there are no numbers of it.
    """
    known = {_plain(one): one for one in published().checkpoints}
    if _plain(name) not in known:
        raise InputError(
            f"no trusted accuracies of the checkpoint '{name}' are published: expected"
            f" {' or '.join(known.values())}.{did_you_mean(name, known.values())}"
        )
    return known[_plain(name)]


def checkpoint_of(spec: str) -> str | None:
    """Return the checkpoint that an encoder's spec names; None where it tells nothing."""
    answers = named(spec)
    for checkpoint, known in published().checkpoints.items():
        if name_of_spec(spec) == name_of_spec(known) or (answers and answers is named(known)):
            return checkpoint
    return None


def _plain(name: str) -> str:
    return name.lower().replace("/", "-").replace("_", "-")
