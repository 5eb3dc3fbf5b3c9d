"""Captions of scenes: some of the attributes, in some order, in one of several wordings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from vocabulary import BACKGROUNDS, COLOURS, COUNTS, SHAPES, SIZES, TEXTURES, Scene

NUMBERS = ("one", "two", "three")
WORDINGS = (
    "{}",
    "a photo of {}.",
    "a photo of {}",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}.",
    "here you see {}",
    "the picture shows {}.",
)
VALUES: tuple[tuple[object, ...], ...] = (SHAPES, COLOURS, TEXTURES, SIZES, BACKGROUNDS, COUNTS)
# How often a caption names the attribute, in the order of VALUES. Colour, ground and number are
# learnt in no time; were they always said, the loss would hardly ask for shapes and textures.
NAMED = np.array([0.95, 0.6, 0.8, 0.25, 0.2, 0.3])
UNNAMED = -1

Codes = npt.NDArray[np.int64]


def codes(scene: Scene) -> Codes:
    """Return the attributes of a scene as numbers, ``(6,)``, in the order of ``VALUES``."""
    parts = (scene.shape, scene.colour, scene.texture, scene.size, scene.background, scene.count)
    return np.array([values.index(part) for values, part in zip(VALUES, parts, strict=True)])


def caption(scene: Scene, rng: np.random.Generator) -> tuple[str, Codes]:
    """Return a caption, and the codes of the attributes that it names (others are ``UNNAMED``)."""
    named = rng.random(6) < NAMED
    shape, colour, texture, size, background, count = named
    words = [
        word
        for word, said in ((scene.colour, colour), (scene.texture, texture), (scene.size, size))
        if said
    ]
    rng.shuffle(words)
    noun = scene.shape if shape else "shape"
    if scene.count > 1:
        noun = {"cross": "crosses"}.get(noun, noun + "s")
    # "a red circle that is small": now and then one word comes last.
    last = words.pop() if words and rng.random() < 0.15 else ""
    phrase = " ".join([*words, noun])
    if count:
        phrase = f"{NUMBERS[scene.count - 1]} {phrase}"
    elif scene.count == 1:
        phrase = f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
    if last:
        phrase += f" that {'is' if scene.count == 1 else 'are'} {last}"
    if background:
        phrase += f" on a {scene.background} background"
    text = WORDINGS[rng.integers(len(WORDINGS))].format(phrase)
    return text, np.where(named, codes(scene), UNNAMED)


def describes(captions: Codes, scenes: Codes) -> npt.NDArray[np.bool_]:
    """Return ``(M, N)``: whether each of M captions is true of each of N scenes."""
    said, are = captions[:, None], scenes[None]
    return ((said == are) | (said == UNNAMED)).all(2)
