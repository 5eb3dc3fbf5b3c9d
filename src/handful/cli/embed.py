"""``handful embed``: images to a features file, each encoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handful.cli.options import (
    EncoderOption,
    ForceOption,
    JsonOption,
    PromptsOption,
    StrictOption,
    TemplateOption,
)
from handful.cli.output import print_json, say, warn_skipped
from handful.errors import InputError
from handful.paths import refuse_existing

__all__ = ["embed"]


def embed(
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="A folder of class folders, a table (.csv or .parquet), coop:SPLIT.json@ROOT, or "
            "hf:NAME.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="File to write, .safetensors.", show_default=False),
    ],
    encoder: EncoderOption = None,
    templates: TemplateOption = None,
    prompts: PromptsOption = None,
    views: Annotated[
        int,
        typer.Option(
            metavar="V", min=0, max=1000, help="Augmented encodings of each image besides."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="Of the augmented views.")] = 1,
    half: Annotated[
        bool,
        typer.Option("--half", metavar="", help="Write float16: half the size, three digits."),
    ] = False,
    before_projection: Annotated[
        bool,
        typer.Option(
            "--before-projection",
            metavar="",
            help="Also write the features before the projection of the image tower, for "
            "elevater-l1p; each image is encoded twice.",
        ),
    ] = False,
    strict: StrictOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Encode images and class names into a features file."""
    if out.suffix != ".safetensors":
        raise InputError(f"--out is {out}: expected a name that ends in .safetensors.")
    refuse_existing(out, overwrite=force, folder=False)
    from handful.datasets.source import open_images
    from handful.encoders.default import default_encoder
    from handful.encoders.spec import load_encoder
    from handful.features.embed import embed_images
    from handful.features.file import save_features
    from handful.features.store import FeatureStore

    embedded = embed_images(
        open_images(images, to_learn=False),
        load_encoder(encoder or default_encoder().spec),
        templates=templates,
        prompts=prompts,
        views=views,
        seed=seed,
        store=FeatureStore(),
        strict=strict,
        before_projection=before_projection,
    )
    save_features(out, embedded.features, overwrite=force, dtype="float16" if half else "float32")
    warn_skipped(embedded.skipped)
    if as_json:
        print_json(
            {
                "encoded": embedded.encoded,
                "reused": embedded.reused,
                "skipped": len(embedded.skipped),
                "images": len(embedded.features.image_features),
                "dim": embedded.features.image_features.shape[1],
                "out": str(out),
            }
        )
    else:
        say(
            f"{len(embedded.features.image_features)} images in {out}: {embedded.encoded} encoded, "
            f"{embedded.reused} reused, {len(embedded.skipped)} skipped."
        )
