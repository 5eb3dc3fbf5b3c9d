"""``handful bench retrieve``: captions and images that find each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handful.cli.options import ForceOption, JsonOption, MarkdownOption
from handful.cli.output import print_json, warn_unverified
from handful.cli.text_tables import show, write
from handful.errors import InputError
from handful.paths import refuse_existing

if TYPE_CHECKING:
    from handful.benchmark.retrieve import RetrievalRun
    from handful.evaluation.retrieval import Retrieval

__all__ = ["retrieve"]


def retrieve(
    captions: Annotated[
        str,
        typer.Argument(
            metavar="CAPTIONS",
            help="captions:FILE@ROOT: FILE is Karpathy's or COCO's .json, or a table with columns "
            "image and caption; ROOT holds the images. FILE alone: they lie beside it.",
            show_default=False,
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="SPEC",
            help="See 'handful encoders'; left out: that of --model, else of your configuration, "
            "else lite.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Folder that 'handful fit' wrote: also measure with the features that it adapts.",
            show_default=False,
        ),
    ] = None,
    adapt: Annotated[
        str | None,
        typer.Option(
            metavar="images|texts|both|none",
            help="Sides whose features --model adapts; left out: all that it can.",
            show_default=False,
        ),
    ] = None,
    template: Annotated[
        str,
        typer.Option(metavar="TEXT", help="Captions are read in it, such as 'a photo of {}'."),
    ] = "{}",
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="train, restval, val or test; left out: test, where FILE has splits.",
            show_default=False,
        ),
    ] = None,
    at: Annotated[
        str, typer.Option(metavar="K,…", help="How many of the first found count.")
    ] = "1,5,10",
    out: MarkdownOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure text-image retrieval: recall at K, both ways."""
    first = _numbers(at)
    if adapt not in (None, "none") and model is None:
        raise InputError(f"--adapt is '{adapt}': name the classifier that adapts, with --model.")
    if out is not None:
        refuse_existing(out, overwrite=force, folder=False)
    from handful.benchmark.retrieve import retrieval_table, run_retrieval
    from handful.classifier import FewShotClassifier
    from handful.datasets.captions import read_captions
    from handful.encoders.default import default_encoder
    from handful.encoders.spec import load_encoder
    from handful.features.store import FeatureStore

    read = read_captions(captions, split)
    if model is None:
        plain = load_encoder(encoder or default_encoder().spec)
        ran = run_retrieval(read, plain, template=template, at=first, store=FeatureStore())
    else:
        classifier = FewShotClassifier.load(model, encoder=encoder)
        ran = run_retrieval(
            read, classifier, adapt=adapt, template=template, at=first, store=FeatureStore()
        )
        warn_unverified(classifier)
    tables = [retrieval_table(ran)]
    if as_json:
        if out is not None:
            write(tables, out, force)
        print_json(_document(ran, out))
    else:
        show(tables, out, force, as_json)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise InputError(f"--at is '{text}': expected numbers from 1, such as 1,5,10.")
    return tuple(found)


def _document(ran: RetrievalRun, out: Path | None) -> dict[str, Any]:
    rows = [_recalls("plain", (), ran.plain)]
    if ran.adapted is not None:
        rows.append(_recalls("adapted", ran.sides, ran.adapted))
    return {
        "captions": ran.captions.name,
        "split": ran.captions.split,
        "template": ran.template,
        "encoder": ran.encoder,
        "method": ran.method,
        "images": ran.plain.images,
        "texts": ran.plain.texts,
        "left_out": ran.captions.left_out,
        "seen_in_training": ran.seen_in_training,
        "rows": rows,
        "out": None if out is None else str(out),
    }


def _recalls(features: str, sides: tuple[str, ...], found: Retrieval) -> dict[str, Any]:
    return {
        "features": features,
        "adapted": list(sides),
        "image_to_text": {str(k): share for k, share in found.image_to_text.items()},
        "text_to_image": {str(k): share for k, share in found.text_to_image.items()},
    }
