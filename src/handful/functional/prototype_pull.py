"""The pull of CLAP: trained class prototypes are held near where they started.

Silva-Rodríguez et al., "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models",
CVPR 2024. The pull of class c is as strong as its text is right about the support images.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["MULTIPLIERS", "Multipliers", "class_multipliers", "pull_penalty", "pulled"]

Multipliers = Literal["class", "corrected", "constant", "balanced"]
MULTIPLIERS: tuple[str, ...] = get_args(Multipliers)


def class_multipliers(logits: Tensor, labels: Tensor, how: Multipliers = "class") -> Tensor:
    """λ_c = mean zero-shot probability of class c over the support images of class c.

    Args:
        logits: zero-shot logits Z of the support, ``(..., n, C)``.
        labels: ``(..., n)``.
        how: ``class``: as above; ``corrected``: the same times C / Σλ, so that their mean is 1;
            ``constant``: their mean, for every class; ``balanced``: 1 for every class.

    Returns:
        λ ``(..., C)``, within 0 and 1 unless ``corrected``. For a class without images nothing
        speaks against its text: λ = 1.
    """
    n_classes = logits.shape[-1]
    own = torch.softmax(logits, dim=-1).gather(-1, labels[..., None])[..., 0]
    zeros = logits.new_zeros(*logits.shape[:-2], n_classes)
    counts = zeros.scatter_add(-1, labels, torch.ones_like(own))
    found = zeros.scatter_add(-1, labels, own) / counts.clamp_min(1)
    found = torch.where(counts > 0, found, 1.0)
    if how == "corrected":
        return found * n_classes / found.sum(dim=-1, keepdim=True)
    if how == "constant":
        return found.mean(dim=-1, keepdim=True).expand_as(found).contiguous()
    return torch.ones_like(found) if how == "balanced" else found


def pull_penalty(prototypes: Tensor, start: Tensor, multipliers: Tensor) -> Tensor:
    """mean_c λ_c·‖P_c − t_c‖², for ``prototypes`` and ``start`` ``(..., C, D)``."""
    return (multipliers * (prototypes - start).square().sum(dim=-1)).mean(dim=-1)


def pulled(prototypes: Tensor, start: Tensor, multipliers: Tensor, step: float) -> Tensor:
    """Return the proximal step of :func:`pull_penalty`, argmin_P ‖P − V‖²/2 + step·penalty(P).

        P_c = V_c + r·(t_c − V_c),    r = 1 / (1 + C / (2·step·λ_c))

    It is stable for every λ, where a gradient step is not beyond λ = C / step; λ = 0 gives V and
    λ = ∞ gives t, both exactly.

    Args:
        prototypes: V, ``(..., C, D)``.
        start: t, of the same shape.
        multipliers: λ, ``(..., C)``, from 0 to infinity.
        step: above 0.
    """
    share = 1 / (1 + multipliers.shape[-1] / (2 * step * multipliers))
    return torch.lerp(prototypes, start, share[..., None])
