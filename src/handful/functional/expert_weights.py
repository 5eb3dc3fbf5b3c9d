"""How much each of several opinions counts: a product of experts, its weights by likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["expert_weights", "row_spread"]

_LARGEST = 10.0


def row_spread(logits: Tensor) -> Tensor:
    """Return how much logits differ between classes: root mean square over ``(N, C)``."""
    return (logits - logits.mean(dim=1, keepdim=True)).square().mean().sqrt()


def expert_weights(
    logits: Tensor,
    labels: Tensor,
    prior: Sequence[float],
    spread: float,
    *,
    weights: Tensor | None = None,
) -> list[float]:
    """Return weights w with the likeliest labels under softmax(Σₑ wₑ·logitsₑ), by MAP.

    log w has a normal prior, so that a few images move the weights little from where they begin,
    none of them is negative, and many images decide by themselves.

    Args:
        logits: of images that the experts were not fitted on, float64 ``(E, N, C)``.
        labels: int64 ``(N,)``.
        prior: median of each weight.
        spread: standard deviation of log w.
        weights: how much each image counts ``(N,)``; None: 1.

    Returns:
        E weights.
    """
    centred = logits - logits.mean(dim=2, keepdim=True)
    start = torch.tensor([math.log(weight) for weight in prior], dtype=torch.float64)
    moved = torch.zeros_like(start).requires_grad_()
    optimiser = torch.optim.LBFGS([moved], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        mixed = torch.tensordot((start + moved).clamp(-_LARGEST, _LARGEST).exp(), centred, 1)
        if weights is None:
            total = torch.nn.functional.cross_entropy(mixed, labels, reduction="sum")
        else:
            wrong = torch.nn.functional.cross_entropy(mixed, labels, reduction="none")
            total = (wrong * weights).sum()
        total = total + (moved**2).sum() / (2 * spread**2)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return [float(w) for w in (start + moved.detach()).clamp(-_LARGEST, _LARGEST).exp()]
