"""The flags of ``bench table`` and ``bench plot`` that name a paper and say where data are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handful.errors import InputError

if TYPE_CHECKING:
    from handful.benchmark.papers.paper import Item, Paper
    from handful.benchmark.papers.wanted import Where

__all__ = [
    "DataOption",
    "EncodersOption",
    "JobsOption",
    "NeedsOption",
    "PaperOption",
    "PlanOption",
    "SeedsOption",
    "ShotsOption",
    "asked_paper",
    "refuse_paper_flags",
    "refuse_together",
    "results_file",
]

PaperOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of a paper, such as clip-adapter.", show_default=False),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="ROOT",
        help="Of a paper: the folder of the data sets; runs that are missing are made.",
        show_default=False,
    ),
]
PlanOption = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="PLAN.toml",
        help="Of a paper: other images, features, shots, settings … in its place.",
        show_default=False,
    ),
]
EncodersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="SPEC",
        help="Of a paper: in place of its backbone; of several, once for each.",
        show_default=False,
    ),
]
ShotsOption = Annotated[
    str | None,
    typer.Option(metavar="K,…", help="Of a paper: in place of its shots.", show_default=False),
]
SeedsOption = Annotated[
    str | None,
    typer.Option(metavar="S,…", help="Of a paper: in place of its seeds.", show_default=False),
]
NeedsOption = Annotated[
    bool, typer.Option("--needs", help="Of a paper: list the runs that it needs, and make none.")
]
JobsOption = Annotated[int, typer.Option(metavar="N", min=1, help="Of a paper: processes.")]


def asked_paper(
    paper: str,
    kind: str,
    name: str | None,
    data: Path | None,
    plan: Path | None,
    encoders: Sequence[str] | None,
    shots: str | None,
    seeds: str | None,
) -> tuple[Paper, Item, Where]:
    """Return what the flags ask for.

    Args:
        paper: its name.
        kind: ``table`` or ``figure``.
        name: of the table or figure.
        data, plan, encoders, shots, seeds: the flags.

    Raises:
        InputError: one of them is wrong.
    """
    from handful.benchmark.papers.paper import paper_named
    from handful.benchmark.papers.wanted import Where
    from handful.benchmark.plan_flags import numbers

    found = paper_named(paper)
    items = found.tables if kind == "table" else found.figures
    if name is None:
        listed = "; ".join(f"{key}: {item.title}" for key, item in items.items())
        raise InputError(f"--{kind} is missing: {paper} has {listed}.")
    item = found.table(name) if kind == "table" else found.figure(name)
    where = Where(
        data,
        plan,
        tuple(encoders or ()),
        numbers(shots, "shots") if shots else (),
        numbers(seeds, "seeds") if seeds else (),
    )
    return found, item, where


def refuse_paper_flags(
    kind: str,
    name: str | None,
    data: Path | None,
    plan: Path | None,
    encoders: Sequence[str] | None,
    shots: str | None,
    seeds: str | None,
    jobs: int,
    needs: bool = False,
) -> None:
    """Refuse flags of a paper where none is named.

    Args:
        kind: ``table`` or ``figure``.
        name: of the table or figure.
        data, plan, encoders, shots, seeds, jobs, needs: the flags.

    Raises:
        InputError: one was given.
    """
    flags = {
        f"--{kind}": name,
        "--data": data,
        "--plan": plan,
        "--encoder": encoders,
        "--shots": shots,
        "--seeds": seeds,
        "--needs": needs,
        "--jobs": jobs > 1,
    }
    refuse_together("without --paper", flags)


def results_file(paper: str, results: Sequence[Path] | None) -> Path:
    """Return the one file that runs of a paper are kept in.

    Raises:
        InputError: several are given.
    """
    if results and len(results) > 1:
        raise InputError(
            f"runs of a paper are kept in one file: give {results[0]}, or {results[1]}."
        )
    return results[0] if results else Path(f"{paper}.jsonl")


def refuse_together(what: str, flags: Mapping[str, Any]) -> None:
    """Refuse flags that were given and mean nothing there.

    Args:
        what: where they mean nothing, such as ``with --paper``.
        flags: by name; those not given are None, false or empty.

    Raises:
        InputError: one was given.
    """
    for name, value in flags.items():
        if value:
            raise InputError(f"{name} means nothing {what}: leave it out.")
