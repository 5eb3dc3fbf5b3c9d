"""Which of the judged candidates is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from handful.methods.search import Search
from handful.selection.candidates import Candidate
from handful.selection.plateau import middle_of_plateau

__all__ = ["choose", "on_border"]


def choose(candidates: Sequence[Candidate], search: Search, default: Callable[[str], float]) -> int:
    """Return the position of the choice: best first over what is trained, then over the sweep.

    Args:
        candidates: judged, several of them with equal settings where something else differs.
        search: whose settings they have.
        default: gives the documented default of a setting.
    """
    positions = list(range(len(candidates)))
    for name in (*search.train, *search.sweep):
        values = sorted({candidates[i].settings[name] for i in positions})
        scores = [
            max(candidates[i].correct for i in positions if candidates[i].settings[name] == value)
            for value in values
        ]
        taken = values[middle_of_plateau(values, scores, default(name))]
        positions = [i for i in positions if candidates[i].settings[name] == taken]
    return max(positions, key=lambda i: candidates[i].correct)


def on_border(settings: Mapping[str, float], search: Search) -> tuple[str, ...]:
    """Name settings at an end of a grid that could have been wider; 0 and 1 of a share cannot."""
    axes = {**search.train, **search.sweep}
    return tuple(
        name
        for name, values in axes.items()
        if values[0] > 0 and not values[0] < settings[name] < values[-1]
    )
