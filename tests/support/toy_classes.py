"""A small task for heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Toy", "toy"]


@dataclass(frozen=True)
class Toy:
    """Five Gaussian classes in 24 dimensions; features of many lengths, a text side near them."""

    X: np.ndarray
    y: np.ndarray
    views: np.ndarray
    text: np.ndarray
    queries: np.ndarray
    names: np.ndarray  # the text as if it were images


def toy(seed: int = 0, classes: int = 5, shots: int = 4, width: int = 24) -> Toy:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, width))

    def around(rows: np.ndarray, noise: float) -> np.ndarray:
        vectors = rows + noise * rng.normal(size=rows.shape)
        return vectors * rng.uniform(5, 12, size=(*rows.shape[:-1], 1))

    y = np.repeat(np.arange(classes), shots)
    X = around(centres[y], 0.6)
    views = around(np.repeat(X[:, None] / 8, 3, axis=1), 0.3)
    text = around(centres, 0.5)
    return Toy(
        X=X,
        y=y,
        views=views,
        text=text,
        names=text,
        queries=around(centres[rng.integers(classes, size=40)], 0.8),
    )
