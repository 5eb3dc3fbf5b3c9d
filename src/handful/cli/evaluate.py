"""``handful evaluate``: how good a saved classifier is on labelled images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from handful.cli.options import (
    ForceOption,
    JsonOption,
    ModelArgument,
    OtherEncoderOption,
    StrictOption,
    one_or_several,
)
from handful.cli.output import print_json, print_table, say, warn_skipped, warn_unverified

if TYPE_CHECKING:
    from handful.evaluation.report import Evaluation

__all__ = ["evaluate"]


def evaluate(
    model: ModelArgument,
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="Labelled images, as for 'fit'; of several splits, the test split.",
            show_default=False,
        ),
    ],
    coverage: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Also measure prediction sets of this coverage, such as 0.9.",
            show_default=False,
        ),
    ] = None,
    diagram: Annotated[
        Path | None,
        typer.Option(
            "--reliability",
            metavar="FILE",
            help="Draw how sure answers were and how often right, .png or .svg.",
            show_default=False,
        ),
    ] = None,
    encoder: OtherEncoderOption = None,
    force: ForceOption = False,
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure accuracy on labelled images."""
    from handful.classifier import FewShotClassifier
    from handful.report.figures import check_file
    from handful.report.reliability import draw_reliability

    classifier = FewShotClassifier.load(model, encoder=one_or_several(encoder))
    classifier.strict = strict
    if diagram is not None:
        check_file(diagram, overwrite=force)
    found = classifier.evaluate(images, coverage=coverage)
    if found.seen_in_training:
        print(
            f"handful: warning: the classifier was fitted on {found.seen_in_training} of these "
            f"{found.n} images: the accuracy is too high to trust; evaluate on other images.",
            file=sys.stderr,
        )
    if found.seen_by_correction:
        print(
            f"handful: warning: the correction was trained on {found.seen_by_correction} of these "
            f"{found.n} images: the accuracy is too high to trust; evaluate on other images.",
            file=sys.stderr,
        )
    warn_skipped(found.skipped)
    warn_unverified(classifier)
    if diagram is not None:
        before = {"before calibration": found.bins_before} if found.bins_before else {}
        draw_reliability({**before, "as predicted": found.bins}, diagram, overwrite=force)
    if as_json:
        print_json({**found.to_json(), "verified": classifier.verified})
    else:
        _tell(found, len(classifier.classes_))


def _tell(found: Evaluation, classes: int) -> None:
    say(
        f"Accuracy           {found.accuracy:.1%}  "
        f"(90% interval {found.low:.1%} to {found.high:.1%}, {found.n} images)"
    )
    say(f"Calibration error  {found.calibration_error:.1%}")
    if found.sets is not None:
        say(
            f"Prediction sets    hold the true label in {found.sets.coverage:.1%}, "
            f"{found.sets.size:.2f} labels on average"
        )
    if (shown := len(found.per_class)) < classes:
        say(f"Classes            {shown} of {classes} have images; all may be answered")
    say()
    rows = [[c.label, f"{c.recall:.0%}", str(c.n)] for c in found.per_class]
    print_table(["class", "recall", "images"], rows)
    if found.confusions:
        say()
        say("Most frequent mistakes")
        say()
        mistakes = [[c.label, c.predicted, str(c.n)] for c in found.confusions[:8]]
        print_table(["is", "taken for", "images"], mistakes)
