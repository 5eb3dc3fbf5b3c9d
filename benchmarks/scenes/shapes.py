"""Signed distances to the shapes: negative inside, about 1 unit from the centre to the rim.

Arguments are coordinates with y upwards. The distances of the heart are Inigo Quilez's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Grid = npt.NDArray[np.float32]


def circle(x: Grid, y: Grid) -> Grid:
    return np.hypot(x, y) - np.float32(0.95)


def ring(x: Grid, y: Grid) -> Grid:
    return np.abs(np.hypot(x, y) - np.float32(0.72)) - np.float32(0.27)


def cross(x: Grid, y: Grid) -> Grid:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x - 1.05, y - 0.36), np.maximum(x - 0.36, y - 1.05))


def star(x: Grid, y: Grid) -> Grid:
    """Five points; the angle is folded onto half a point, whose edge is a straight line."""
    tip, dent, half = 1.25, 0.55, np.pi / 5
    radius = np.hypot(x, y)
    angle = np.abs((np.arctan2(x, y) + half) % (2 * half) - half)
    edge = np.array([dent * np.cos(half) - tip, dent * np.sin(half)])
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return (radius * np.cos(angle) - tip) * normal[0] + radius * np.sin(angle) * normal[1]


def heart(x: Grid, y: Grid) -> Grid:
    scale = np.float32(1.9)
    x, y = np.abs(x) / scale, y / scale + np.float32(0.52)
    lobe = np.hypot(x - 0.25, y - 0.75) - np.sqrt(2) / 4
    m = 0.5 * np.maximum(x + y, 0)
    tip = np.sqrt(np.minimum(x**2 + (y - 1) ** 2, (x - m) ** 2 + (y - m) ** 2)) * np.sign(x - y)
    return np.where(x + y > 1, lobe, tip) * scale


def _polygon(sides: int, inner: float, turn: float) -> Callable[[Grid, Grid], Grid]:
    angles = turn + 2 * np.pi * np.arange(sides) / sides

    def distance(x: Grid, y: Grid) -> Grid:
        far = [np.float32(np.cos(a)) * x + np.float32(np.sin(a)) * y for a in angles]
        return np.maximum.reduce(far) - np.float32(inner)

    return distance


DISTANCES: dict[str, Callable[[Grid, Grid], Grid]] = {
    "circle": circle,
    "square": _polygon(4, 0.84, 0.0),
    "triangle": _polygon(3, 0.62, -np.pi / 2),
    "star": star,
    "cross": cross,
    "ring": ring,
    "heart": heart,
    "hexagon": _polygon(6, 0.88, np.pi / 6),
}
