"""``handful bench verify``: does a set-up give the published numbers, and if not, why."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handful.cli.options import JsonOption
from handful.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from handful.benchmark.verify.judge import Judged, Verified

__all__ = ["verify"]

_MOST = 5  # reasons that are shown


def verify(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A data set, see 'handful datasets list'.", show_default=False
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            metavar="DIR",
            help="The folder that holds the data sets, each in a folder of its own.",
            show_default=False,
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A features file with a test split, instead of --root.",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="See 'handful encoders'; left out: that of --checkpoint. With --features: what "
            "made them, to try other texts and crops.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whose numbers it should give: RN50 or ViT-B/16. Left out: what the encoder is "
            "called, else RN50.",
            show_default=False,
        ),
    ] = None,
    templates: Annotated[
        list[str] | None,
        typer.Option(
            "--template",
            metavar="TEXT|SET",
            help="A prompt with {} for the class name, or a set such as imagenet-7; repeatable. "
            "Left out: that of the published numbers; with --features, what is in the file.",
            show_default=False,
        ),
    ] = None,
    no_head: Annotated[
        bool,
        typer.Option(
            "--no-head", metavar="", help="Zero-shot alone: only test images are encoded."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare zero-shot and a head with the published numbers; say why they differ.

    Exit status 1 where one is off by more than a point.
    """
    from handful.benchmark.verify.judge import judge
    from handful.benchmark.verify.setup import open_setup

    setup = open_setup(
        name,
        root=root,
        features=features,
        encoder=encoder,
        checkpoint=checkpoint,
        templates=templates,
        head=not no_head,
    )
    found = judge(setup)
    if as_json:
        print_json(_document(found))
    else:
        _tell(found)
    if not found.ok:
        raise typer.Exit(1)


def _document(found: Verified) -> dict[str, Any]:
    setup, why = found.setup, found.findings
    return {
        "name": setup.entry.name,
        "checkpoint": setup.checkpoint,
        "encoder": _encoder(found),
        "style": setup.style,
        "templates": None if setup.templates is None else list(setup.templates),
        "ok": found.ok,
        "numbers": [
            {
                "method": one.number.method,
                "shots": one.number.shots,
                "ours": one.ours,
                "published": one.published,
                "difference": one.difference,
                "ok": one.ok,
                "lacking": one.lacking,
                "source": one.number.source,
                "trust": _trust(one),
            }
            for one in found.judged
        ],
        "reasons": [] if why is None else [asdict(one) for one in why.reasons],
        "tried": [] if why is None else [asdict(one) for one in why.tried],
        "not_tried": [] if why is None else [asdict(one) for one in why.not_tried],
    }


def _tell(found: Verified) -> None:
    setup, why = found.setup, found.findings
    style = f", style={setup.style}" if setup.style else ""
    read = "" if not setup.templates else f", '{setup.templates[0]}'"
    more = (
        f" and {len(setup.templates) - 1} more" if setup.templates and setup.templates[1:] else ""
    )
    encoder = _encoder(found)
    say(
        f"{setup.entry.name} with {encoder or 'an encoder that is not told'}{style}{read}{more},"
        f" against {setup.checkpoint}"
    )
    say()
    print_table(
        ["method", "shots", "ours", "published", "difference", "within a point"],
        [
            [
                one.number.method,
                str(one.number.shots),
                "–" if one.ours is None else f"{100 * one.ours:.2f}",
                f"{100 * one.published:.2f}",
                "–" if one.difference is None else f"{100 * one.difference:+.2f}",
                "–" if one.ours is None else "yes" if one.ok else "no",
            ]
            for one in found.judged
        ],
    )
    say()
    for one in found.judged:
        say(f"{one.number.method}: {one.number.source}; trust: {_trust(one)}.")
        if one.lacking:
            say(f"{one.number.method} was not measured: {one.lacking}")
    if why is None:
        some = ", as far as they were measured" if any(one.lacking for one in found.judged) else ""
        say(f"The set-up gives the published numbers{some}.")
        return
    first, *others = why.reasons
    say()
    say(f"The likely reason is the {first.kind}: {first.sentence}.")
    for reason in others[:_MOST]:
        say(f"Else the {reason.kind}: {reason.sentence}.")
    if len(others) > _MOST:
        say(f"And {len(others) - _MOST} more.")
    if why.tried:
        say()
        print_table(
            ["tried", "accuracy", "test images", "as published"],
            [
                [
                    trial.what,
                    f"{100 * trial.accuracy:.2f}",
                    "all" if trial.images is None else f"{trial.images:,}",
                    "yes" if trial.as_published else "no",
                ]
                for trial in why.tried
            ],
            wrap=(0,),
        )
    for sentence in dict.fromkeys(reason.sentence for reason in why.not_tried):
        kinds = ", ".join(one.kind for one in why.not_tried if one.sentence == sentence)
        say(f"Not tried ({kinds}): {sentence}.")


def _encoder(found: Verified) -> str | None:
    setup = found.setup
    return setup.encoder.spec if setup.encoder else setup.source.features.encoder


def _trust(one: Judged) -> str:
    return f"{one.number.trust}; {one.doubt}" if one.doubt else one.number.trust
