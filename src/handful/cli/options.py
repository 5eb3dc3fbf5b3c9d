"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from handful.errors import InputError

__all__ = [
    "EncoderOption",
    "ForceOption",
    "JsonOption",
    "ModelArgument",
    "OtherEncoderOption",
    "StrictOption",
    "parse_shots",
]

# The empty metavar keeps typer from showing that a switch takes a value.
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", metavar="", help="One JSON document on standard output, nothing else there."
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", metavar="", help="Overwrite what is there.")]
StrictOption = Annotated[
    bool,
    typer.Option("--strict", metavar="", help="An unreadable image is an error, not a warning."),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="SPEC",
        help="See 'handful encoders'; left out: the one of your configuration, else lite.",
        show_default=False,
    ),
]

OtherEncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="SPEC",
        help="Where the encoder of the classifier lies now, such as dir:FOLDER; for one fitted on "
        "a features file, the encoder of the images.",
        show_default=False,
    ),
]
ModelArgument = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="Folder that 'handful fit' wrote.", show_default=False),
]


def parse_shots(text: str) -> int | Literal["all"]:
    """Return the number of images per class.

    Raises:
        InputError: neither a whole number from 1 nor ``all``.
    """
    if text == "all":
        return "all"
    try:
        shots = int(text)
    except ValueError:
        shots = 0
    if shots < 1:
        raise InputError(f"--shots is '{text}': expected a whole number from 1, or 'all'.")
    return shots
