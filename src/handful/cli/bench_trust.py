"""``handful bench trust``: what runs measured beside accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from handful.cli.options import ForceOption, JsonOption
from handful.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from handful.benchmark.trust_tables import TrustTable

__all__ = ["show", "trust"]


def trust(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS", help="Files that 'bench run' wrote.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Markdown file to write; left out: printed.", show_default=False
        ),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show calibration, prediction sets and strangers of runs with --measure."""
    from handful.benchmark.results import read_results
    from handful.benchmark.trust_tables import trust_tables

    show(trust_tables([read_results(path) for path in results]), out, force, as_json)


def show(tables: Sequence[TrustTable], out: Path | None, force: bool, as_json: bool) -> None:
    """Print tables, or write them in Markdown."""
    from dataclasses import asdict

    from handful.benchmark.trust_tables import markdown
    from handful.paths import new_file

    if out is not None:
        with new_file(out, overwrite=force) as path:
            path.write_text(markdown(tables), "utf-8")
    if as_json:
        print_json({"tables": [asdict(one) for one in tables], "out": str(out) if out else None})
    elif out is not None:
        say(f"{len(tables)} table{'s' if len(tables) > 1 else ''} in {out}.")
    else:
        for one in tables:
            say(one.title)
            say()
            print_table(one.header, one.rows)
            say()
            say(one.note)
            say()
