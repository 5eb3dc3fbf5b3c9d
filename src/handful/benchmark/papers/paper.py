"""What a paper's tables and figures need, and the numbers that it prints: data, read once.

A paper is one TOML file in this folder, named as its method; ``clip_adapter.toml`` says what each
key means.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from handful.errors import InputError, did_you_mean

__all__ = ["Item", "Paper", "Part", "Printed", "paper_named", "papers"]

SUFFIX = ".toml"


@dataclass(frozen=True)
class Part:
    """Rows of a table that share their prompts: methods and settings, as a plan has them.

    Attributes:
        methods, settings, variants: see :class:`handful.benchmark.plan.Plan`.
        templates: a named set; empty for that of each data set.
    """

    methods: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    templates: str = ""


@dataclass(frozen=True)
class Printed:
    """What the paper prints for one data set and backbone.

    Attributes:
        dataset: in the catalogue.
        encoder: its spec; empty where a table has one only.
        values: by column, a value for each row; text is shown as it is, and empty is nothing.
    """

    dataset: str
    encoder: str
    values: Mapping[str, Sequence[float | str]]


@dataclass(frozen=True)
class Item:
    """A table or a figure of a paper.

    Attributes:
        name: such as ``table 6``.
        title: what it is about.
        datasets: of the catalogue, in the paper's order.
        encoders: specs.
        parts: of its rows.
        shots, seeds, protocol, select, test_on: as in a plan; tested on are data sets.
        columns: of a table.
        of_rows: what the rows of a table are.
        rows: what the paper calls them, in the order of the runs.
        published: numbers.
        flags: what does not agree within the paper.
        notes: what ours does in another way.
        kind: of a figure.
        over: setting that a figure of the kind ``over`` is drawn over.
    """

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    parts: tuple[Part, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    protocol: str
    select: str
    columns: tuple[str, ...]
    of_rows: str
    test_on: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    published: tuple[Printed, ...] = ()
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kind: str = ""
    over: str = ""


@dataclass(frozen=True)
class Paper:
    """A paper: what to cite, and its tables and figures by name."""

    name: str
    title: str
    citation: str
    about: str
    tables: Mapping[str, Item]
    figures: Mapping[str, Item]

    def table(self, name: str) -> Item:
        """Return a table.

        Raises:
            InputError: there is none of this name.
        """
        return self._one("table", self.tables, name)

    def figure(self, name: str) -> Item:
        """Return a figure.

        Raises:
            InputError: there is none of this name.
        """
        return self._one("figure", self.figures, name)

    def _one(self, what: str, items: Mapping[str, Item], name: str) -> Item:
        if name not in items:
            raise InputError(
                f"the paper {self.name} has no {what} '{name}' here:{did_you_mean(name, items)}"
                f" expected one of {', '.join(items)}."
            )
        return items[name]


@cache
def papers() -> dict[str, Paper]:
    """Return all papers by name."""
    found = {}
    for file in sorted(resources.files(__package__).iterdir(), key=lambda one: one.name):
        if file.name.endswith(SUFFIX):
            name = file.name.removesuffix(SUFFIX).replace("_", "-")
            found[name] = _paper(name, tomllib.loads(file.read_text("utf-8")))
    return found


def paper_named(name: str) -> Paper:
    """Return a paper.

    Raises:
        InputError: there is none of this name.
    """
    known = papers()
    if name not in known:
        raise InputError(
            f"the paper '{name}' is not known:{did_you_mean(name, known)} expected one of"
            f" {', '.join(known)}."
        )
    return known[name]


def _paper(name: str, told: Mapping[str, Any]) -> Paper:
    items = {
        what: {key: _item(f"{what} {key}", told["defaults"] | one) for key, one in of.items()}
        for what, of in (("table", told["tables"]), ("figure", told["figures"]))
    }
    facts = {key: told[key] for key in ("title", "citation", "about")}
    return Paper(name, **facts, tables=items["table"], figures=items["figure"])


def _item(name: str, told: Mapping[str, Any]) -> Item:
    parts = tuple(
        Part(tuple(run["methods"]), **{k: v for k, v in run.items() if k != "methods"})
        for run in told["runs"]
    )
    published = tuple(
        Printed(
            one["dataset"],
            one.get("encoder", ""),
            {key: value for key, value in one.items() if key not in ("dataset", "encoder")},
        )
        for one in told.get("published", ())
    )
    rest: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in told.items()
        if key not in ("runs", "published")
    }
    return Item(name, parts=parts, published=published, **rest)
