"""A progress bar on a terminal, silence in a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Advance", "first_process", "notice", "progress"]


class Advance(Protocol):
    """Says that units are done."""

    def __call__(self, n: int, note: str = "") -> None:
        """Move the bar by ``n`` units, and show ``note``, such as ``loss 0.31``."""


def first_process() -> bool:
    """Whether this process is the one that speaks, of those that torchrun has started together."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def notice(text: str) -> None:
    """Say one line on standard error, in a pipe too: what costs time or space is said before."""
    if first_process():
        print(f"handful: {text}", file=sys.stderr, flush=True)


@contextmanager
def progress(label: str, total: int, unit: str = "images") -> Iterator[Advance]:
    """Yield ``advance(n)``; draw rate and remaining time on standard error if it is a terminal.

    Args:
        label: what is being done, in a word or two.
        total: how many units make the whole.
        unit: name of one unit, in the plural; ``bytes`` are shown in kB, MB or GB.
    """
    if not sys.stderr.isatty() or total < 2 or not first_process():
        yield lambda n, note="": None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            digits = 0 if (task.speed or 0) >= 10 else 1
            return Text(f"{task.speed:.{digits}f} {unit}/s" if task.speed else "")

    counted = (DownloadColumn(), TransferSpeedColumn())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *(counted if unit == "bytes" else (MofNCompleteColumn(), Rate())),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)

        def advance(n: int, note: str = "") -> None:
            bar.update(task, advance=n, description=f"{label} {note}" if note else None)

        yield advance
