"""What selection may choose for a head, declared as data beside the head's class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

__all__ = ["Search"]

Axis = tuple[float, ...]


@dataclass(frozen=True)
class Search:
    """The settings of a head that are chosen on validation images or by cross-validation.

    Attributes:
        train: settings that need a new fit for each of their values; several: for each combination.
        halvings: after the grid of ``train``, which is one setting then, so many halving steps
            around the best value on the log10 axis, both ends fitted each time (the search of
            CoOp's linear probe).
        sweep: settings that only prediction reads: one fitted head serves all combinations.
        blend: a setting in which the logits are linear; its best value is found exactly.
        blend_limit: the largest blend considered.
    """

    train: Mapping[str, Axis] = field(default_factory=dict)
    halvings: int = 0
    sweep: Mapping[str, Axis] = field(default_factory=dict)
    blend: str | None = None
    blend_limit: float = 100.0

    def train_points(self) -> list[dict[str, float]]:
        """Return every combination of ``train``, the last setting changing fastest."""
        return _combinations(self.train)

    def sweep_points(self) -> list[dict[str, float]]:
        """Return every combination of ``sweep``, the last setting changing fastest."""
        return _combinations(self.sweep)

    def settings(self) -> tuple[str, ...]:
        """Return the names of everything that is searched."""
        return (*self.train, *self.sweep, *((self.blend,) if self.blend else ()))

    def without(self, fixed: Mapping[str, object]) -> Search:
        """Return the search over what ``fixed`` does not fix."""
        return Search(
            train={k: v for k, v in self.train.items() if k not in fixed},
            halvings=self.halvings,
            sweep={k: v for k, v in self.sweep.items() if k not in fixed},
            blend=None if self.blend in fixed else self.blend,
            blend_limit=self.blend_limit,
        )


def _combinations(axes: Mapping[str, Axis]) -> list[dict[str, float]]:
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
