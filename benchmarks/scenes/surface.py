"""How an object looks inside its rim: fills with a second tone, or strokes of chalk.

Both give, for each place of a grid in units of the object's radius, how opaque the object is and
how much of its second tone shows, 0 to 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Grid = npt.NDArray[np.float32]


def filled(
    texture: str, distance: Grid, u: Grid, v: Grid, rng: np.random.Generator
) -> tuple[Grid, Grid]:
    """Paint: opaque inside, the texture in the second tone."""
    return _ink(distance < 0), _pattern(texture, distance, u, v, rng)


def chalk(
    texture: str, distance: Grid, u: Grid, v: Grid, rng: np.random.Generator
) -> tuple[Grid, Grid]:
    """A hand-drawn outline with the texture in thin strokes and hardly any fill."""
    width = rng.uniform(0.08, 0.13)
    waves = rng.uniform(2, 5, 2) @ np.stack([u, v]).reshape(2, -1) + rng.uniform(0, 6)
    wobbly = distance + 0.05 * np.sin(waves).reshape(u.shape).astype(np.float32)
    inside = wobbly < 0
    strokes = np.abs(wobbly) < width
    if texture == "striped":
        strokes |= inside & (_saw(u, 0.5) < 0.12)
    elif texture == "checked":
        strokes |= inside & ((_saw(u, 0.55) < 0.1) | (_saw(v, 0.55) < 0.1))
    elif texture == "dotted":
        strokes |= inside & (np.hypot(_saw(u, 0.55), _saw(v, 0.55)) < 0.15)
    elif texture == "bordered":
        strokes |= np.abs(wobbly + 0.34) < 0.8 * width
    elif texture == "shaded":
        strokes |= inside & (_saw(u + v, 0.28) < 0.07) & (v < 0)
    smear = rng.uniform(0.05, 0.3)
    opacity = np.where(strokes, np.float32(0.95), np.float32(smear) * inside)
    grain = rng.uniform(0.55, 1.0, opacity.shape).astype(np.float32)
    return opacity * grain, np.zeros_like(opacity)


def _pattern(texture: str, distance: Grid, u: Grid, v: Grid, rng: np.random.Generator) -> Grid:
    """Return where the second tone shows, with the scale and the phase of the pattern at random."""
    period = 0.62 * rng.uniform(0.85, 1.2)
    u, v = u + rng.uniform(0, period), v + rng.uniform(0, period)
    if texture == "striped":
        return _ink(_saw(u, period) < 0.25 * period)
    if texture == "checked":
        return _ink((_saw(u, 1.6 * period) < 0.4 * period) ^ (_saw(v, 1.6 * period) < 0.4 * period))
    if texture == "dotted":
        return _ink(np.hypot(_saw(u, period), _saw(v, period)) < 0.31 * period)
    if texture == "bordered":
        return _ink(distance > -rng.uniform(0.16, 0.24))
    if texture == "shaded":
        return np.clip(0.5 + 0.6 * (v - period), 0, 1)
    return np.zeros_like(u)


def _saw(x: Grid, period: float) -> Grid:
    """Return the distance of ``x`` to the nearest multiple of ``period``."""
    return np.abs((x + 0.5 * period) % period - 0.5 * period)


def _ink(where: npt.NDArray[np.bool_]) -> Grid:
    return where.astype(np.float32)
