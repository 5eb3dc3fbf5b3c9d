"""Draw scenes, and write them as folders of images that every verb of handful takes.

    python benchmarks/scenes/draw.py OUT --task held-out --images 40 --seed 0 [--style sketch]

writes ``OUT/<class name>/<n>.png``. A picture is determined by the seed, its class and its number.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from shapes import DISTANCES
from surface import chalk, filled
from vocabulary import KINDS, TASKS, Kind, Scene, class_name, random_scene

SIDE = 48  # pixels
FINER = 3  # samples per pixel and axis, whose mean smooths the edges

INKS = {
    "red": (205, 35, 40),
    "orange": (240, 130, 25),
    "yellow": (235, 215, 50),
    "green": (45, 155, 60),
    "blue": (40, 85, 205),
    "purple": (125, 50, 165),
    "pink": (240, 135, 180),
    "brown": (120, 75, 40),
}
GROUNDS = {
    "white": (238, 238, 238),
    "gray": (140, 140, 140),
    "black": (28, 28, 28),
    "green": (110, 165, 110),
    "blue": (115, 145, 205),
}


@dataclass(frozen=True)
class Style:
    """What differs between the pictures of training and a style that training never saw.

    Attributes:
        surface: ``filled`` or ``chalk``.
        turn: largest rotation to either side, degrees.
        noise: standard deviation of the pixels' noise, of 255.
        jitter: standard deviation of the ink's channels, of 255.
        board: colours that the background is mixed with, half and half; none leaves it alone.
    """

    surface: Callable[..., tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]
    turn: float
    noise: float
    jitter: float
    board: tuple[tuple[int, int, int], ...] = ()


STYLES = {
    "plain": Style(filled, turn=20, noise=10, jitter=16),
    "sketch": Style(chalk, turn=45, noise=12, jitter=10, board=((45, 55, 50), (225, 215, 190))),
}


def draw(scene: Scene, rng: np.random.Generator, style: str = "plain") -> npt.NDArray[np.uint8]:
    """Return the picture of a scene, uint8 ``(48, 48, 3)``; ``rng`` decides what it leaves open."""
    look = STYLES[style]
    picture = _ground(scene.background, look, rng)
    ink = np.array(INKS[scene.colour]) * rng.uniform(0.8, 1.1) + rng.normal(0, look.jitter, 3)
    second = 0.35 * ink + 0.65 * (np.full(3, 245.0) if rng.random() < 0.5 else np.full(3, 20.0))
    radius = rng.uniform(10.5, 13) if scene.size == "large" else rng.uniform(6.5, 8)
    radius *= 0.82 if scene.count == 3 else 1.0
    for centre in _places(scene.count, radius, rng):
        _paint(picture, scene, centre, radius * rng.uniform(0.93, 1.07), ink, second, look, rng)
    picture += rng.normal(0, look.noise, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _ground(name: str, look: Style, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A colour that changes slowly across the picture."""
    colour = np.array(GROUNDS[name]) + rng.normal(0, 10, 3)
    if look.board:
        colour = 0.5 * colour + 0.5 * np.array(look.board[rng.integers(len(look.board))])
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    slope = rng.normal(0, 10, 2)
    return (colour + (slope[0] * x + slope[1] * y)[..., None]).astype(np.float32)


def _places(count: int, radius: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the centres, ``(count, 2)``: the first try without overlap, else the widest apart."""
    margin = 0.9 * radius
    best, gap = np.empty((0, 2)), -1.0
    for _ in range(40):
        places = rng.uniform(margin, SIDE - margin, (count, 2))
        apart = [math.dist(a, b) for i, a in enumerate(places) for b in places[:i]]
        if min(apart, default=math.inf) > gap:
            best, gap = places, min(apart, default=math.inf)
        if gap > 2.1 * radius:
            break
    return best


def _paint(
    picture: npt.NDArray[np.float32],
    scene: Scene,
    centre: npt.NDArray[np.float64],
    radius: float,
    ink: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    look: Style,
    rng: np.random.Generator,
) -> None:
    """Put one object onto the picture; only the pixels around it are computed."""
    first = np.maximum(np.floor(centre - 1.5 * radius), 0).astype(int)
    last = np.minimum(np.ceil(centre + 1.5 * radius), SIDE).astype(int)
    ticks = [
        (np.arange((b - a) * FINER, dtype=np.float32) + 0.5) / FINER + np.float32(a - c)
        for a, b, c in zip(first, last, centre, strict=True)
    ]
    down, right = np.meshgrid(*ticks, indexing="ij")
    turn = math.radians(rng.uniform(-look.turn, look.turn))
    x, y = _turned(right / np.float32(radius), -down / np.float32(radius), turn)
    u, v = _turned(x, y, rng.uniform(0, 2 * math.pi))
    distance = DISTANCES[scene.shape](x, y).astype(np.float32)
    opacity, tone = look.surface(scene.texture, distance, u, v, rng)
    rows, columns = last - first
    cells = (rows, FINER, columns, FINER)
    alpha = opacity.reshape(cells).mean((1, 3))[..., None]
    share = (opacity * tone).reshape(cells).mean((1, 3))[..., None]
    part = picture[first[0] : last[0], first[1] : last[1]]
    part[:] = part * (1 - alpha) + ink * (alpha - share) + second * share


def _turned(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], angle: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def draw_class(kind: Kind, count: int, seed: int, style: str) -> list[npt.NDArray[np.uint8]]:
    """Return ``count`` pictures of a kind, whatever tasks it is part of."""
    pictures = []
    for index in range(count):
        # From 1, for numpy reads (seed, index) of training's pictures as (seed, index, 0).
        rng = np.random.default_rng((seed, KINDS.index(kind) + 1, index + 1))
        pictures.append(draw(random_scene(kind, rng), rng, style))
    return pictures


def write_task(out: Path, task: str, images: int, seed: int, style: str) -> None:
    """Write the folders of a task."""
    for kind in TASKS[task]:
        folder = out / class_name(kind)
        folder.mkdir(parents=True, exist_ok=True)
        for index, pixels in enumerate(draw_class(kind, images, seed, style)):
            Image.fromarray(pixels).save(folder / f"{index:04d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a task of drawn scenes as class folders.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--task", choices=TASKS, default="held-out")
    parser.add_argument("--images", type=int, default=40, help="per class (40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", choices=STYLES, default="plain")
    given = parser.parse_args()
    write_task(given.out, given.task, given.images, given.seed, given.style)


if __name__ == "__main__":
    main()
