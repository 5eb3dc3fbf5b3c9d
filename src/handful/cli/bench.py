"""``handful bench``: methods compared under one protocol; runs, tables, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from handful.cli import (
    bench_efficiency,
    bench_plot,
    bench_retrieve,
    bench_table,
    bench_trust,
    bench_tsne,
    bench_verify,
)
from handful.cli.options import (
    CorrectionOption,
    EncoderOption,
    JsonOption,
    PromptsOption,
    SetOption,
    TemplateOption,
    parse_setting,
)
from handful.cli.output import print_json, say

__all__ = ["bench"]

bench = typer.Typer(no_args_is_help=True)


@bench.callback()
def _bench() -> None:
    """Compare methods: run, table, plot, tsne, efficiency, trust, retrieve, verify."""


@bench.command()
def run(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Results file, .jsonl; appended to.", show_default=False),
    ],
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="PLAN.toml", help="Read the flags below from a file.", show_default=False
        ),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A features file; repeatable.", show_default=False),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGES", help="Images, as 'fit' takes them; repeatable.", show_default=False
        ),
    ] = None,
    encoder: EncoderOption = None,
    correction: CorrectionOption = None,
    templates: TemplateOption = None,
    prompts: PromptsOption = None,
    test_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Of shift and transfer: features or images to test on; repeatable.",
            show_default=False,
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,…",
            help="Left out: all that do not train inside the encoder.",
            show_default=False,
        ),
    ] = None,
    shots: Annotated[
        str | None, typer.Option(metavar="K,…", help="Left out: 1,2,4,8,16.", show_default=False)
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="S,…", help="Left out: 1,2,3.", show_default=False)
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="coop, whu, base-to-new, shift or transfer; left out: coop.",
            show_default=False,
        ),
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(metavar="val|cv|fixed", help="Left out: val.", show_default=False),
    ] = None,
    settings: SetOption = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="trust,strangers",
            help="Measure more than accuracy: calibration, prediction sets and false alarms; "
            "classes left out one at a time.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Processes.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Run what is not in the results file yet."""
    from handful.benchmark.plan import Plan
    from handful.benchmark.plan_file import read_plan
    from handful.benchmark.plan_flags import numbers, words
    from handful.benchmark.runner import run_plan

    flags: dict[str, Any] = {
        "features": tuple(features) if features else None,
        "images": tuple(images) if images else None,
        "encoder": encoder,
        "correction": None if correction is None else str(correction),
        "templates": tuple(templates) if templates else None,
        "prompts": None if prompts is None else str(prompts),
        "test_on": tuple(test_on) if test_on else None,
        "methods": words(methods) if methods else None,
        "shots": numbers(shots, "shots") if shots else None,
        "seeds": numbers(seeds, "seeds") if seeds else None,
        "protocol": protocol,
        "select": select,
        "measure": words(measure) if measure else None,
        "settings": {"all": dict(parse_setting(text) for text in settings)} if settings else None,
    }
    if plan is not None:
        wanted = read_plan(plan, **flags)
    else:
        wanted = Plan(**{key: value for key, value in flags.items() if value is not None})
    ran = run_plan(wanted, out, jobs)
    if as_json:
        print_json({"runs": ran.runs, "there": ran.there, "made": ran.made, "out": str(out)})
    elif not ran.made:
        say(f"Nothing to do: all {ran.runs} runs are in {out}.")
    else:
        say(f"{ran.made} runs made, {ran.there} were there: {ran.runs} in {out}.")
        say(f"Next: handful bench table {out}")


bench.command()(bench_table.table)
bench.command()(bench_plot.plot)
bench.command()(bench_efficiency.efficiency)
bench.command()(bench_trust.trust)
bench.command()(bench_tsne.tsne)
bench.command()(bench_retrieve.retrieve)
bench.command()(bench_verify.verify)
