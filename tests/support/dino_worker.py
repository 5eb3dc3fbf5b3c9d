"""One of the processes that torchrun starts: trains corrections by DINO, and says what it found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from handful import load_encoder
from handful.features.contents import Features
from handful.progress import notice
from handful.tuning.dino import train_dino

SMALL: dict[str, Any] = {
    "width": 8,
    "batch": 6,
    "epochs": 10,
    "lr": 0.2,
    "warm_up": 1,
    "momentum": 0.9,
    "local_crops": 2,
    "head_hidden": 32,
    "head_narrow": 16,
    "head_outputs": 64,
}


def views() -> Features:
    """Twelve rows of features in five views, that look alike."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(12, 1, 16))
    seen = (centre + 0.5 * rng.normal(size=(12, 5, 16))).astype(np.float32)
    return Features(image_features=seen.mean(1), view_features=seen)


def main(model: str, pictures: str, checkpoint: str, out: str) -> None:
    from handful.tuning.processes import joined

    with joined() as processes:
        encoder = load_encoder(f"dir:{model}")
        paths = sorted(Path(pictures).iterdir())
        blocks = train_dino(encoder, paths, form="blocks", settings=SMALL, seed=1)
        again = train_dino(
            encoder, paths, form="blocks", settings=SMALL, seed=2, checkpoint=Path(checkpoint)
        )
        rows = train_dino(None, views(), form="projection", settings=SMALL | {"clip": 1.0})
        notice(f"process {processes.rank} of {processes.count}")
    found = {"blocks": blocks, "again": again, "rows": rows}
    arrays = {f"{k}.{name}": a for k, c in found.items() for name, a in c.arrays.items()}
    arrays |= {f"{k}.losses": np.array(c.record["losses"]) for k, c in found.items()}
    save_file(arrays, f"{out}/{processes.rank}.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
