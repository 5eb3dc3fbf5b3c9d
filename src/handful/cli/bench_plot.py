"""``handful bench plot``: results files as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handful.cli.options import ForceOption, JsonOption
from handful.cli.output import print_json, say
from handful.errors import InputError, did_you_mean

__all__ = ["plot"]


def plot(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS", help="Files that 'bench run' wrote.", show_default=False),
    ],
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
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw accuracy over shots, accuracy against time, and gain over zero-shot."""
    from handful.benchmark.plot import FORMATS, drawings, ready, undrawn, write
    from handful.benchmark.results import read_results
    from handful.benchmark.summary import summarise
    from handful.paths import refuse_existing
    from handful.progress import progress

    forms = FORMATS if form == "both" else (form,)
    if forms[0] not in FORMATS:
        known = (*FORMATS, "both")
        raise InputError(
            f"there is no format '{form}'.{did_you_mean(form, known)} Use one of"
            f" {', '.join(known)}."
        )
    over = over and over.replace("-", "_")
    folder = out or results[0].with_name(f"{results[0].stem}-figures")
    summary = summarise([read_results(path) for path in results])
    wanted = {
        one: [folder / f"{one.name}.{end}" for end in forms] for one in drawings(summary, over)
    }
    for paths in wanted.values():
        for path in paths:
            refuse_existing(path, overwrite=force, folder=False)
    with ready(), progress("drawing", len(wanted), "figures") as advance:
        for one, paths in wanted.items():
            figure = one.figure()
            for path in paths:
                write(figure, path, overwrite=force)
            advance(1)
    left_out = list(undrawn(summary, over))
    if as_json:
        files = [
            {
                "file": str(path),
                "kind": one.kind,
                "protocol": one.tables[0].protocol,
                "select": one.tables[0].select,
                "sources": list(
                    dict.fromkeys(name for table in one.tables for name in table.names)
                ),
            }
            for one, paths in wanted.items()
            for path in paths
        ]
        print_json({"out": str(folder), "figures": files, "left_out": left_out})
        return
    for paths in wanted.values():
        say(", ".join(str(path) for path in paths))
    for sentence in left_out:
        say(sentence)
