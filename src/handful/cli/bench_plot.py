"""``handful bench plot``: results files as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from handful.cli.figure_files import checked, forms_of, write_figures
from handful.cli.options import ForceOption, JsonOption
from handful.cli.output import print_json, say
from handful.cli.paper_options import (
    DataOption,
    EncodersOption,
    JobsOption,
    PaperOption,
    PlanOption,
    SeedsOption,
    ShotsOption,
    asked_paper,
    refuse_paper_flags,
    refuse_together,
    results_file,
)
from handful.errors import InputError

if TYPE_CHECKING:
    from handful.benchmark.figures.plot import Drawing
    from handful.benchmark.papers.figures import PaperFigure
    from handful.benchmark.papers.paper import Item, Paper
    from handful.benchmark.papers.wanted import Where

__all__ = ["plot"]


def plot(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RESULTS",
            help="Files that 'bench run' wrote; of a paper, one that is made: PAPER.jsonl.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Left out: named as the first file, with -figures.",
            show_default=False,
        ),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(
            metavar="SETTING",
            help="Accuracy over the values that this setting was given, instead.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="png|svg|both", help="Of the files.")
    ] = "both",
    paper: PaperOption = None,
    number: Annotated[
        str | None,
        typer.Option(
            "--figure", metavar="N", help="Of a paper: which of its figures.", show_default=False
        ),
    ] = None,
    data: DataOption = None,
    plan: PlanOption = None,
    encoders: EncodersOption = None,
    shots: ShotsOption = None,
    seeds: SeedsOption = None,
    jobs: JobsOption = 1,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw accuracy over shots, against time, and gains over zero-shot; or a paper's figure."""
    if paper is not None:
        refuse_together("with --paper", {"--over": over})
        _paper_figure(
            *asked_paper(paper, "figure", number, data, plan, encoders, shots, seeds),
            results_file(paper, results),
            jobs,
            out,
            forms_of(form),
            force,
            as_json,
        )
        return
    refuse_paper_flags("figure", number, data, plan, encoders, shots, seeds, jobs)
    if not results:
        raise InputError(
            "there is nothing to draw: give RESULTS that 'handful bench run' wrote, or --paper."
        )
    from handful.benchmark.figures.plot import drawings, undrawn
    from handful.benchmark.results import read_results
    from handful.benchmark.summary import summarise

    forms = forms_of(form)
    over = over and over.replace("-", "_")
    folder = out or results[0].with_name(f"{results[0].stem}-figures")
    summary = summarise([read_results(path) for path in results])
    found = {one.name: one for one in drawings(summary, over)}
    _write(found, folder, forms, force, list(undrawn(summary, over)), as_json)


def _paper_figure(
    paper: Paper,
    item: Item,
    where: Where,
    results: Path,
    jobs: int,
    out: Path | None,
    forms: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    from handful.benchmark.papers.figures import T_SNE, of_runs, of_test_images
    from handful.benchmark.papers.make import make

    folder = out or results.with_name(f"{results.stem}-figures")
    stem = f"{paper.name}-{item.name.replace(' ', '-')}"
    checked(folder, stem, forms, force)  # said before the work
    if item.kind == T_SNE:
        found, left_out = of_test_images(paper, item, where)
    else:
        made = make(item, where, results, jobs)
        found, left_out = of_runs(paper, item, made)
        left_out = [*made.told, *left_out]
    names = [stem, *(f"{stem}-{n}" for n in range(2, len(found) + 1))]
    _write(dict(zip(names, found, strict=True)), folder, forms, force, left_out, as_json)


def _write(
    figures: Mapping[str, Drawing | PaperFigure],
    folder: Path,
    forms: tuple[str, ...],
    force: bool,
    left_out: Sequence[str],
    as_json: bool,
) -> None:
    """Write figures by the names of their files, and say what was done."""
    files = write_figures({name: one.figure for name, one in figures.items()}, folder, forms, force)
    if as_json:
        told = [
            {
                "file": str(path),
                "kind": one.kind,
                "protocol": one.protocol,
                "select": one.select,
                "sources": list(one.sources),
            }
            for name, one in figures.items()
            for path in files[name]
        ]
        print_json({"out": str(folder), "figures": told, "left_out": list(left_out)})
        return
    for paths in files.values():
        say(", ".join(str(path) for path in paths))
    for sentence in left_out:
        say(sentence)
