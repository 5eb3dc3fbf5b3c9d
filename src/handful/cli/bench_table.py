"""``handful bench table``: results files as tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handful.cli.options import ForceOption, JsonOption
from handful.cli.output import print_json, say
from handful.cli.paper_options import (
    DataOption,
    EncodersOption,
    JobsOption,
    NeedsOption,
    PaperOption,
    PlanOption,
    SeedsOption,
    ShotsOption,
    asked_paper,
    refuse_paper_flags,
    refuse_together,
    results_file,
)
from handful.cli.text_tables import show
from handful.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from handful.benchmark.papers.paper import Item, Paper
    from handful.benchmark.papers.wanted import Where

__all__ = ["table"]


def table(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RESULTS",
            help="Files that 'bench run' wrote; of a paper, one that is made: PAPER.jsonl.",
            show_default=False,
        ),
    ] = None,
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
    paper: PaperOption = None,
    number: Annotated[
        str | None,
        typer.Option(
            "--table", metavar="N", help="Of a paper: which of its tables.", show_default=False
        ),
    ] = None,
    data: DataOption = None,
    plan: PlanOption = None,
    encoders: EncodersOption = None,
    shots: ShotsOption = None,
    seeds: SeedsOption = None,
    needs: NeedsOption = False,
    jobs: JobsOption = 1,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show results as tables, or write them; or a paper's table, ours beside the published."""
    if paper is not None:
        refuse_together(
            "with --paper",
            {
                "--format": form,
                "--baseline": baseline,
                "--anchors": anchors,
                "--interval": interval != "sd",
            },
        )
        _paper_table(
            *asked_paper(paper, "table", number, data, plan, encoders, shots, seeds),
            results_file(paper, results),
            needs,
            jobs,
            out,
            force,
            as_json,
        )
        return
    refuse_paper_flags("table", number, data, plan, encoders, shots, seeds, jobs, needs)
    if not results:
        raise InputError(
            "there is nothing to show: give RESULTS that 'handful bench run' wrote, or --paper."
        )
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


def _paper_table(
    paper: Paper,
    item: Item,
    where: Where,
    results: Path,
    needs: bool,
    jobs: int,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    from handful.benchmark.papers.make import make, needs_table
    from handful.benchmark.papers.tables import paper_tables
    from handful.paths import refuse_existing

    if out is not None:
        if _format(None, out) != "markdown":
            raise InputError(f"{out} is no Markdown file, as which a paper's tables are written.")
        refuse_existing(out, overwrite=force, folder=False)  # said before the work
    if needs:
        show([needs_table(paper, item, where, results)], out, force, as_json)
        return
    made = make(item, where, results, jobs)
    show(paper_tables(paper, item, made.needed, made.results), out, force, as_json)
    for sentence in made.told:
        print(sentence, file=sys.stderr)


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
