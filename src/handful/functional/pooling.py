"""From several prompts per class to one class embedding.

Two ways are in use and both are offered, because published numbers depend on which was taken
(they coincide when there is one prompt):

- ``norm_mean_norm``: every prompt embedding to unit length, mean, unit length again. Tip-Adapter,
  Tip-X, APE, CaFo, GDA, LP++, CLIP-LoRA and WiSE-FT do this.
- ``mean_norm``: mean of the raw embeddings, then unit length. TaskRes, CLAP, GraphAdapter and
  cross-modal adaptation do this.

Classes may have different numbers of prompts: a row of zeros is no prompt. In both ways it adds
nothing to the sum, and the length of the mean, the only thing that its being counted changes, is
made one at the end. A class of such rows alone becomes zeros.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from handful.functional.normalise import unit

__all__ = ["POOLINGS", "Pooling", "pool_templates"]

Pooling = Literal["norm_mean_norm", "mean_norm"]
POOLINGS: tuple[str, ...] = get_args(Pooling)

_AT_ONCE = 2**22  # numbers that are made unit at once: a second copy of all may be hundreds of MB


def pool_templates(embeddings: Tensor, how: Pooling = "norm_mean_norm") -> Tensor:
    """Pool embeddings e_{c,p} of P prompts per class into unit class embeddings w_c.

    Args:
        embeddings: ``(..., P, D)``, raw or unit; rows of zeros are no prompts.
        how: see the module.

    Returns:
        ``(..., D)``, unit length.
    """
    if how not in POOLINGS:
        raise ValueError(f"text pooling {how!r} is unknown: use one of {', '.join(POOLINGS)}")
    if how == "mean_norm":
        return unit(embeddings.mean(dim=-2))
    if embeddings.ndim == 2 or embeddings.numel() <= _AT_ONCE:
        return unit(unit(embeddings).mean(dim=-2))
    per_class = embeddings[0].numel()
    parts = torch.split(embeddings, max(1, _AT_ONCE // per_class))
    return torch.cat([unit(unit(part).mean(dim=-2)) for part in parts])
