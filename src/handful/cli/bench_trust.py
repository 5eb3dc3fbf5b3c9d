"""``handful bench trust``: what runs measured beside accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handful.cli.options import ForceOption, JsonOption, MarkdownOption
from handful.cli.text_tables import show

__all__ = ["trust"]


def trust(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS", help="Files that 'bench run' wrote.", show_default=False),
    ],
    out: MarkdownOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show calibration, prediction sets and strangers of runs with --measure."""
    from handful.benchmark.results import read_results
    from handful.benchmark.trust_tables import trust_tables

    show(trust_tables([read_results(path) for path in results]), out, force, as_json)
