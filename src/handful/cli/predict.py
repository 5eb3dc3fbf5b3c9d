"""``handful predict``: name and probability of each image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from handful.cli.options import JsonOption, ModelArgument, OtherEncoderOption, one_or_several
from handful.cli.output import print_json, say, warn_unverified
from handful.errors import InputError

__all__ = ["predict"]


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
    encoder: OtherEncoderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is in images."""
    from handful.classifier import FewShotClassifier
    from handful.datasets.named import images_named
    from handful.datasets.source import is_features_file

    classifier = FewShotClassifier.load(model, encoder=one_or_several(encoder))
    if is_features_file(images[0]):
        if len(images) > 1:
            raise InputError(f"{images[0]} is a features file: give it alone.")
        chunks = iter([classifier.predict_features(Path(images[0]))])
    else:
        paths = images_named(images, sys.stdin.buffer)
        chunks = (
            ([str(path) for path in kept], probabilities)
            for kept, probabilities, _ in classifier.predict_stream(paths)
        )
    answers = []
    for names, probabilities in chunks:
        for name, row in zip(names, probabilities, strict=True):
            answer = _answer(name, row, classifier.classes_, top)
            if as_json:
                answers.append(answer)
            else:
                _tell(answer)
    if as_json:
        print_json(answers)
    warn_unverified(classifier)


def _answer(name: str, row: Any, classes: tuple[str, ...], top: int) -> dict[str, Any]:
    order = row.argsort()[::-1][:top]
    ranked = [{"label": classes[c], "probability": float(row[c])} for c in order]
    return {"image": name, **ranked[0], "top": ranked}


def _tell(answer: dict[str, Any]) -> None:
    # A label may have line breaks; --json gives it as it is.
    ranked = "  ".join(
        f"{' '.join(one['label'].split())} {one['probability']:.1%}" for one in answer["top"]
    )
    say(f"{answer['image']}: {ranked}")
