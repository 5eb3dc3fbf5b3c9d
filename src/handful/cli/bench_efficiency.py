"""``handful bench efficiency``: accuracy beside what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handful.cli.options import ForceOption, JsonOption, MarkdownOption
from handful.cli.text_tables import show

__all__ = ["efficiency"]


def efficiency(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS", help="Files that 'bench run' wrote.", show_default=False),
    ],
    out: MarkdownOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show accuracy beside trained numbers, times and memory."""
    from handful.benchmark.efficiency import efficiency_tables
    from handful.benchmark.results import read_results

    show(efficiency_tables([read_results(path) for path in results]), out, force, as_json)
