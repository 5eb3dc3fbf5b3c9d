"""``handful encoders``: what images and names can be encoded with, and whether one is right."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from handful.cli.options import JsonOption
from handful.cli.output import print_json, print_table, say

__all__ = ["encoders"]

encoders = typer.Typer(invoke_without_command=True, no_args_is_help=False)


@encoders.callback()
def list_encoders(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the kinds of encoders, or check one."""
    context.obj = as_json  # for 'handful encoders --json check SPEC'
    if context.invoked_subcommand:
        return
    from handful.encoders.spec import encoder_kinds

    kinds = encoder_kinds()
    if as_json:
        print_json([kind._asdict() for kind in kinds])
    else:
        print_table(
            ["encoder", "what", "here"],
            [[k.pattern, k.what, "yes" if k.available else "no"] for k in kinds],
            wrap=(1,),
        )


@encoders.command()
def check(
    context: typer.Context,
    spec: Annotated[
        str,
        typer.Argument(
            metavar="SPEC", help="The encoder, see 'handful encoders'.", show_default=False
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="For dir: encoders: the public checkpoint that it should be.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare an encoder with known answers: tokens, pixels, text, image.

    Exit status 1 where it is off.
    """
    from handful.encoders import check as checks
    from handful.encoders.known_answers import demand
    from handful.encoders.spec import load_encoder

    if name:
        demand(name)  # before a long download
    result = checks.check(load_encoder(spec), name)
    if as_json or context.obj:
        print_json({"verdict": result.verdict, **asdict(result)})
    else:
        print_table(
            ["stage", "result", "detail"],
            [
                [s.name, s.status, "; ".join(filter(None, (s.detail, s.doubt)))]
                for s in result.stages
            ],
            wrap=(2,),
        )
        say()
        say(checks.one_line(result))
    if result.off:
        raise typer.Exit(1)
