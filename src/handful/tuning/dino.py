"""Training a correction without labels, by DINO (Caron et al., ICCV 2021, arXiv 2104.14294).

A student and a teacher are the same frozen encoder, with an adapter each. The student learns to say
of any crop of a picture what the teacher says of another, large one; the teacher is the student's
moving average, and is what is kept. As in the intra-modal overlap correction (BMVC 2024), the head
behind both is a random projection that never learns.

Where we differ from the published code, and why:

- Pictures are normalised as the encoder's are; the code has the statistics of ImageNet.
- Dropout (0.1) is active in the student; the code has it, but leaves it in evaluation mode:
  ``dropout=0``. The teacher, whose word is what the student learns, never drops anything.
- The centre moves by the mean over all images; the code's branch for one process takes their sum.
- Small crops have the multiple of the tower's patches that is nearest to 96/224 of its input.
- Radii of blurs are in proportion to the input, of which the code's is 224 pixels.

The form ``projection`` is ours. Every crop is encoded once, by the frozen encoder, so that colours
stay as they are and all epochs show the same crops, two of the large ones to the teacher. Views of
a features file do as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.datasets.images import LabelledImages
from handful.encoders.joint import refuse_several
from handful.encoders.protocol import Encoder
from handful.features.contents import Features
from handful.features.store import FeatureStore
from handful.tuning.chance import mixed
from handful.tuning.correction import Correction
from handful.tuning.correction_settings import checked_settings
from handful.tuning.corrector import BlocksCorrector, open_corrector
from handful.tuning.dino_head import RandomHead
from handful.tuning.dino_inputs import (
    Inputs,
    PictureCrops,
    encoded_crops,
    small_side,
    stored_crops,
)
from handful.tuning.dino_run import DinoRun
from handful.tuning.dino_settings import DEFAULTS, LEAST, MOST
from handful.tuning.dino_views import Crops
from handful.tuning.generic_set import GenericSet, digest_bytes, generic_set
from handful.tuning.processes import joined
from handful.tuning.towers import Towers, open_towers
from handful.tuning.tuned_encoder import fenced

__all__ = ["DEFAULTS", "train_dino"]

_START = 0  # what a seed is for


def train_dino(
    encoder: Encoder | None,
    source: LabelledImages | Features | Sequence[Path],
    *,
    form: str,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    store: FeatureStore | None = None,
    checkpoint: Path | None = None,
) -> Correction:
    """Train a correction on images whose classes are not read.

    Started by ``torchrun``, the processes share the work. All of them return the correction; the
    first one alone shows its progress and writes.

    Args:
        encoder: whose second space it is; None with a features file.
        source: images, paths of images, or features with views, of which the training rows are
            used. None of them may be of what the correction will be judged on.
        form: ``blocks`` or ``projection``.
        settings: that differ from ``DEFAULTS``.
        seed: of everything random.
        store: where features of crops are kept between calls.
        checkpoint: folder in which the run is kept, in a file named by a digest of all that its
            result depends on; a run that is found there is gone on with, by any number of
            processes. The file stays: whoever saves the correction removes it.

    Raises:
        InputError: settings, images or an encoder that cannot be used, or a loss that became NaN or
            infinite.
    """
    asked = checked_settings(settings or {}, form, DEFAULTS, "dino", least=LEAST, most=MOST)
    if not isinstance(source, (LabelledImages, Features)):
        source = LabelledImages(source, np.zeros(len(source), np.int64), ("unlabelled",))
    if encoder is not None:
        refuse_several(encoder, "a correction")
    with joined() as processes:
        towers = open_towers(encoder) if encoder is not None and form == "blocks" else None
        device = torch.device("cpu") if towers is None else towers.device
        with fenced(device):
            if form == "projection":
                known, inputs = _features(encoder, source, asked, seed, store)
            else:
                known = generic_set(encoder, source, form)
            start = mixed(seed, _START)
            student, teacher = (
                open_corrector(towers, form, asked, dim=known.dim, seed=start) for _ in range(2)
            )
            if towers is not None:
                assert isinstance(student, BlocksCorrector)
                inputs = _pictures(known, towers, student, asked, seed)
            sizes = {name: asked[f"head_{name}"] for name in ("hidden", "narrow", "outputs")}
            head = RandomHead(known.dim, **sizes, seed=start).to(device)
            run = DinoRun(known, inputs, student, teacher, head, asked, form, seed, processes)
            reached = run.train(checkpoint)
    return Correction(
        form=form,
        objective="dino",
        settings={**asked, "seed": seed},
        arrays=teacher.arrays(),
        encoder=known.encoder,
        encoder_fingerprint=known.fingerprint,
        dim=known.dim,
        class_names=(),
        digests=digest_bytes(known.digests),
        record={
            "images": len(known),
            "steps": run.steps,
            "seconds": round(reached.seconds, 1),
            "losses": run.told(),
            "momentum": run.momentum,
            "sides": inputs.sides,
            "processes": processes.count,
            "versions": {name: version(name) for name in ("handful", "torch")},
        },
    )


def _features(
    encoder: Encoder | None,
    source: LabelledImages | Features,
    settings: Mapping[str, Any],
    seed: int,
    store: FeatureStore | None,
) -> tuple[GenericSet, Inputs]:
    """Return what the form ``projection`` learns from."""
    if isinstance(source, Features):
        return stored_crops(source, seed=seed)
    return encoded_crops(
        encoder,
        source,
        large=settings["large_crops"],
        small=settings["local_crops"],
        scales=_scales(settings),
        seed=seed,
        store=store,
    )


def _pictures(
    known: GenericSet,
    towers: Towers,
    student: BlocksCorrector,
    settings: Mapping[str, Any],
    seed: int,
) -> Inputs:
    """Return what the form ``blocks`` learns from."""
    assert towers.image is not None and known.paths is not None
    side = towers.preprocess.size
    crops = Crops(
        side,
        small_side(towers.image, side),
        settings["local_crops"],
        seed,
        *_scales(settings),
        resample=towers.preprocess.resample,
        distort=settings["distort"],
    )
    return PictureCrops(known.paths, known.digests, crops, towers, student)


def _scales(settings: Mapping[str, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the smallest and largest part of a picture that large and small crops cover."""
    least, most = settings["small_least"], settings["small_most"]
    return (settings["large_least"], 1.0), (min(least, most), most)
