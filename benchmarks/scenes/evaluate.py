"""Zero-shot accuracy of a model on freshly drawn scenes, by task and style.

python benchmarks/scenes/evaluate.py [dir:benchmarks/scenes/model] [--images 40] [--seed 1000]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from draw import STYLES, draw_class
from vocabulary import TASKS, class_name

from handful.encoders.protocol import Encoder
from handful.encoders.spec import load_encoder
from handful.encoders.templates import prompts

MODEL = f"dir:{Path(__file__).resolve().parent / 'model'}"
SEED = 1000  # not the seed of the pictures that people draw first


def zero_shot(encoder: Encoder, task: str, style: str, images: int, seed: int = SEED) -> float:
    """Return the share of a task's pictures whose nearest class name is their own."""
    kinds = TASKS[task]
    texts = encoder.encode_texts(
        prompts([class_name(kind) for kind in kinds], encoder.default_templates)
    )
    pictures = [picture for kind in kinds for picture in draw_class(kind, images, seed, style)]
    features = encoder.encode_images(np.stack(pictures))
    nearest = (features @ (texts / np.linalg.norm(texts, axis=1, keepdims=True)).T).argmax(1)
    return float((nearest == np.repeat(np.arange(len(kinds)), images)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Zero-shot accuracy on drawn scenes.")
    parser.add_argument("encoder", nargs="?", default=MODEL)
    parser.add_argument("--images", type=int, default=40, help="per class (40)")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    encoder = load_encoder(given.encoder)
    print("| task | classes | chance |", " | ".join(STYLES), "|")
    print("| --- " * (3 + len(STYLES)) + "|")
    for task, kinds in TASKS.items():
        cells = []
        for style in STYLES:
            share = zero_shot(encoder, task, style, given.images, given.seed)
            error = math.sqrt(share * (1 - share) / (len(kinds) * given.images))
            cells.append(f"{100 * share:.1f} ± {100 * error:.1f}")
        print(f"| {task} | {len(kinds)} | {100 / len(kinds):.1f} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
