"""What tells methods apart in a figure: colour, marker and line, each enough for a few of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["BAND", "ZERO_SHOT_LOOK", "Look", "look"]

# Okabe and Ito's colours, which the colour-blind can tell apart, those that differ most first;
# without yellow, which is too pale on white, and black, which is zero-shot. 6, 11 and 5 have no
# common factor: colour, marker and line together repeat after 330 methods only.
COLOURS = ("#0072B2", "#D55E00", "#56B4E9", "#CC79A7", "#E69F00", "#009E73")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
LINES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1)),
    (0, (3, 1, 1, 1, 1, 1)),
)
BAND: dict[str, Any] = {"alpha": 0.13, "linewidth": 0}


@dataclass(frozen=True)
class Look:
    """How a method is drawn.

    Attributes:
        colour: as in HTML.
        line, marker: arguments of matplotlib's ``plot``; together a line with markers.
    """

    colour: str
    line: dict[str, Any]
    marker: dict[str, Any]


def look(number: int) -> Look:
    """Return the look of the method with this number."""
    return _look(
        COLOURS[number % len(COLOURS)], LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
    )


def _look(colour: str, line: Any, marker: str, size: float = 5.5) -> Look:
    return Look(
        colour,
        {"color": colour, "linestyle": line, "linewidth": 1.3},
        {
            "color": colour,
            "linestyle": "none",
            "marker": marker,
            "markersize": size,
            "markeredgecolor": "white",
            "markeredgewidth": 0.6,
        },
    )


ZERO_SHOT_LOOK = _look("#000000", (0, (6, 2)), "*", 9)
