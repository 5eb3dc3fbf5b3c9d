"""How close encoding comes to the bare model's rate, and what memory it takes.

    python benchmarks/speed.py IMAGES [--encoder SPEC] [--repeat N]

IMAGES is a folder. All rates are images per second, medians over repeats of one process, so that
only their ratios should be compared between machines.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from handful import load_encoder
from handful.datasets.folder import find_images
from handful.encoders.decode import open_image
from handful.features.extract import BATCH_SIZE, encode_images
from handful.features.prepare import prepare_ahead
from handful.features.store import FeatureStore


def rate(work: Callable[[], object], count: int, repeat: int) -> float:
    """Return the median number of images per second."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return count / statistics.median(seconds)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--encoder", default="lite")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    encoder = load_encoder(given.encoder)
    paths = find_images([given.images])
    some = np.stack([encoder.preprocess(open_image(path)) for path in paths[: 4 * BATCH_SIZE]])
    encoder.encode_images(some)  # warm

    def bare() -> None:
        for start in range(0, len(some), BATCH_SIZE):
            encoder.encode_images(some[start : start + BATCH_SIZE])

    def prepare() -> None:
        from handful.encoders.views import CENTRE

        for future in prepare_ahead(encoder, paths, (CENTRE,), None, 2 * BATCH_SIZE, None):
            future.result()

    def through() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = FeatureStore(Path(folder) / "features.sqlite3")
            encode_images(encoder, paths, store=store)
            store.close()

    alone, ready, whole = (
        rate(bare, len(some), given.repeat),
        rate(prepare, len(paths), given.repeat),
        rate(through, len(paths), given.repeat),
    )
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder) / "features.sqlite3")
        encode_images(encoder, paths, store=store)
        again = rate(lambda: encode_images(encoder, paths, store=store), len(paths), given.repeat)
        store.close()
    # Model and preparation both use all cores: what is possible is one after the other.
    possible = 1 / (1 / alone + 1 / ready)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(paths)} images, encoder {encoder.spec}, images per second")
    for what, value in (
        ("the model alone", alone),
        ("reading and preparing alone", ready),
        ("possible on these cores", possible),
        ("end to end, empty store", whole),
        ("end to end, full store", again),
    ):
        print(f"  {what:<30}{value:8.1f}")
    print(f"  {'end to end / possible':<30}{whole / possible:8.2f}")
    print(f"  {'peak memory, MB':<30}{peak:8.0f}")


if __name__ == "__main__":
    main()
