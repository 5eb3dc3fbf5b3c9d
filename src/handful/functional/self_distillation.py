"""DINO: a student learns what its own average, the teacher, says of other crops of an image.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", 2021, as the intra-modal
overlap correction (BMVC 2024) uses it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["cosine_schedule", "distillation_loss", "moved_centre", "teacher_temperature"]


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    centre: Tensor,
    *,
    teacher_temperature: float,
    student_temperature: float = 0.1,
    global_crops: int = 2,
) -> Tensor:
    """Mean over pairs (i, j ≠ i) of CE(softmax((t_i − c)/τ_t), softmax(s_j/τ_s)).

    i is a global crop seen by the teacher, j any crop seen by the student.

    Args:
        student: outputs of all crops, the global ones first, crop by crop ``(crops·n, K)``.
        teacher: outputs of the global crops ``(global_crops·n, K)``; no gradient goes there.
        centre: c ``(K,)`` or ``(1, K)``.
        teacher_temperature, student_temperature: τ_t, τ_s.
        global_crops: number of crops that the teacher sees.

    Returns:
        A number.
    """
    targets = torch.softmax((teacher.detach() - centre) / teacher_temperature, dim=-1)
    n = len(teacher) // global_crops
    targets = targets.reshape(global_crops, n, -1)
    logs = F.log_softmax(student / student_temperature, dim=-1).reshape(-1, n, targets.shape[-1])
    # (i, j): mean over images of −t·log s, as one product instead of a loop over pairs.
    losses = -torch.einsum("ink,jnk->ij", targets, logs) / n
    others = 1 - torch.eye(*losses.shape, dtype=losses.dtype, device=losses.device)
    return (losses * others).sum() / others.sum()


def moved_centre(centre: Tensor, teacher_mean: Tensor, momentum: float = 0.9) -> Tensor:
    """c ← m·c + (1 − m)·mean of the teacher's outputs, over all images of all processes."""
    return centre * momentum + teacher_mean * (1 - momentum)


def teacher_temperature(
    epoch: int, *, first: float = 0.04, last: float = 0.07, warm_up: int = 3
) -> float:
    """τ_t of an epoch: linear from ``first`` to ``last`` in ``warm_up`` epochs, both included."""
    return float(np.linspace(first, last, warm_up)[epoch]) if epoch < warm_up else last


def cosine_schedule(
    start: float, end: float, steps: int, *, warm_up: int = 0
) -> npt.NDArray[np.float64]:
    """Values for every step: linear from 0 to ``start``, then half a cosine towards ``end``.

    The warm-up ends on ``start`` and the cosine begins there, so that it stands twice; the cosine
    stops one step short of ``end``. Both as published.

    Args:
        start: value where the cosine begins.
        end: value that it goes to.
        steps: number of values.
        warm_up: how many of them are the warm-up.
    """
    rising = np.linspace(0, start, warm_up) if warm_up else np.empty(0)
    place = np.arange(steps - warm_up) / max(1, steps - warm_up)
    return np.concatenate([rising, end + (start - end) * (1 + np.cos(np.pi * place)) / 2])
