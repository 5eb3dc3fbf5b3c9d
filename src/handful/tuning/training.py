"""The training of a part of an encoder: one loop for all methods.

The loss is the mean cross-entropy of s·unit(image)ᵀunit(class). Everything random is drawn from
the seed and the number of the pass or step, so that a run that was stopped and resumed ends where
it would have ended, bit for bit, on the same machine and number of threads.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from handful.encoders.protocol import Encoder
from handful.encoders.views import CENTRE, random_views
from handful.features.store import FeatureStore
from handful.progress import Advance, progress
from handful.tuning.chance import mixed, shuffled
from handful.tuning.finite import check_finite
from handful.tuning.images import TrainingImages
from handful.tuning.resume import Checkpoint, Reached
from handful.tuning.trained import Trained, copied, put
from handful.tuning.tuned_encoder import TunedEncoder, fenced, open_tuned
from handful.tuning.tuning import Prompts, Tuned, Tuning, TuningRecipe
from handful.tuning.watch import Watch

__all__ = ["train", "tune"]

_ORDER, _CHANCE = 0, 1  # what a seed is for


def tune(
    tuning: Tuning,
    encoder: Encoder,
    images: TrainingImages,
    prompts: Prompts,
    *,
    validation: TrainingImages | None = None,
    seed: int = 0,
    store: FeatureStore | None = None,
    checkpoint: Path | None = None,
) -> TunedEncoder:
    """Train a method's part of an encoder, and return the encoder with it; see :func:`train`.

    What is kept of the run goes when it ends well.
    """
    trained = train(
        tuning,
        encoder,
        images,
        prompts,
        validation=validation,
        seed=seed,
        store=store,
        checkpoint=checkpoint,
    )
    found = trained.finished(encoder)
    trained.forget()
    return found


def train(
    tuning: Tuning,
    encoder: Encoder,
    images: TrainingImages,
    prompts: Prompts,
    *,
    validation: TrainingImages | None = None,
    seed: int = 0,
    store: FeatureStore | None = None,
    checkpoint: Path | None = None,
) -> Trained:
    """Train a method's part of a copy of an encoder.

    Args:
        tuning: the method with its settings.
        encoder: the base, which is not changed.
        images: labels are rows of the prompts.
        prompts: of the classes.
        validation: read by methods that keep their best pass; they keep the last one without.
        seed: of everything random.
        store: where features of the base are kept between calls.
        checkpoint: folder in which the run is kept, after passes, in a file named by a digest of
            all that its result depends on; a run that is found there is gone on with. The file
            stays until :meth:`Trained.forget`.

    Raises:
        InputError: settings or encoder that cannot be used, an image that cannot be read, or a
            loss or gradient that became NaN or infinite.
    """
    tuning.check_settings()
    tuned = open_tuned(tuning, encoder, prompts, seed)
    recipe = tuning.recipe(len(images) / len(prompts.names), len(prompts.names))
    with fenced(tuned.towers.device):
        loop = _Loop(tuning, encoder, tuned, recipe, images, validation, seed, store)
        return loop.run(checkpoint)


class _Loop:
    def __init__(
        self,
        tuning: Tuning,
        encoder: Encoder,
        tuned: Tuned,
        recipe: TuningRecipe,
        images: TrainingImages,
        validation: TrainingImages | None,
        seed: int,
        store: FeatureStore | None,
    ) -> None:
        self.tuning, self.tuned = tuning, tuned
        self.recipe, self.seed = recipe, seed
        self.parameters = tuned.trained()
        self.per_pass = recipe.steps_per_epoch(len(images))
        self.steps = recipe.steps_in_all(len(images))
        self.passes = math.ceil(self.steps / self.per_pass)
        count = min(recipe.views, self.passes)
        views = random_views(count, seed, recipe.scale) or (CENTRE,)
        towers, at = tuned.towers, tuned.image_from
        self.states = images.states(encoder, towers, at, views=views, store=store)
        self.labels = torch.from_numpy(images.labels).to(towers.device)
        self.watch: Watch | None = None
        if recipe.patience is not None and validation is not None:
            judged = validation.states(encoder, towers, at, store=store)
            self.watch = Watch(judged, validation.labels, recipe.patience, len(images))
        # What does not change in training is computed once.
        self.text = None if tuned.trains_text else self._text()

    def run(self, checkpoint: Path | None) -> Trained:
        recipe, parameters = self.recipe, self.parameters
        start = copied(parameters)
        optimiser = recipe.optimise(list(parameters.values()), [recipe.weight_decay] * len(start))
        run = self._digest()
        name = f"{self.tuning.name}-{run[:16]}.safetensors"
        path = None if checkpoint is None else checkpoint / name
        file = Checkpoint(path, run)
        reached, best = file.read(parameters, optimiser)
        if reached.epoch == 0:
            reached, best = self._watched(reached, best)
        with progress(f"training {self.tuning.name}", self.steps, "steps") as advance:
            advance(min(reached.epoch * self.per_pass, self.steps))
            while not self._over(reached):
                began = time.monotonic()
                self._pass(reached.epoch, optimiser, advance)
                reached, best = self._watched(replace(reached, epoch=reached.epoch + 1), best)
                seconds = reached.seconds + time.monotonic() - began
                reached = replace(reached, seconds=seconds)
                file.write(reached, parameters, best, optimiser, over=self._over(reached))
        if self.steps:
            sums = torch.stack([p.detach().sum() for p in parameters.values()])
            self._check_finite(sums.sum(), self.steps - 1)
        put(parameters, best)
        return Trained(
            tuning=self.tuning,
            prompts=self.tuned.prompts,
            seed=self.seed,
            start=start,
            end=copied(parameters),
            judged=() if self.watch is None else self.watch.right(reached),
            best=reached.epoch if self.watch is None else reached.best,
            steps=self.steps,
            seconds=reached.seconds,
            file=path,
        )

    def _pass(self, epoch: int, optimiser: torch.optim.Optimizer, advance: Advance) -> None:
        n = len(self.labels)
        order = shuffled(n, self.seed, _ORDER, epoch)
        batch, parameters = self.recipe.batch, list(self.parameters.values())
        self.tuned.train()
        for part in range(self.per_pass):
            step = epoch * self.per_pass + part
            if step == self.steps:
                break
            torch.manual_seed(mixed(self.seed, _CHANCE, step))  # of dropout
            rows = order[part * batch : (part + 1) * batch]
            text = self.tuned.class_embeddings() if self.text is None else self.text
            logits = self.tuned.logits(self.states.batch(epoch, rows), text)
            loss = torch.nn.functional.cross_entropy(logits, self.labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            longest = self.recipe.gradient_norm or math.inf
            self._check_finite(torch.nn.utils.clip_grad_norm_(parameters, longest), step)
            for group in optimiser.param_groups:
                group["lr"] = self.recipe.rate(epoch, step, self.steps)
            optimiser.step()
            advance(1, f"loss {loss.item():.3f}")
        self.tuned.eval()

    def _text(self) -> Tensor:
        """Return the class embeddings as they are, for judging."""
        with torch.no_grad():
            return self.tuned.class_embeddings()

    def _watched(
        self, reached: Reached, best: dict[str, Tensor]
    ) -> tuple[Reached, dict[str, Tensor]]:
        """Return both after the last pass is judged, where it is to be."""
        if self.watch is None or not self.watch.due(reached.epoch, self.passes):
            return reached, best
        text = self._text() if self.text is None else self.text
        reached = self.watch.judged(reached, self.tuned, text)
        return reached, copied(self.parameters) if reached.best == reached.epoch else best

    def _over(self, reached: Reached) -> bool:
        tired = self.watch is not None and self.watch.tired(reached)
        return reached.epoch == self.passes or tired

    def _check_finite(self, value: Tensor, step: int) -> None:
        check_finite(value, self.tuning.name, step=step, steps=self.steps, lr=self.recipe.lr)

    def _digest(self) -> str:
        """Return a digest of everything that the result depends on."""
        told = [
            "run-1",
            self.tuned.towers.fingerprint,
            self.tuning.name,
            self.tuning.settings(),
            asdict(self.recipe),
            self.tuned.prompts.to_json(),
            [self.states.digests, self.labels.tolist()],
            None if self.watch is None else self.watch.identity(),
            self.seed,
        ]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
