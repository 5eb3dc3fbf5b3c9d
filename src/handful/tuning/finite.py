"""Training that has come to numbers that are none."""

from __future__ import annotations

import torch
from torch import Tensor

from handful.errors import InputError

__all__ = ["check_finite"]


def check_finite(
    value: Tensor, what: str, *, step: int, steps: int, lr: float, lower: str = "learning rate"
) -> None:
    """Refuse to go on with NaN or infinity.

    Args:
        value: one number. The length of the gradient will do: a loss that is no number has a
            gradient that is none.
        what: is trained.
        step: number of the step, from 0.
        steps: how many there are.
        lr: learning rate.
        lower: what the user calls it.

    Raises:
        InputError: it is not finite.
    """
    if not bool(torch.isfinite(value)):
        raise InputError(
            f"training of {what} gave {value.item()} at step {step + 1} of {steps} (learning rate "
            f"{lr:g}): set a lower {lower}, or check the weights of the encoder."
        )
