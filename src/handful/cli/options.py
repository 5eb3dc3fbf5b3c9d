"""Options that several verbs share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from handful.errors import InputError

__all__ = [
    "CorrectionOption",
    "EncoderOption",
    "EncodersOption",
    "ForceOption",
    "JsonOption",
    "MarkdownOption",
    "ModelArgument",
    "OtherEncoderOption",
    "PromptsOption",
    "SetOption",
    "StrictOption",
    "TemplateOption",
    "one_or_several",
    "parse_setting",
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
MarkdownOption = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Markdown file to write; left out: printed.", show_default=False
    ),
]
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
CorrectionOption = Annotated[
    Path | None,
    typer.Option(
        "--correction",
        metavar="FILE",
        help="A second image space for comparing images with images, of 'handful correct train'.",
        show_default=False,
    ),
]
EncodersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="SPEC",
        help="See 'handful encoders'; left out: the one of your configuration, else lite. "
        "Repeatable for --method cafo; the first reads the names.",
        show_default=False,
    ),
]

OtherEncoderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="SPEC",
        help="Where the encoder of the classifier lies now, such as dir:FOLDER; for one fitted on "
        "a features file, the encoder of the images. Repeatable where it has several.",
        show_default=False,
    ),
]
ModelArgument = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="Folder that 'handful fit' wrote.", show_default=False),
]
TemplateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        metavar="TEXT|SET",
        help="A prompt with {} for the class name, or a set such as imagenet-7; repeatable. "
        "Left out: what suits the encoder.",
        show_default=False,
    ),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE.json",
        help="Sentences about each class, {class: [sentences]}, as a language model writes; read "
        "instead of the encoder's own template, or after those of --template.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Fix a setting of the method instead of searching it; repeatable.",
        show_default=False,
    ),
]


def one_or_several(given: list[str] | None) -> str | list[str] | None:
    """Return the only value of a repeatable option by itself, several as they are."""
    return given[0] if given and len(given) == 1 else given or None


def parse_setting(text: str) -> tuple[str, Any]:
    """Return name and value of ``NAME=VALUE``.

    Raises:
        InputError: another form.
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InputError(f"--set is '{text}': expected NAME=VALUE, such as --set blend=0.4.")
    name = name.replace("-", "_")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a word: the method knows whether it is one of its own


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
