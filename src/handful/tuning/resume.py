"""A training run on the disk, so that it can be stopped and gone on with.

One safetensors file holds what is trained, the optimiser's state, and in its header, as JSON, how
far the run has come. Nothing random has a state to keep: the order of the images in a pass and the
dropout of a step are drawn from the seed and the number of the pass or step.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from handful.errors import InputError
from handful.paths import new_file

__all__ = ["Checkpoint", "Reached"]

_COST = 0.05  # of the time, at most, goes into writing


@dataclass(frozen=True)
class Reached:
    """How far a run has come.

    Attributes:
        epoch: passes that are done (of a correction, steps).
        seconds: that they took.
        judged: which validation images were right, each time they were judged: bits, in
            hexadecimal digits; empty where nothing is judged.
        best: number of the pass that is kept.
        correct: number of validation images that were right at ``best``.
        unsure: mean negative log-likelihood of the validation images at ``best``.
    """

    epoch: int = 0
    seconds: float = 0.0
    judged: tuple[str, ...] = ()
    best: int = 0
    correct: int = -1
    unsure: float = field(default=float("inf"))


class Checkpoint:
    """The file of one run.

    Args:
        path: the file, there or not; None: nothing is kept.
        run: digest of everything that the run's result depends on.
    """

    def __init__(self, path: Path | None, run: str) -> None:
        self._path = path
        self._run = run
        self._free_from = 0.0  # when writing again is cheap enough

    def write(
        self,
        reached: Reached,
        trained: Mapping[str, Tensor],
        best: Mapping[str, Tensor],
        optimiser: torch.optim.Optimizer,
        *,
        over: bool = False,
    ) -> None:
        """Write the run, in place of what is there; skipped where it would cost too much time.

        A run that is ``over`` is written always.

        Raises:
            InputError: it cannot be written.
        """
        started = time.monotonic()
        if self._path is None or (started < self._free_from and not over):
            return
        from safetensors.torch import save_file

        tensors = {f"trained.{name}": tensor for name, tensor in trained.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
        for number, state in optimiser.state_dict()["state"].items():
            for name, value in state.items():
                if value is not None:
                    tensors[f"optimiser.{number}.{name}"] = torch.as_tensor(value)
        # Copies: the format takes no two tensors on the same memory.
        tensors = {name: t.detach().cpu().clone() for name, t in tensors.items()}
        about = json.dumps({"run": self._run, **asdict(reached)})
        with new_file(self._path, overwrite=True) as temporary:
            save_file(tensors, temporary, {"handful": about})
        ended = time.monotonic()
        self._free_from = ended + (ended - started) / _COST

    def read(
        self,
        trained: Mapping[str, Tensor],
        optimiser: torch.optim.Optimizer,
    ) -> tuple[Reached, dict[str, Tensor]]:
        """Set what is trained and the optimiser to where the run stopped.

        Returns:
            How far it had come, and the best numbers so far; nothing where there is no file.

        Raises:
            InputError: the file is damaged, or of another run.
        """
        if self._path is None or not self._path.exists():
            return Reached(), {}
        from safetensors import safe_open

        try:
            with safe_open(self._path, "pt") as file:
                about = json.loads(file.metadata()["handful"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            run = about.pop("run")
            reached = Reached(**about | {"judged": tuple(about["judged"])})
            if run == self._run:
                _restore(tensors, trained, optimiser)
        except Exception as error:  # whatever a damaged file brings about
            raise InputError(
                f"{self._path} is no run that can be resumed ({error}): remove it to begin anew."
            ) from error
        if run != self._run:
            raise InputError(
                f"{self._path} belongs to another run, with other images, settings or weights: "
                "remove it to begin anew, or give another name."
            )
        return reached, _under("best", tensors)


def _restore(
    tensors: Mapping[str, Tensor], trained: Mapping[str, Tensor], optimiser: torch.optim.Optimizer
) -> None:
    with torch.no_grad():
        for name, tensor in _under("trained", tensors).items():
            trained[name].copy_(tensor)
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in _under("optimiser", tensors).items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def _under(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{part}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
