"""What a method costs in time, memory and trained numbers (CLIP-Adapter, Table 1)."""

from __future__ import annotations

import ctypes
import gc
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

__all__ = ["Cost", "Seconds", "cost_of", "forget_peak", "peak_memory", "timed"]


class _Trained(Protocol):
    def trained_parameters(self) -> int:
        """Return how many numbers an optimiser set."""
        ...


Fitted = TypeVar("Fitted", bound=_Trained)
Result = TypeVar("Result")


class Seconds(NamedTuple):
    """How long something took.

    Attributes:
        passed: on the clock.
        worked: of the processor, all its cores added up: less than ``passed`` where other programs
            had their turns, more where several cores worked.
    """

    passed: float
    worked: float


@dataclass(frozen=True)
class Cost:
    """A row of the table.

    Attributes:
        trained_parameters: numbers that an optimiser set.
        fit_seconds: everything from the images, or their features, to the fitted method.
        fit_processor_seconds: the same, of the processor.
        peak_memory_mb: most memory that the process has held while fitting; on Linux since the
            fitting began, elsewhere since the process did; 0 where the system does not tell.
        peak_device_mb: the same of a CUDA device, what PyTorch has held; 0 without one.
        seconds_per_image: of predicting.
        processor_seconds_per_image: the same, of the processor.
    """

    trained_parameters: int
    fit_seconds: float
    fit_processor_seconds: float
    peak_memory_mb: float
    peak_device_mb: float
    seconds_per_image: float
    processor_seconds_per_image: float


def cost_of(
    fit: Callable[[], Fitted], predict: Callable[[Fitted], object], images: int
) -> tuple[Fitted, Cost]:
    """Fit, predict, and measure both.

    Args:
        fit: gives what was fitted, a head or a tuned encoder.
        predict: for ``images`` images. It is called twice: the first time warms up.
        images: how many.
    """
    import torch

    cuda = torch.cuda.is_available()
    forget_peak()
    fitted, fitting = timed(fit)
    memory = peak_memory()
    device = torch.cuda.max_memory_allocated() / 2**20 if cuda else 0.0
    predict(fitted)
    _, predicting = timed(lambda: predict(fitted))
    cost = Cost(
        fitted.trained_parameters(),
        fitting.passed,
        fitting.worked,
        memory,
        device,
        predicting.passed / images,
        predicting.worked / images,
    )
    return fitted, cost


def timed(call: Callable[[], Result]) -> tuple[Result, Seconds]:
    """Call, and return the result and how long it took, work on a CUDA device included."""
    import torch

    began, busy = time.perf_counter(), time.process_time()
    result = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, Seconds(time.perf_counter() - began, time.process_time() - busy)


def forget_peak() -> None:
    """Start measuring the peak of memory anew, where the system allows it (Linux).

    What earlier work left behind is given back first, or the peak would be at least what that took.
    """
    import torch

    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # the C library of Linux alone has it
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> float:
    """Return the most memory that this process has held, in MB; since ``forget_peak`` on Linux.

    0 where the system does not tell.
    """
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        told = next(line for line in lines if line.startswith("VmHWM"))
        return round(int(told.split()[1]) / 1024, 1)
    try:
        import resource
    except ImportError:  # Windows has none
        return 0.0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used / (1024**2 if platform.system() == "Darwin" else 1024), 1)
