"""What a training gave: numbers, from which a tuned encoder is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from handful.encoders.protocol import Encoder
from handful.tuning.tuned_encoder import TunedEncoder, open_tuned
from handful.tuning.tuning import Prompts, Tuning

__all__ = ["Trained", "copied", "put"]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training gave: numbers alone, on the CPU.

    Attributes:
        tuning: the method and its settings.
        prompts: of the classes.
        seed: as given.
        start, end: the trained numbers before the first step, and of the pass that is kept.
        judged: where the recipe keeps the best pass, which validation images were right ``(M,)``
            before training and after passes, of which every one is judged where there are no
            more validation than training images; else empty.
        best: number of the pass that is kept, 0 being none; the last where nothing was judged.
        steps: of the recipe.
        seconds: spent in the loop, images and their frozen part not counted.
        file: in which the run is kept, so that a search that is stopped need not do it again.
    """

    tuning: Tuning
    prompts: Prompts
    seed: int
    start: dict[str, Tensor]
    end: dict[str, Tensor]
    judged: tuple[npt.NDArray[np.bool_], ...]
    best: int
    steps: int
    seconds: float
    file: Path | None

    def forget(self) -> None:
        """Remove the file in which the run is kept."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)

    def finished(self, encoder: Encoder, tuning: Tuning | None = None) -> TunedEncoder:
        """Return the encoder with what the method keeps.

        Args:
            encoder: the base.
            tuning: the same method with other settings of those that :meth:`Tuning.kept` reads.
        """
        tuning = tuning or self.tuning
        tuned = open_tuned(tuning, encoder, self.prompts, self.seed)
        put(tuned.trained(), tuning.kept(self.start, self.end))
        return TunedEncoder(encoder, tuning, tuned, self.seed)


def copied(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU."""
    return {name: p.detach().cpu().clone() for name, p in parameters.items()}


def put(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Set parameters to values, by name."""
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)
