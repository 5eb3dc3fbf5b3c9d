"""Images and prompts as training samples of one classifier (cross-modal adaptation)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Mixture", "mix"]


@dataclass(frozen=True)
class Mixture:
    """Samples of both kinds, as row numbers of one table.

    Attributes:
        table: every vector once, the views of the images, then the prompts, ``(n·V + C·T, D)``.
        rows: for each sample the rows of the table that it may be drawn from, int64 ``(m, U)``,
            each of them equally often where V and T_c divide U.
        labels: class of each sample, int64 ``(m,)``.
    """

    table: Tensor
    rows: Tensor
    labels: Tensor


def mix(images: Tensor, labels: Tensor, prompts: Tensor, text_share: float) -> Mixture:
    """Put images and prompts into one set of samples.

    An image is one sample, drawn in one of its views. A class is as many samples as make up the
    share of text, each drawn as one of its prompts: rounded up, so that every class is there
    equally often.

    Args:
        images: ``(n, V, D)``.
        labels: int64 ``(n,)``.
        prompts: ``(C, T, D)``; rows of zeros are no prompts. Each class has at least one.
        text_share: share of prompts among the samples, from 0 to below 1.
    """
    n, n_views, _ = images.shape
    n_classes, n_prompts, _ = prompts.shape
    column = torch.arange(math.lcm(n_views, n_prompts))
    image_rows = torch.arange(n)[:, None] * n_views + column % n_views
    of_class = []
    for c, present in enumerate((prompts != 0).any(dim=-1)):
        own = n * n_views + c * n_prompts + present.nonzero()[:, 0]
        of_class.append(own[column % len(own)])
    # A share stored as 0.9 may come out a hair above a whole number: not rounded up for that.
    times = math.ceil(text_share / (1 - text_share) * n / n_classes - 1e-9)
    return Mixture(
        table=torch.cat([images.flatten(0, 1), prompts.flatten(0, 1)]),
        rows=torch.cat([image_rows, torch.stack(of_class).repeat(times, 1)]),
        labels=torch.cat([labels, torch.arange(n_classes).repeat(times)]),
    )
