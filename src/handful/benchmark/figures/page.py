"""What stands around the panels of a figure: words above them, and a legend below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LETTERS", "LINE", "WIDTH", "heading", "legend"]

WIDTH = 7.0  # inches: both columns of a paper; one panel alone takes one
LINE = 0.17  # inches: height of a line of text
LETTERS = 15.5  # of 8 points, per inch


def legend(figure: Figure, handles: Sequence[Any], width: float) -> int:
    """Put a legend below all panels, and return how many lines it takes.

    Args:
        figure: laid out as ``constrained``.
        handles: with labels.
        width: of the figure, inches.
    """
    longest = max(len(str(handle.get_label())) for handle in handles)
    fit = max(1, int((width - 0.2) / (longest / LETTERS + 0.6)))
    lines = math.ceil(len(handles) / fit)
    across = math.ceil(len(handles) / lines)
    figure.legend(handles=handles, loc="outside lower center", ncols=across)
    return lines


def heading(figure: Figure, text: str, width: float) -> int:
    """Put words above all panels, and return how many lines they take.

    Args:
        figure: laid out as ``constrained``.
        text: in one line.
        width: of the figure, inches.
    """
    wrapped = fill(text, int(width * LETTERS))
    figure.suptitle(wrapped, x=0.01, ha="left")
    return wrapped.count("\n") + 1
