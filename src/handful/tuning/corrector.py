"""The adapter of a correction at its place: to be trained, or to give corrected features.

Both forms look alike. What never changes is computed once, by whoever asks: the form ``blocks``
takes the states that enter the first block with an adapter, ``projection`` takes features.

A new corrector adds nothing, exactly: Up is zero. Several correctors may live on one tower, such as
a student and a teacher: each is switched on in its own forward alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from handful.errors import InputError
from handful.tuning.adapters import chosen_layers
from handful.tuning.bottlenecks import Bottleneck
from handful.tuning.correction import Correction
from handful.tuning.injected import Injected
from handful.tuning.towers import ImageTower, Towers

__all__ = ["BlocksCorrector", "Corrector", "ProjectionCorrector", "open_corrector", "reopen"]


class Corrector(nn.Module):
    """What both forms share.

    ``forward`` gives corrected features ``(N, D)``, not normalised, of what enters. In training
    mode its bottlenecks drop out; everything else always computes as in evaluation.

    Attributes:
        adapter: what is trained, and nothing else.
    """

    adapter: nn.Module

    def original(self, entering: Tensor) -> Tensor:
        """Return the features ``(N, D)`` of the encoder as it is, bit for bit."""
        raise NotImplementedError

    def both(self, entering: Tensor) -> Tensor:
        """Return ``[original | corrected]``, ``(N, 2·D)``."""
        return torch.cat([self.original(entering), self(entering)], dim=-1)

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the adapter's numbers, as a correction keeps them."""
        own = self.adapter.state_dict()
        return {name: t.detach().float().cpu().numpy().copy() for name, t in own.items()}

    def load(self, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take what :meth:`arrays` gave."""
        # Copies: arrays of a file cannot be written to.
        self.adapter.load_state_dict({n: torch.from_numpy(a.copy()) for n, a in arrays.items()})


class BlocksCorrector(Corrector):
    """Bottlenecks beside the MLPs of blocks: out = h + MLP(LN h) + κ·Up(drop(ReLU(Down h))).

    Args:
        tower: an opened image tower, whose parameters are not trained.
        layers: ``all``, ``last-4`` (for any number), numbers as text, or numbers.
        width: r of the bottlenecks.
        scale: κ.
        dropout: in the middle of the bottlenecks, in training mode.
        seed: of the random start.

    Attributes:
        first: the first block with an adapter.

    Raises:
        InputError: a layer that does not exist.
    """

    def __init__(
        self,
        tower: ImageTower,
        *,
        layers: str | tuple[int, ...] = "all",
        width: int = 64,
        scale: float = 0.03,
        dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # Not a sub-module: parameters of the tower are none of this module.
        self._tower = (tower,)
        chosen = chosen_layers(layers)(len(tower.blocks)) if isinstance(layers, str) else layers
        self._injected = Injected(
            tower.blocks, "parallel", chosen, width=width, scale=scale, seed=seed, dropout=dropout
        )
        self._injected.on = False
        self.adapter = self._injected.adapters
        self.first = self._injected.first

    def entering(self, pixels: Tensor) -> Tensor:
        """Return the states that enter block ``first``, of normalised pixels ``(N, 3, S, S)``."""
        tower = self._tower[0]
        with torch.no_grad():
            return tower.through(tower.enter(pixels), 0, self.first)

    def forward(self, entering: Tensor) -> Tensor:
        """Return corrected features of states that enter block ``first``."""
        with self._injected.switched(True):
            return self.original(entering)

    def original(self, entering: Tensor) -> Tensor:
        tower = self._tower[0]
        return tower.leave(tower.through(entering, self.first))

    def remove(self) -> None:
        """Take the adapters out of the tower."""
        self._injected.remove()


class ProjectionCorrector(Corrector):
    """A bottleneck on features: z + κ·‖z‖·Up(drop(ReLU(Down(z/‖z‖)))).

    It commutes with the length of z, so that raw and unit features are corrected alike.

    Args:
        dim: D, width of the features.
        width, scale, dropout, seed: as in :class:`BlocksCorrector`.
    """

    def __init__(
        self,
        dim: int,
        *,
        width: int = 64,
        scale: float = 1.0,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.adapter = Bottleneck(dim, width, scale=scale, generator=generator, dropout=dropout)

    def forward(self, entering: Tensor) -> Tensor:
        """Return corrected features of features ``(…, D)``."""
        length = torch.linalg.vector_norm(entering, dim=-1, keepdim=True)
        added: Tensor = self.adapter(entering / length.clamp_min(torch.finfo(length.dtype).tiny))
        corrected: Tensor = entering + length * added
        return corrected

    def original(self, entering: Tensor) -> Tensor:
        return entering


def open_corrector(
    towers: Towers | None, form: str, settings: Mapping[str, Any], *, dim: int, seed: int
) -> BlocksCorrector | ProjectionCorrector:
    """Return a new corrector, which adds nothing yet.

    Args:
        towers: opened, for the form ``blocks``.
        form: ``blocks`` or ``projection``.
        settings: with ``width``, ``scale``, ``dropout`` and, of blocks, ``layers``; others are of
            no concern here.
        dim: D.
        seed: of the random start.

    Raises:
        InputError: the image tower has no blocks, or not the layers.
    """
    own = {name: settings[name] for name in ("width", "scale", "dropout")}
    if form == "projection":
        return ProjectionCorrector(dim, **own, seed=seed)
    if towers is None or towers.image is None or not len(towers.image.blocks):
        what = "a features file" if towers is None else f"the encoder {towers.spec}"
        raise InputError(
            f"the form 'blocks' of a correction lies inside a vision transformer, and {what} has"
            " none: use form 'projection', or a CLIP or SigLIP model."
        )
    return BlocksCorrector(towers.image, layers=settings["layers"], **own, seed=seed)


def reopen(correction: Correction, towers: Towers | None) -> BlocksCorrector | ProjectionCorrector:
    """Return the trained corrector of a correction, in evaluation mode.

    Args:
        correction: what was trained.
        towers: opened, of its encoder, for the form ``blocks``.

    Raises:
        InputError: the adapters do not fit into the tower.
    """
    settings = {
        "width": correction.width,
        "scale": correction.scale,
        "dropout": 0.0,
        "layers": correction.layers,
    }
    made = open_corrector(towers, correction.form, settings, dim=correction.dim, seed=0)
    try:
        made.load(correction.arrays)
    except RuntimeError as error:  # shapes
        raise InputError(
            f"the correction of {correction.encoder} does not fit into the blocks of"
            f" {towers.spec if towers else 'the encoder'}: give the encoder it was trained for."
        ) from error
    return made.requires_grad_(False).eval()
