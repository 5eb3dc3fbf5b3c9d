"""Features files in which the names say nothing: what product codes are to a text tower.

Each class gets the class embedding of another one, by a derangement drawn with a seed; images and
labels stay as they are. Methods are then compared as on any features file:

    python benchmarks/codes.py FEATURES.safetensors … --out FOLDER
    handful bench run --features FOLDER/NAME-codes.safetensors …
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from handful.features.file import load_features, save_features


def main() -> None:
    """Write ``NAME-codes.safetensors`` for each features file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("features", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for path in given.features:
        found = load_features(path)
        assert found.class_embeddings is not None, f"{path} has no text side"
        classes = len(found.class_embeddings)
        order = np.random.default_rng(given.seed).permutation(classes)
        other = np.empty(classes, dtype=int)
        other[order] = np.roll(order, 1)  # one cycle: no class keeps its own
        codes = replace(
            found,
            text_features=None,
            templates=None,
            class_embeddings=found.class_embeddings[other],
        )
        out = given.out / f"{path.stem}-codes.safetensors"
        save_features(out, codes, overwrite=True)
        print(out)


if __name__ == "__main__":
    main()
