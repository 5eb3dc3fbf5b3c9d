"""The steps of DINO, in one process or several, stopped and gone on with.

Each process shows its share of every batch; gradients, what moves the centre, and the loss are
summed over all of them, so that the number of processes changes nothing but rounding. Everything
random follows from the seed, the epoch, the digest of the image and the number of the view.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from handful.errors import InputError
from handful.functional.normalise import unit
from handful.functional.self_distillation import (
    cosine_schedule,
    distillation_loss,
    moved_centre,
    teacher_temperature,
)
from handful.progress import progress
from handful.tuning.chance import shuffled
from handful.tuning.corrector import Corrector
from handful.tuning.dino_inputs import Batch, Inputs
from handful.tuning.dino_views import GLOBAL_CROPS, view_key
from handful.tuning.finite import check_finite
from handful.tuning.generic_set import GenericSet
from handful.tuning.keyed_dropout import drop_by_keys
from handful.tuning.processes import Processes
from handful.tuning.resume import Checkpoint, Reached

__all__ = ["DinoRun"]

_PER = 256  # images, that the learning rate is given for
_PART = 16  # images whose activations are held at once
_ORDER = 1  # what a seed is for; 0 is the start


class DinoRun:
    """A training run, as one of its processes sees it."""

    def __init__(
        self,
        known: GenericSet,
        inputs: Inputs,
        student: Corrector,
        teacher: Corrector,
        head: nn.Module,
        settings: Mapping[str, Any],
        form: str,
        seed: int,
        processes: Processes,
    ) -> None:
        self.known, self.inputs, self.form, self.seed = known, inputs, form, seed
        self.student, self.teacher, self.head = student, teacher, head
        self.settings, self.processes = settings, processes
        self.batch = min(settings["batch"], len(known))  # the only one need not be whole
        if self.batch < processes.count:
            raise InputError(
                f"{processes.count} processes would share batches of {self.batch} images: start"
                " fewer processes, or set a larger batch."
            )
        self.per_epoch = len(known) // self.batch
        self.steps = settings["epochs"] * self.per_epoch
        self.parameters = dict(student.adapter.named_parameters())
        self.followers = dict(teacher.adapter.named_parameters())
        device = next(iter(self.parameters.values())).device
        self.centre = torch.zeros(settings["head_outputs"], device=device)
        self.losses = torch.zeros(self.steps)
        self.dropped = drop_by_keys(student.adapter, settings["dropout"])
        student.train()
        teacher.requires_grad_(False).eval()
        self._schedule()

    def _schedule(self) -> None:
        of, climbing = self.settings, self.settings["warm_up"] * self.per_epoch
        rate = of["lr"] * self.batch / _PER
        self.rates = cosine_schedule(
            rate, min(rate, of["lowest_lr"]), self.steps, warm_up=min(climbing, self.steps)
        )
        decay = of["weight_decay"], max(of["weight_decay"], of["last_weight_decay"])
        self.decays = cosine_schedule(*decay, self.steps)
        # An average whose memory is longer than half the run would stay where it began.
        self.momentum = min(of["momentum"], 1 - 2 / max(2, self.steps))
        self.momenta = cosine_schedule(self.momentum, 1.0, self.steps)

    def train(self, checkpoint: Path | None) -> Reached:
        """Take all steps that are not yet done."""
        optimiser = torch.optim.AdamW(
            [
                # Biases do not decay, as published.
                {"params": [p for p in self.parameters.values() if p.ndim > 1], "decays": True},
                {"params": [p for p in self.parameters.values() if p.ndim < 2], "decays": False},
            ]
        )
        run = self._digest()
        name = f"correction-dino-{run[:16]}.safetensors"
        file = Checkpoint(None if checkpoint is None else checkpoint / name, run)
        kept: dict[str, Tensor] = {f"student.{n}": p for n, p in self.parameters.items()}
        kept |= {f"teacher.{n}": p for n, p in self.followers.items()}
        kept |= {"centre": self.centre, "losses": self.losses}
        reached, _ = file.read(kept, optimiser)
        self.processes.agree(reached.epoch, "how many steps are done")
        shares = [self._share(step) for step in range(reached.epoch, self.steps)]
        bar = progress("training the correction", self.steps, "steps")
        with bar as advance, closing(self.inputs.batches(shares)) as batches:
            advance(reached.epoch)
            began, before = time.monotonic(), reached.seconds
            for (epoch, rows), batch in zip(shares, batches, strict=True):
                step = reached.epoch
                self._step(step, epoch, rows, batch, optimiser)
                reached = Reached(epoch=step + 1, seconds=before + time.monotonic() - began)
                if self.processes.first:
                    file.write(reached, kept, {}, optimiser, over=step + 1 == self.steps)
                advance(1, f"loss {self.losses[step].item():.3f}")
        return reached

    def _share(self, step: int) -> tuple[int, list[int]]:
        """Return the epoch of a step, and which of its images this process shows."""
        epoch, part = divmod(step, self.per_epoch)
        order = shuffled(len(self.known), self.seed, _ORDER, epoch)
        return epoch, self.processes.share(order[part * self.batch :][: self.batch].tolist())

    def _step(
        self,
        step: int,
        epoch: int,
        rows: Sequence[int],
        batch: Batch,
        optimiser: torch.optim.Optimizer,
    ) -> None:
        of = self.settings
        optimiser.zero_grad(set_to_none=False)
        seen, loss = torch.zeros_like(self.centre), self.centre.new_zeros(1)
        keys = np.array([self._keys(epoch, row) for row in rows])
        for start in range(0, len(rows), _PART):
            part = slice(start, start + _PART)
            found, scores = self._loss(epoch, batch[0][part], batch[1][part], keys[part])
            found = found * (len(keys[part]) / self.batch)
            found.backward()
            loss += found.detach()
            seen += scores.sum(0)
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        self.processes.add([*gradients, seen, loss])
        together = torch.stack([g.square().sum() for g in gradients]).sum() + loss
        check_finite(
            together, "the correction", step=step, steps=self.steps, lr=of["lr"], lower="lr"
        )
        for gradient in gradients:  # each by itself, as published
            length = torch.linalg.vector_norm(gradient)
            gradient.mul_((of["clip"] / (length + 1e-6)).clamp_max(1))
        for group in optimiser.param_groups:
            group["lr"] = self.rates[step]
            group["weight_decay"] = self.decays[step] if group["decays"] else 0.0
        optimiser.step()
        self.losses[step] = loss.item()
        with torch.no_grad():
            share = 1 - self.momenta[step]
            for name, follower in self.followers.items():
                follower.lerp_(self.parameters[name], share)
            mean = seen / (GLOBAL_CROPS * self.batch)
            self.centre.copy_(moved_centre(self.centre, mean, of["centre_momentum"]))

    def _loss(
        self, epoch: int, large: Any, small: Any, keys: npt.NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss of some images, and what the teacher says of them."""
        of = self.settings
        entering = self.inputs.entering(large)
        with torch.no_grad():
            teacher = self._scores(self.teacher(entering))
        keys_by_crop = torch.from_numpy(keys.T.reshape(-1)).to(self.centre.device)
        self.dropped.rows = keys_by_crop[: len(entering)]
        found = [self.student(entering)]
        if self.inputs.small:
            self.dropped.rows = keys_by_crop[len(entering) :]
            found.append(self.student(self.inputs.entering(small)))
        loss = distillation_loss(
            self._scores(torch.cat(found)),
            teacher,
            self.centre,
            teacher_temperature=teacher_temperature(
                epoch,
                first=of["teacher_temperature"],
                last=of["last_teacher_temperature"],
                warm_up=of["teacher_warm_up"],
            ),
            student_temperature=of["student_temperature"],
            global_crops=GLOBAL_CROPS,
        )
        return loss, teacher

    def _scores(self, features: Tensor) -> Tensor:
        if self.settings["head_input"] == "unit":
            features = self.known.logit_scale * unit(features)
        scores: Tensor = self.head(features)
        return scores

    def _keys(self, epoch: int, row: int) -> list[int]:
        """Return the numbers that dropout goes by, for each crop of an image."""
        digest, views = self.known.digests[row], range(GLOBAL_CROPS + self.inputs.small)
        return [view_key(self.seed, epoch, digest, view) & 0xFFFFFFFF for view in views]

    def told(self) -> list[float]:
        """Return the mean loss of each epoch."""
        return [round(float(part.mean()), 4) for part in torch.split(self.losses, self.per_epoch)]

    def _digest(self) -> str:
        """Return a digest of everything that the result depends on."""
        told = [
            "correction-dino-1",
            self.known.fingerprint,
            self.form,
            dict(self.settings),
            self.known.digests,
            self.seed,
        ]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
