"""A correction taught by a labelled set: a linear classifier on top, which is thrown away.

The loss is the mean cross-entropy of G·z^a + g over the classes of the generic set, z^a being the
corrected features. Adapters and classifier are trained by AdamW at a constant rate; the encoder is
frozen, and pictures are not varied.

The form ``blocks`` has the published recipe: 8e-3, weight decay 0.01, batches of 128, the last one
dropped, one pass, κ = 0.03, dropout 0.1, features as they are (``head_input=raw``). The published
code feeds pixels on the scale 0 to 1 in training and normalised ones afterwards, which is a
mistake; ``normalize=false`` repeats it.

The form ``projection`` is ours. Behind it a linear classifier can tell the training classes apart
without any help of the adapter, which then learns next to nothing (``head_input=unit`` multiplies
unit features by the logit scale and ends at a loss of 0.001 with the overlap as it was). So the
default is ``head_input=cosine``: 10·cos(z^a, row of G), no bias, which only a change of the
directions between the classes makes smaller, and which is what images are compared by later. It,
the 20 passes, 3e-4 and κ = 1 were chosen on training classes that were kept out of training: of
drawn scenes, of Stanford Cars and of WHU-RS19.

Everything random is drawn from the seed and the number of the pass or step, so that a run that was
stopped and resumed ends where it would have ended, bit for bit, on one machine.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from handful.datasets.images import LabelledImages
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.features.contents import Features
from handful.features.store import FeatureStore
from handful.progress import progress
from handful.tuning.chance import mixed, shuffled
from handful.tuning.correction import Correction
from handful.tuning.correction_settings import checked_settings
from handful.tuning.corrector import Corrector, open_corrector
from handful.tuning.finite import check_finite
from handful.tuning.generic_classifier import GenericClassifier
from handful.tuning.generic_set import (
    Batches,
    GenericSet,
    Rows,
    batches_of,
    digest_bytes,
    generic_set,
)
from handful.tuning.recipe import TuningRecipe
from handful.tuning.resume import Checkpoint, Reached
from handful.tuning.towers import open_towers
from handful.tuning.tuned_encoder import fenced

__all__ = ["DEFAULTS", "train_supervised"]

DEFAULTS: dict[str, dict[str, Any]] = {
    "blocks": {
        "width": 64,
        "scale": 0.03,
        "dropout": 0.1,
        "layers": "all",
        "epochs": 1,
        "lr": 8e-3,
        "weight_decay": 0.01,
        "batch": 128,
        "head_input": "raw",
        "normalize": True,
    },
    "projection": {
        "width": 64,
        "scale": 1.0,
        "dropout": 0.1,
        "epochs": 20,
        "lr": 3e-4,
        "weight_decay": 0.01,
        "batch": 128,
        "head_input": "cosine",
    },
}

_START, _ORDER, _CHANCE = 0, 1, 2  # what a seed is for
_TOLD = 10  # parts of the training whose mean loss is recorded


def train_supervised(
    encoder: Encoder | None,
    source: LabelledImages | Features,
    *,
    form: str,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    store: FeatureStore | None = None,
    checkpoint: Path | None = None,
) -> Correction:
    """Train a correction on labelled images, or on features.

    Args:
        encoder: whose second space it is; None with a features file.
        source: the generic set: images, or features, of which the training rows are used. None of
            them may be of what the correction will be judged on.
        form: ``blocks`` or ``projection``.
        settings: that differ from ``DEFAULTS``.
        seed: of everything random.
        store: where features are kept between calls.
        checkpoint: folder in which the run is kept, in a file named by a digest of all that its
            result depends on; a run that is found there is gone on with. The file stays: whoever
            saves the correction removes it.

    Raises:
        InputError: settings, images or an encoder that cannot be used, or a loss that became NaN or
            infinite.
    """
    asked = checked_settings(settings or {}, form, DEFAULTS, "supervised")
    known = generic_set(encoder, source, form, store)
    _check_labels(known)
    towers = None
    if form == "blocks":
        assert encoder is not None
        towers = open_towers(encoder)
        if not asked["normalize"]:
            towers.preprocess = replace(towers.preprocess, mean=(0.0,) * 3, std=(1.0,) * 3)
    device = torch.device("cpu") if towers is None else towers.device
    with fenced(device):
        start = mixed(seed, _START)
        corrector = open_corrector(towers, form, asked, dim=known.dim, seed=start)
        passes = asked["epochs"]
        batches = batches_of(known, encoder, towers, corrector, passes=passes)
        head = GenericClassifier(
            known.dim, len(known.class_names), asked["head_input"], known.logit_scale, start + 1
        ).to(device)
        run = _Run(known, corrector, head, asked, form, seed)
        reached = run.train(batches, checkpoint)
    return Correction(
        form=form,
        objective="supervised",
        settings={**asked, "seed": seed},
        arrays=corrector.arrays(),
        encoder=known.encoder,
        encoder_fingerprint=known.fingerprint,
        dim=known.dim,
        class_names=known.class_names,
        digests=digest_bytes(known.digests),
        record={
            "images": len(known),
            "steps": run.steps,
            "seconds": round(reached.seconds, 1),
            "losses": run.told(),
            "versions": {name: version(name) for name in ("handful", "torch")},
        },
    )


def _check_labels(known: GenericSet) -> None:
    if known.labels is None:
        raise InputError(
            "the images have no labels, which the objective 'supervised' learns from: give labelled"
            " images, or use objective 'dino'."
        )
    if len(np.unique(known.labels)) < 2:
        raise InputError(
            "the images are all of one class: a correction is trained on images of two or more."
        )


class _Run:
    def __init__(
        self,
        known: GenericSet,
        corrector: Corrector,
        head: GenericClassifier,
        settings: Mapping[str, Any],
        form: str,
        seed: int,
    ) -> None:
        self.known, self.corrector, self.head = known, corrector, head
        self.settings, self.form, self.seed = settings, form, seed
        self.batch = min(settings["batch"], len(known))  # the only one need not be whole
        self.per_pass = len(known) // self.batch
        self.steps = settings["epochs"] * self.per_pass
        self.parameters = {f"adapter.{n}": p for n, p in corrector.adapter.named_parameters()}
        self.parameters |= {f"head.{n}": p for n, p in head.named_parameters()}
        self.losses = torch.zeros(self.steps)

    def train(self, batches: Batches, checkpoint: Path | None) -> Reached:
        settings, parameters = self.settings, list(self.parameters.values())
        recipe = TuningRecipe(
            epochs=settings["epochs"], lr=settings["lr"], batch=self.batch, schedule="constant"
        )
        optimiser = recipe.optimise(parameters, [settings["weight_decay"]] * len(parameters))
        run = self._digest()
        name = f"correction-supervised-{run[:16]}.safetensors"
        file = Checkpoint(None if checkpoint is None else checkpoint / name, run)
        kept = self.parameters | {"losses": self.losses}
        reached, _ = file.read(kept, optimiser)
        assert self.known.labels is not None
        labels = torch.tensor(self.known.labels, device=parameters[0].device)
        orders = self._orders(reached.epoch)
        self.corrector.train()
        with progress("training the correction", self.steps, "steps") as advance:
            advance(reached.epoch)
            began, before = time.monotonic(), reached.seconds
            for rows, entering in zip(orders, batches(orders), strict=True):
                step = reached.epoch
                torch.manual_seed(mixed(self.seed, _CHANCE, step))  # of dropout
                logits = self.head(self.corrector(entering))
                loss = nn.functional.cross_entropy(logits, labels[rows])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                length = torch.nn.utils.clip_grad_norm_(parameters, math.inf)
                check_finite(
                    length, "the correction", step=step, steps=self.steps, lr=settings["lr"],
                    lower="lr",
                )  # fmt: skip
                optimiser.step()
                self.losses[step] = loss.detach()
                seconds = before + time.monotonic() - began
                reached = Reached(epoch=step + 1, seconds=seconds)
                file.write(reached, kept, {}, optimiser, over=step + 1 == self.steps)
                advance(1, f"loss {loss.item():.3f}")
        self.corrector.eval()
        return reached

    def told(self) -> list[float]:
        """Return the mean loss of each tenth of the training."""
        parts = torch.tensor_split(self.losses, min(_TOLD, self.steps) or 1)
        return [round(float(part.mean()), 4) for part in parts if len(part)]

    def _orders(self, done: int) -> list[Rows]:
        """Return the rows of each step that is still to be done."""
        orders: list[Rows] = []
        for epoch in range(done // self.per_pass, self.settings["epochs"]):
            order = shuffled(len(self.known), self.seed, _ORDER, epoch)
            orders += np.split(order[: self.per_pass * self.batch], self.per_pass)
        return orders[done % self.per_pass :]

    def _digest(self) -> str:
        """Return a digest of everything that the result depends on."""
        assert self.known.labels is not None
        told = [
            "correction-run-1",
            self.known.fingerprint,
            self.form,
            dict(self.settings),
            self.known.class_names,
            [self.known.digests, self.known.labels.tolist()],
            self.seed,
        ]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
