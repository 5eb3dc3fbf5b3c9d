"""The trained layers that are put into a tower: down, ReLU, up."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from handful.functional.bottleneck import bottleneck, layer_start, residual_blend

__all__ = ["FORMS", "Between", "Bottleneck"]

FORMS = ("residual", "blend")


class Bottleneck(nn.Module):
    """κ·Up(drop(ReLU(Down h))).

    Args:
        width: of the states, D.
        hidden: width of the middle, r.
        scale: κ.
        generator: draws Down (uniform within ±1/√D); Up and both biases are zero.
        dropout: share of the middle that is dropped while the module is in training mode.
        bias: whether the two layers have biases.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        scale: float,
        generator: torch.Generator,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # the layers' own start, which is not kept
            self.down = nn.Linear(width, hidden, bias=bias)
            self.up = nn.Linear(hidden, width, bias=bias)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.down.weight.copy_(layer_start(width, hidden, generator).T)
        self.drop = nn.Dropout(dropout)
        self.scale = scale

    def forward(self, states: Tensor) -> Tensor:
        """Return what is added to ``(..., D)``."""
        added: Tensor = self.up(self.drop(torch.relu(self.down(states))))
        return self.scale * added


class Between(nn.Module):
    """The bottleneck of CLIP-Adapter on the stream, or on the features that leave a tower.

    Args:
        layers: without biases; their scale is the blend α.
        form: ``residual``: h + α·Up(ReLU(Down LN(h))), the norm learning nothing; ``blend``:
            α·ReLU(Up(ReLU(Down h))) + (1 − α)·h, for which Up is drawn anew.
        generator: draws Up.
    """

    def __init__(self, layers: Bottleneck, form: str, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = layers
        self.form = form
        if form == "blend":
            hidden, width = layers.down.weight.shape
            with torch.no_grad():
                layers.up.weight.copy_(layer_start(hidden, width, generator).T)

    def forward(self, states: Tensor) -> Tensor:
        """Return what takes the place of ``(..., D)``."""
        if self.form == "residual":
            added: Tensor = self.layers(F.layer_norm(states, states.shape[-1:]))
            return states + added
        down, up = self.layers.down.weight.T, self.layers.up.weight.T
        return residual_blend(bottleneck(states, down, up), states, self.layers.scale)
