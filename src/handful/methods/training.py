"""Training of several heads at once, on a leading dimension of runs.

Heads on features are small: one step of one head is mostly overhead. Folds, seeds and settings of
the same shape are therefore stacked, and trained as one computation. Each run draws its own
batches and views from its own seed, so a head learns the same alone or among others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor

from handful.methods.head import Head, Support

__all__ = ["Recipe", "Runs", "batches_by_size", "seed_of", "train", "weights_of"]

AnyHead = TypeVar("AnyHead", bound=Head)


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes over the support set, one view of each image in a pass.
        lr: peak learning rate.
        weight_decay: decoupled in ``adamw``, else a part of the gradient.
        eps: of Adam.
        momentum, nesterov: of ``sgd``.
        batch: images in a step.
        schedule: ``step``: cosine to 0, changed every step; ``epoch``: cosine, changed every
            epoch, after one epoch at 1e-5 (CoOp's); ``constant``.
        optimiser: ``adamw``, ``adam`` or ``sgd``.
    """

    epochs: int
    lr: float = 1e-3
    weight_decay: float = 0.01
    eps: float = 1e-8
    momentum: float = 0.9
    nesterov: bool = False
    batch: int = 256
    schedule: Literal["step", "epoch", "constant"] = "epoch"
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """Learning rate at ``step`` of ``steps`` in all, which lies in ``epoch``."""
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "step":
            return self.lr * (1 + math.cos(math.pi * step / steps)) / 2
        if epoch == 0:
            return min(1e-5, self.lr)
        return self.lr * (1 + math.cos(math.pi * epoch / self.epochs)) / 2

    def optimise(self, parameters: Sequence[Tensor], decays: Sequence[float]) -> Any:
        """Return the optimiser, one group per parameter."""
        groups = [
            {"params": [p], "weight_decay": decay}
            for p, decay in zip(parameters, decays, strict=True)
        ]
        if self.optimiser == "sgd":
            return torch.optim.SGD(
                groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov
            )
        kind = torch.optim.AdamW if self.optimiser == "adamw" else torch.optim.Adam
        # fused: one pass over the parameters of all runs
        return kind(groups, lr=self.lr, eps=self.eps, fused=True)


@dataclass(frozen=True)
class Runs(Generic[AnyHead]):
    """Heads that can be trained as one computation, with their supports."""

    heads: list[AnyHead]
    supports: list[Support]


def batches_by_size(
    heads: Sequence[AnyHead], supports: Sequence[Support], same: Sequence[str]
) -> Iterator[Runs[AnyHead]]:
    """Group heads whose supports have one shape and whose settings ``same`` are equal."""
    groups: dict[Any, Runs[AnyHead]] = {}
    for head, support in zip(heads, supports, strict=True):
        views = 0 if support.views is None else support.views.shape[1]
        key = (support.features.shape, views, support.text.shape, head.logit_scale)
        key += tuple(getattr(head, name) for name in same)
        group = groups.setdefault(key, Runs([], []))
        group.heads.append(head)
        group.supports.append(support)
    yield from groups.values()


def seed_of(head: Head) -> int:
    """Return the seed of a head; ``random_state=None`` draws one from PyTorch's generator."""
    if head.random_state is None:
        return int(torch.randint(2**31 - 1, ()))
    return int(head.random_state)


def weights_of(supports: Sequence[Support]) -> Tensor | None:
    """Return how much each image of each support counts ``(R, n)``; None: all the same."""
    if all(s.weights is None for s in supports):
        return None
    ones = torch.ones(len(supports[0].labels))
    return torch.stack([ones if s.weights is None else s.weights for s in supports])


def train(
    start: Sequence[Tensor],
    logits: Callable[..., Tensor],
    samples: Sequence[Tensor],
    labels: Tensor,
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    weights: Tensor | None = None,
    penalty: Callable[..., Tensor] | None = None,
    rates: Sequence[float] | None = None,
    decays: Sequence[float] | None = None,
    draw: Callable[[torch.Generator], Tensor] | None = None,
    proximal: Callable[[list[Tensor], float], None] | None = None,
) -> list[Tensor]:
    """Minimise the mean, maybe weighted, of the cross-entropy of each of R runs.

    Args:
        start: parameters, each ``(R, …)``; copied, never changed in place.
        logits: ``logits(x (R, B, D), *parameters) → (R, B, C)``; run r of the result may depend
            on run r of the inputs only.
        samples: for each run unit features ``(n, V, D)``, n and V equal in all runs.
        labels: ``(R, n)``.
        recipe: the recipe.
        seeds: one per run.
        weights: how much each sample counts, of mean 1 ``(R, n)``; None: 1. A step divides the
            weighted sum by the number of samples in it, so that an epoch adds up to all of them.
        penalty: ``penalty(*parameters) → (R,)``, added to the cross-entropy of each run.
        rates: factor on the learning rate of each parameter; None: 1.
        decays: weight decay of each parameter; None: the recipe's.
        draw: ``draw(generator) → tensor`` of a run, once per step; those of all runs go, stacked,
            to ``logits`` as ``drawn`` (for dropout).
        proximal: ``proximal(parameters, lr)``, called after every step; changes them in place.

    Returns:
        The parameters after the last step, detached.
    """
    parameters = [p.detach().clone().requires_grad_() for p in start]
    rates = rates or [1.0] * len(parameters)
    optimiser = recipe.optimise(parameters, decays or [recipe.weight_decay] * len(parameters))
    n, n_views, _ = samples[0].shape
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    steps_per_epoch = math.ceil(n / recipe.batch)
    steps = recipe.epochs * steps_per_epoch
    for step in range(steps):
        epoch, part = divmod(step, steps_per_epoch)
        if part == 0:
            order = torch.stack([torch.randperm(n, generator=g) for g in generators])
            view = torch.stack([torch.randint(n_views, (n,), generator=g) for g in generators])
        rows = order[:, part * recipe.batch : (part + 1) * recipe.batch]
        chosen = view.gather(1, rows)
        x = torch.stack([s[r, v] for s, r, v in zip(samples, rows, chosen, strict=True)])
        targets = labels.gather(1, rows)
        chance = {"drawn": torch.stack([draw(g) for g in generators])} if draw else {}
        loss = torch.nn.functional.cross_entropy(
            logits(x, *parameters, **chance).flatten(0, 1),
            targets.flatten(),
            reduction="sum" if weights is None else "none",
        )
        if weights is not None:
            loss = (loss * weights.gather(1, rows).flatten()).sum()
        loss = loss / rows.shape[1]
        if penalty is not None:
            loss = loss + penalty(*parameters).sum()
        lr = recipe.rate(epoch, step, steps)
        for group, factor in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = lr * factor
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if proximal is not None:
            with torch.no_grad():
                proximal(parameters, lr)
    return [p.detach() for p in parameters]
