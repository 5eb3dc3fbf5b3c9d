"""``handful datasets``: the standard data sets, and whether one on disk is complete."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handful.cli.options import JsonOption
from handful.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from handful.datasets.catalogue import Entry

__all__ = ["datasets"]

_MOST = 20  # problems that are shown

datasets = typer.Typer(no_args_is_help=True)
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="See 'handful datasets list'.", show_default=False)
]


@datasets.callback()
def _datasets() -> None:
    """The standard data sets: what is known of them, and whether one on disk is complete."""


@datasets.command("list")
def list_datasets(as_json: JsonOption = False) -> None:
    """List the data sets of the catalogue."""
    from handful.datasets.catalogue import catalogue

    entries = list(catalogue().values())
    if as_json:
        print_json(
            [
                {
                    "name": entry.name,
                    "title": entry.title,
                    "classes": entry.classes,
                    "counts": dict(entry.counts),
                }
                for entry in entries
            ]
        )
        return
    splits = ("train", "val", "test")
    print_table(
        ["name", "what", "classes", *splits],
        [
            [
                entry.name,
                entry.title,
                str(entry.classes),
                *(f"{entry.counts.get(split, 0):,}" for split in splits),
            ]
            for entry in entries
        ],
        wrap=(1,),
    )


@datasets.command()
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Say what is known of a data set: where its files lie, its names, what to cite."""
    from handful.datasets.catalogue import entry_named

    document = _document(entry_named(name))
    if as_json:
        print_json(document)
        return
    for word, value in document.items():
        if value and word != "unverified":
            doubt = document["unverified"].get(word)
            say(f"{word:<11} {_words(value)}{f' (not verified: {doubt})' if doubt else ''}")


@datasets.command()
def check(
    name: NameArgument,
    root: Annotated[
        Path,
        typer.Option(
            "--root",
            metavar="DIR",
            help="The folder that holds the data sets, each in a folder of its own.",
            show_default=False,
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Say exactly what of a data set is missing or miscounted.

    Exit status 1 where something is.
    """
    from handful.datasets.catalogue_check import check_dataset

    found = check_dataset(name, root)
    if as_json:
        print_json(
            {
                "name": found.entry.name,
                "root": str(root),
                "complete": not found.problems,
                "classes": found.classes,
                "found": dict(found.found),
                "expected": dict(found.entry.counts),
                "problems": found.problems[:_MOST],
                "problem_count": len(found.problems),
                "doubts": found.doubts[:_MOST],
                "doubt_count": len(found.doubts),
                "get": found.entry.get,
            }
        )
    else:
        counts = ", ".join(f"{count:,} {split}" for split, count in found.found.items())
        images = f"{found.classes} classes, {counts} images" if counts else "nothing to count"
        verdict = f"{len(found.problems):,} problem(s)" if found.problems else "complete"
        say(f"{found.entry.name}: {verdict} ({images})")
        _say_some(found.problems)
        if found.doubts:
            say(f"In doubt: {len(found.doubts):,}")
            _say_some(found.doubts)
        if found.problems:
            say(f"Where to get it: {found.entry.get}")
            if found.entry.file:
                say(f"{found.entry.file}: {_SPLITS}")
    if found.problems:
        raise typer.Exit(1)


_SPLITS = "https://github.com/KaiyangZhou/CoOp, DATASETS.md"


def _say_some(sentences: tuple[str, ...]) -> None:
    for sentence in sentences[:_MOST]:
        say(f"  {' '.join(sentence.split())}.")
    if len(sentences) > _MOST:
        say(f"  and {len(sentences) - _MOST:,} more.")


def _document(entry: Entry) -> dict[str, Any]:
    from handful.encoders.templates import template_sets

    document = asdict(entry)
    document["templates"] = {entry.templates: template_sets()[entry.templates]}
    return document


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{word}: {_words(inner)}" for word, inner in value.items())
    return ", ".join(value) if isinstance(value, list | tuple) else str(value)
