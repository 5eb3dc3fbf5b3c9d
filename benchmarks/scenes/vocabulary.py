"""What a drawn scene can be: its attributes, the combinations kept from training, the tasks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "hexagon")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
TEXTURES = ("plain", "striped", "dotted", "checked", "bordered", "shaded")
SIZES = ("small", "large")
BACKGROUNDS = ("white", "gray", "black", "green", "blue")
COUNTS = (1, 2, 3)

Kind = tuple[str, str, str]  # shape, colour, texture

KINDS: tuple[Kind, ...] = tuple(product(SHAPES, COLOURS, TEXTURES))


@dataclass(frozen=True)
class Scene:
    """One to three objects of one kind on a background."""

    shape: str
    colour: str
    texture: str
    size: str
    background: str
    count: int

    @property
    def kind(self) -> Kind:
        return self.shape, self.colour, self.texture


def is_held_out(kind: Kind) -> bool:
    """Whether training never sees this combination, in a picture or in a caption.

    A fifth of the combinations, laid like a Latin square: each pair of attribute values is still
    seen in training, with other values of the third attribute.
    """
    shape, colour, texture = kind
    return (SHAPES.index(shape) + COLOURS.index(colour) + TEXTURES.index(texture)) % 5 == 0


HELD_OUT = tuple(kind for kind in KINDS if is_held_out(kind))
TRAINED = tuple(kind for kind in KINDS if not is_held_out(kind))


def random_scene(kind: Kind, rng: np.random.Generator) -> Scene:
    """Draw the attributes that ``kind`` leaves open; the background has another colour."""
    shape, colour, texture = kind
    backgrounds = [name for name in BACKGROUNDS if name != colour]
    return Scene(
        shape,
        colour,
        texture,
        SIZES[rng.integers(len(SIZES))],
        backgrounds[rng.integers(len(backgrounds))],
        COUNTS[rng.integers(len(COUNTS))],
    )


def class_name(kind: Kind) -> str:
    """Return a kind in words: ``red striped circle``."""
    shape, colour, texture = kind
    return f"{colour} {texture} {shape}"


def _spread(kinds: tuple[Kind, ...], count: int) -> tuple[Kind, ...]:
    """Take ``count`` of the kinds at random, the same on every call."""
    order = np.random.default_rng(2026).permutation(len(kinds))[:count]
    return tuple(kinds[i] for i in sorted(order))


FINE_COLOURS = ("purple", "pink")

TASKS: dict[str, tuple[Kind, ...]] = {
    # Few-shot classes: combinations that training never saw.
    "held-out": _spread(HELD_OUT, 24),
    # The same, of two neighbouring colours only: shape and texture decide.
    "fine": tuple(kind for kind in HELD_OUT if kind[1] in FINE_COLOURS),
    # A generic labelled set, disjoint from the two others.
    "generic": _spread(TRAINED, 48),
    # What training saw, to compare with.
    "trained": _spread(TRAINED, 24),
}
