"""``handful predict``: name and probability of each image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handful.cli.asked import parse_prior, parse_thresholds
from handful.cli.options import JsonOption, ModelArgument, OtherEncoderOption, one_or_several
from handful.cli.output import print_json, say, warn_unverified
from handful.errors import InputError

if TYPE_CHECKING:
    from handful.classifier.answers import Answer

__all__ = ["predict"]

_NEAREST = 3


def predict(
    model: ModelArgument,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            help="Image files, folders, patterns such as 'new/**/*.jpg', - for a list of paths on "
            "standard input, or one features file.",
            show_default=False,
        ),
    ],
    top: Annotated[
        int, typer.Option(metavar="N", min=1, help="Show the N most probable labels.")
    ] = 1,
    coverage: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Show a set of labels that holds the true one with this probability, such as 0.9.",
            show_default=False,
        ),
    ] = None,
    unsure: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Say 'unsure' to images that look like none of the classes; of images of the "
            "classes this share, such as 0.05, may be called so, too.",
            show_default=False,
        ),
    ] = None,
    thresholds: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            metavar="P|LABEL=P",
            help="Say 'unsure' below this probability, for all labels or one; repeatable.",
            show_default=False,
        ),
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Show the nearest training images, and what decided.")
    ] = False,
    prior: Annotated[
        str | None,
        typer.Option(
            metavar="uniform|FILE.json",
            help='How frequent the classes are where you predict: {"label": share, …}; left out: '
            "as among the training images.",
            show_default=False,
        ),
    ] = None,
    encoder: OtherEncoderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is in images."""
    least = parse_thresholds(thresholds or ())
    from handful.classifier import FewShotClassifier
    from handful.datasets.named import images_named
    from handful.datasets.source import is_features_file

    classifier = FewShotClassifier.load(model, encoder=one_or_several(encoder))
    asked: dict[str, Any] = {
        "top": top,
        "coverage": coverage,
        "unsure": unsure,
        "why": _NEAREST if why else 0,
        "prior": parse_prior(prior, classifier.classes_),
        "thresholds": least,
    }
    named: Path | list[Path]
    if not is_features_file(images[0]):
        named = images_named(images, sys.stdin.buffer)
    elif len(images) > 1:
        raise InputError(f"{images[0]} is a features file: give it alone.")
    else:
        named = Path(images[0])
    answers = []
    for chunk in classifier.answer_stream(named, **asked):
        for answer in chunk:
            if as_json:
                answers.append(answer.to_json())
            else:
                _tell(answer)
    if as_json:
        print_json(answers)
    warn_unverified(classifier)


def _tell(answer: Answer) -> None:
    ranked = "  ".join(f"{_line(label)} {p:.1%}" for label, p in answer.top)
    if answer.unsure:
        ranked = f"unsure ({answer.reason}); nearest is {ranked}"
    if answer.set is not None:
        ranked += f"  one of: {', '.join(map(_line, answer.set)) or 'none'}"
    say(f"{answer.image}: {ranked}")
    if answer.evidence is not None:
        for one in answer.evidence["nearest"]:
            say(f"    {one['similarity']:.2f} like {one['image']} ({_line(one['label'])})")
        if "names" not in answer.evidence:
            return
        say(
            f"    decided {answer.evidence['names']:.0%} by names, "
            f"{answer.evidence['images']:.0%} by images; names alone say "
            f"{_line(answer.evidence['names_alone'])}"
        )


def _line(label: str) -> str:
    # A label may have line breaks; --json gives it as it is.
    return " ".join(label.split())
