"""``handful fit``: from labelled images to a saved classifier."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handful.cli.options import (
    CorrectionOption,
    EncodersOption,
    ForceOption,
    JsonOption,
    PromptsOption,
    SetOption,
    StrictOption,
    TemplateOption,
    one_or_several,
    parse_setting,
    parse_shots,
)
from handful.cli.output import print_json, say, warn_skipped
from handful.methods.registry import DEFAULT_METHOD
from handful.paths import refuse_existing

if TYPE_CHECKING:
    from handful.classifier import FewShotClassifier

__all__ = ["fit"]


def fit(
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="A folder of class folders, a table (.csv or .parquet; image, label, optional "
            "split and group), coop:SPLIT.json@ROOT, hf:NAME, or a features file.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.", show_default=False)],
    encoder: EncodersOption = None,
    correction: CorrectionOption = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="See 'handful methods'.")
    ] = DEFAULT_METHOD,
    shots: Annotated[str, typer.Option(metavar="K|all", help="Images per class.")] = "all",
    seed: Annotated[
        int, typer.Option(metavar="S", min=0, help="Of sampling, folds and training.")
    ] = 1,
    select: Annotated[
        str | None,
        typer.Option(
            metavar="val|cv|fixed",
            help="How settings are chosen: on validation images, by cross-validation over the "
            "shots, or not at all. Left out: the first of these that the images allow.",
            show_default=False,
        ),
    ] = None,
    templates: TemplateOption = None,
    prompts: PromptsOption = None,
    views: Annotated[
        int,
        typer.Option(metavar="V", min=0, max=1000, help="Augmented encodings per training image."),
    ] = 0,
    settings: SetOption = None,
    strict: StrictOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Learn classes from images and save a classifier."""
    wanted = parse_shots(shots)
    given = dict(parse_setting(text) for text in settings or ())
    # Said before the work, not after it.
    refuse_existing(out, overwrite=force, folder=True)
    from handful.classifier import FewShotClassifier
    from handful.classifier.saved import refuse_foreign

    refuse_foreign(out)
    classifier = FewShotClassifier(
        one_or_several(encoder),
        method,
        templates=templates,
        prompts=prompts,
        shots=wanted,
        select=select,
        views=views,
        seed=seed,
        settings=given,
        correction=correction,
        strict=strict,
    ).fit(images)
    classifier.save(out, overwrite=force)
    assert classifier.gathered_ is not None
    warn_skipped(classifier.gathered_.skipped)
    if as_json:
        print_json(_document(classifier, out))
    else:
        _tell(classifier, images, out)


def _document(classifier: FewShotClassifier, out: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from handful.classifier.correction import told_of

    gathered, head = classifier.gathered_, classifier.head_
    assert gathered is not None and head is not None and classifier.encoder_ is not None
    return {
        "classes": list(classifier.classes_),
        "shots": classifier.shots,
        "images": dict(zip(classifier.classes_, classifier.counts_, strict=True)),
        "method": classifier.method,
        "encoder": asdict(classifier.encoder_) | {"why": classifier.encoder_why_ or "named"},
        "correction": told_of(classifier.correction_),
        "sentences": asdict(classifier.sentences_) if classifier.sentences_ else None,
        "settings": classifier.settings_,
        "selection": classifier.selection_,
        "estimate": asdict(classifier.estimate_) if classifier.estimate_ else None,
        "zero_shot": asdict(classifier.zero_shot_) if classifier.zero_shot_ else None,
        "calibration": classifier.calibration.to_json(),
        "seed": classifier.seed,
        "encoded": gathered.encoded,
        "reused": gathered.reused,
        "skipped": [{"image": str(path), "reason": why} for path, why in gathered.skipped],
        "out": str(out),
    }


def _tell(classifier: FewShotClassifier, images: str, out: Path) -> None:
    from handful.classifier.summary import next_step, summary

    for line in summary(classifier, images):
        say(line)
    say(f"Saved         {out}")
    say()
    identity = classifier.encoder_
    new = "new.jpg" if identity and identity.fingerprint else "new.safetensors"
    say(f"Use it:       handful predict {shlex.quote(str(out))} {new}")
    say(f"Next:         {next_step(classifier, images, str(out))}")
