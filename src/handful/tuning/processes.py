"""Several processes that train one model together, as ``torchrun`` starts them.

``torchrun --nproc_per_node 4 -m handful …`` starts the same command four times; each process finds
in its environment which one it is. Without torchrun there is one process, and nothing here does
anything. gloo joins processes on CPUs, nccl those on GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from handful.errors import InputError

__all__ = ["Processes", "joined"]


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        rank: number of this one.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that prints and writes."""
        return self.rank == 0

    def share(self, items: Iterable[int]) -> list[int]:
        """Return what this process takes of them: every ``count``-th."""
        return list(items)[self.rank :: self.count]

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place; all must call it alike."""
        if self.count > 1:
            given = list(tensors)
            # One message: the tensors of an adapter are many and small.
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in given])
            distributed.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in given])
            with torch.no_grad():
                for tensor, part in zip(given, parts, strict=True):
                    tensor.copy_(part.view_as(tensor))

    def agree(self, number: int, what: str) -> None:
        """Refuse to go on where processes have different numbers.

        Raises:
            InputError: they have, in every process.
        """
        if self.count > 1:
            found: list[int | None] = [None] * self.count
            distributed.all_gather_object(found, number)
            if len(set(found)) > 1:
                raise InputError(
                    f"the processes disagree on {what} ({', '.join(map(str, found))}): let all of "
                    "them see the same files."
                )


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun has started; inside of it, joining again costs nothing.

    To be entered before an encoder is loaded: each process takes its own GPU, if there are any.

    Raises:
        InputError: the processes do not find each other.
    """
    if distributed.is_initialized():
        yield _these()
        return
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    backend = "gloo"
    if torch.cuda.is_available() and not os.environ.get("HANDFUL_DEVICE", "").startswith("cpu"):
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"  # by where the numbers are
    try:
        distributed.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the {count} processes of torchrun cannot be joined ({error}): start them with"
            " 'torchrun --nproc_per_node N -m handful …', or one without torchrun."
        ) from error
    try:
        yield _these()
    finally:
        distributed.destroy_process_group()


def _these() -> Processes:
    return Processes(distributed.get_rank(), distributed.get_world_size())
