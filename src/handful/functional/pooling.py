"""From several prompts per class to one class embedding.

Two ways are in use and both are offered, because published numbers depend on which was taken
(they coincide when there is one prompt):

- ``norm_mean_norm``: every prompt embedding to unit length, mean, unit length again. Tip-Adapter,
  Tip-X, APE, CaFo, GDA, LP++, CLIP-LoRA and WiSE-FT do this.
- ``mean_norm``: mean of the raw embeddings, then unit length. TaskRes, CLAP, GraphAdapter and
  cross-modal adaptation do this.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from handful.functional.normalise import unit

__all__ = ["POOLINGS", "Pooling", "pool_templates"]

Pooling = Literal["norm_mean_norm", "mean_norm"]
POOLINGS: tuple[str, ...] = get_args(Pooling)


def pool_templates(embeddings: Tensor, how: Pooling = "norm_mean_norm") -> Tensor:
    """Pool embeddings e_{c,p} of P prompts per class into unit class embeddings w_c.

    Args:
        embeddings: ``(..., P, D)``, raw or unit.
        how: see the module.

    Returns:
        ``(..., D)``, unit length.
    """
    if how not in POOLINGS:
        raise ValueError(f"text pooling {how!r} is unknown: use one of {', '.join(POOLINGS)}")
    if how == "norm_mean_norm":
        embeddings = unit(embeddings)
    return unit(embeddings.mean(dim=-2))
