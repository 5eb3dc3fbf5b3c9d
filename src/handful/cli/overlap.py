"""``handful overlap``: how far cosines of images of one class and of two classes mix."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handful.cli.options import (
    CorrectionOption,
    EncoderOption,
    ForceOption,
    JsonOption,
    StrictOption,
    TemplateOption,
)
from handful.cli.output import print_json, print_table, say, warn_skipped
from handful.errors import InputError

if TYPE_CHECKING:
    from handful.evaluation.overlap import Overlaps
    from handful.tuning.correction import Correction

__all__ = ["overlap"]

# What is shown of each space: the name, the key in the JSON document, the format, what is better.
_MEASURES = (
    ("overlap area", "overlap", ".1%", "lower"),
    ("Jensen-Shannon divergence, bits", "divergence", ".3f", "higher"),
    ("separation d′", "separation", ".2f", "higher"),
    ("AUROC", "auroc", ".3f", "higher"),
    ("feature variance", "variance", ".2e", "–"),
    ("modality gap", "modality_gap", ".3f", "–"),
)


def overlap(
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="Labelled images, as for 'fit', or a features file.",
            show_default=False,
        ),
    ],
    encoder: EncoderOption = None,
    correction: CorrectionOption = None,
    split: Annotated[
        str, typer.Option(metavar="all|train|val|test", help="Which images are compared.")
    ] = "all",
    templates: TemplateOption = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw both distributions, .png or .svg.", show_default=False
        ),
    ] = None,
    force: ForceOption = False,
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure intra-modal overlap, before and after a correction."""
    from handful.report.figures import check_file
    from handful.report.overlap import draw_overlap
    from handful.tuning.correction import Correction

    if plot is not None:
        check_file(plot, overwrite=force)
    given = None if correction is None else Correction.load(correction)
    found = _measured(images, encoder, given, split, templates, strict)
    warn_skipped(found.skipped)
    if found.taught:
        print(
            f"handful: warning: the correction was trained on {found.taught} of these "
            f"{found.images} images: what is better after it proves little; measure it on others.",
            file=sys.stderr,
        )
    if plot is not None:
        spaces = {"before": found.before, "after": found.after}
        drawn = {title: one for title, one in spaces.items() if one is not None}
        if found.after is None:
            drawn = {"images": found.before}
        draw_overlap(drawn, plot, overwrite=force)
    if as_json:
        print_json(_document(found, given, correction, split, plot))
    else:
        _tell(found, images, given, correction, split, plot)


def _measured(
    images: str,
    encoder: str | None,
    correction: Correction | None,
    split: str,
    templates: list[str] | None,
    strict: bool,
) -> Overlaps:
    from handful.datasets.source import is_features_file, open_images
    from handful.evaluation.overlap import overlaps_of_features, overlaps_of_images

    if is_features_file(images):
        from handful.features.file import load_features

        for flag, value in (("--encoder", encoder), ("--template", templates)):
            if value:
                raise InputError(
                    f"{images} holds features: leave {flag} out, it was chosen when they were made."
                )
        features = load_features(Path(images))
        return overlaps_of_features(features, images, split=split, correction=correction)
    from handful.encoders.default import default_encoder
    from handful.encoders.spec import load_encoder
    from handful.features.store import FeatureStore

    return overlaps_of_images(
        open_images(images, to_learn=False),
        load_encoder(encoder or default_encoder().spec),
        split=split,
        correction=correction,
        templates=templates,
        store=FeatureStore(),
        strict=strict,
    )


def _document(
    found: Overlaps,
    correction: Correction | None,
    file: Path | None,
    split: str,
    plot: Path | None,
) -> dict[str, Any]:
    told = None
    if correction is not None:
        told = {
            "file": str(file),
            "fingerprint": correction.fingerprint,
            "form": correction.form,
            "objective": correction.objective,
            "taught": found.taught,
        }
    paired, unpaired = found.pairs
    return {
        "images": found.images,
        "classes": list(found.classes),
        "split": split,
        "encoder": found.encoder,
        "correction": told,
        "pairs": {"paired": paired, "unpaired": unpaired},
        "before": found.before.to_json(),
        "after": None if found.after is None else found.after.to_json(),
        "skipped": len(found.skipped),
        "plot": None if plot is None else str(plot),
    }


def _tell(
    found: Overlaps,
    images: str,
    correction: Correction | None,
    file: Path | None,
    split: str,
    plot: Path | None,
) -> None:
    paired, unpaired = found.pairs
    which = "" if split == "all" else f", split {split}"
    say(f"Images      {found.images} of {len(found.classes)} classes from {images}{which}")
    say(f"Pairs       {paired:,} of one class, {unpaired:,} of two")
    say(f"Encoder     {found.encoder}")
    if correction is not None:
        say(f"Correction  {file} ({correction.objective}, {correction.form})")
    say()
    before = found.before.to_json()
    after = None if found.after is None else found.after.to_json()
    header = ["", "now"] if after is None else ["", "before", "after"]
    rows = [
        [name, *(_shown(space[key], form) for space in (before, after) if space), better]
        for name, key, form, better in _MEASURES
    ]
    print_table([*header, "better"], rows)
    if plot is not None:
        say()
        say(f"Drawn in {plot}.")


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
