"""``handful correct``: a second image space, in which images are compared with images."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handful.cli.options import EncoderOption, ForceOption, JsonOption, SetOption, parse_setting
from handful.cli.output import print_json, say
from handful.errors import InputError
from handful.paths import refuse_existing

if TYPE_CHECKING:
    from handful.tuning.correction import Correction

__all__ = ["correct"]

correct = typer.Typer(no_args_is_help=True)


@correct.callback()
def _correct() -> None:
    """Train a correction of intra-modal overlap."""


@correct.command()
def train(
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="A generic set, as 'fit' takes images; of several splits, the training split. For "
            "the objective dino also a folder of images without classes.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="File to write, .safetensors.", show_default=False),
    ],
    encoder: EncoderOption = None,
    objective: Annotated[
        str, typer.Option(metavar="supervised|dino", help="With labels, or without.")
    ] = "supervised",
    form: Annotated[
        str | None,
        typer.Option(
            metavar="blocks|projection",
            help="Inside the blocks of a vision transformer, or behind any encoder. Left out: "
            "blocks where the encoder has some.",
            show_default=False,
        ),
    ] = None,
    settings: SetOption = None,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="Of everything random.")] = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a correction on a generic image set.

    A run that was stopped goes on when the same command is given again.
    """
    from handful.tuning.correct import check_words, train_correction

    check_words(objective, form)
    if out.suffix != ".safetensors":
        raise InputError(f"--out is {out}: expected a name that ends in .safetensors.")
    given = dict(parse_setting(text) for text in settings or ())
    refuse_existing(out, overwrite=force, folder=False)
    from handful.datasets.source import is_features_file
    from handful.encoders.default import default_encoder
    from handful.encoders.spec import load_encoder
    from handful.features.store import FeatureStore
    from handful.paths import cache_folder
    from handful.progress import notice
    from handful.tuning.processes import joined

    # By the file to be written: the same command finds what it left.
    mark = hashlib.sha256(str(out.resolve()).encode(errors="surrogateescape")).hexdigest()
    kept = cache_folder() / "corrections" / mark[:16]
    if is_features_file(images) and encoder is not None:
        raise InputError(
            f"{images} holds features: leave --encoder out, it was chosen when they were made."
        )
    with joined() as processes:
        if processes.count > 1 and objective != "dino":
            raise InputError(
                f"objective '{objective}' trains in one process, and torchrun started "
                f"{processes.count}: start it without torchrun."
            )
        if processes.first and sys.stderr.isatty():
            notice(f"kept in {kept} while it runs; stopped, it goes on with the same command.")
        made = train_correction(
            images,
            None if is_features_file(images) else load_encoder(encoder or default_encoder().spec),
            objective=objective,
            form=form,
            settings=given,
            seed=seed,
            store=FeatureStore(),
            checkpoint=kept,
        )
    if not processes.first:
        return
    made.save(out, overwrite=force)
    shutil.rmtree(kept, ignore_errors=True)
    if as_json:
        print_json(_document(made, out))
    else:
        _tell(made, images, encoder, out)


def _document(made: Correction, out: Path) -> dict[str, Any]:
    return {
        "objective": made.objective,
        "form": made.form,
        "encoder": {
            "spec": made.encoder, "fingerprint": made.encoder_fingerprint, "dim": made.dim,
        },
        "classes": list(made.class_names),
        "images": len(made.digests),
        "settings": dict(made.settings),
        "layers": list(made.layers),
        "trained_parameters": made.trained_parameters(),
        "record": dict(made.record),
        "fingerprint": made.fingerprint,
        "out": str(out),
    }  # fmt: skip


def _tell(made: Correction, images: str, encoder: str | None, out: Path) -> None:
    labels = f" of {len(made.class_names)} classes" if made.class_names else ", labels not used"
    where = "behind the encoder"
    if made.form == "blocks":
        where = f"inside {len(made.layers)} blocks"
    record = made.record
    say(f"Images      {len(made.digests)}{labels}, from {images}")
    say(f"Encoder     {made.encoder}")
    say(f"Correction  {made.objective}, {made.form}: {made.trained_parameters():,} numbers {where}")
    losses = record["losses"]
    say(
        f"Training    {record['steps']:,} steps in {record['seconds']:.1f} s"
        + (f", loss {losses[0]:.3g} to {losses[-1]:.3g}" if losses else "")
    )
    say(f"Saved       {out}")
    say()
    named = f" --encoder {shlex.quote(encoder)}" if encoder else ""
    use = f"{named} --correction {shlex.quote(str(out))}"
    say(f"Look at it:  handful overlap OTHERS{use} --plot overlap.png")
    say(f"Use it:      handful fit IMAGES{use} --method tip-adapter++ --out MODEL")
