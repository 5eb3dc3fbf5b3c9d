"""``handful bench table``: results files as tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from handful.cli.options import ForceOption, JsonOption
from handful.cli.output import print_json, say
from handful.errors import InputError, did_you_mean

__all__ = ["table"]


def table(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS", help="Files that 'bench run' wrote.", show_default=False),
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="terminal, markdown, latex, csv or html; left out: as --out ends, else terminal.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write; left out: printed.", show_default=False),
    ] = None,
    interval: Annotated[
        str,
        typer.Option(
            metavar="sd|95",
            help="Behind ±: the standard deviation over seeds, or half the 95% interval.",
        ),
    ] = "sd",
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="What gains and tests are against; left out: zero-shot, and the best.",
            show_default=False,
        ),
    ] = None,
    anchors: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.toml",
            help="Accuracies of published code to put beside; repeatable.",
            show_default=False,
        ),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show results as tables, or write them."""
    from handful.benchmark.anchors import read_anchors
    from handful.benchmark.render import FORMATS, Interval, terminal
    from handful.benchmark.results import read_results
    from handful.benchmark.summary import summarise
    from handful.paths import new_file

    form = _format(form, out)
    if interval not in ("sd", "95"):
        raise InputError(f"--interval is '{interval}': expected sd or 95.")
    meant: Interval = "sd" if interval == "sd" else "95"
    beside = [one for path in anchors or () for one in read_anchors(path)]
    summary = summarise([read_results(path) for path in results], baseline=baseline, anchors=beside)
    if out is not None:
        with new_file(out, overwrite=force) as path:
            path.write_text(FORMATS[form](summary, meant), "utf-8")
    if as_json:
        print_json(_document(summary, out))
    elif out is not None:
        say(f"{len(summary.tables)} table{'s' if len(summary.tables) > 1 else ''} in {out}.")
    elif form == "terminal" and sys.stdout.isatty():
        import shutil

        width = shutil.get_terminal_size().columns
        print(terminal.render(summary, meant, width=width, styled=True), end="")
    else:
        print(FORMATS[form](summary, meant), end="")


def _format(form: str | None, out: Path | None) -> str:
    from handful.benchmark.render import FORMATS, SUFFIXES

    if form is None and out is not None:
        if out.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"{out} does not tell its format: end it with one of {', '.join(SUFFIXES)}, or give"
                " --format."
            )
        return SUFFIXES[out.suffix.lower()]
    if form is not None and form not in FORMATS:
        raise InputError(
            f"there is no format '{form}'.{did_you_mean(form, FORMATS)} Use one of"
            f" {', '.join(FORMATS)}."
        )
    return form or "terminal"


def _document(summary: Any, out: Path | None) -> dict[str, Any]:
    from handful.benchmark.render.records import records

    return {
        "tables": [
            {
                "sources": list(one.names),
                "protocol": one.protocol,
                "select": one.select,
                "seeds": list(one.seeds),
                "shots": list(one.shots),
                "averaged": list(one.averaged),
                "missing": [
                    {"method": m.label, "shots": m.shots, "sources": list(m.sources)}
                    for m in one.missing
                ],
                "numbers": list(records(one)),
            }
            for one in summary.tables
        ],
        "out": None if out is None else str(out),
    }
