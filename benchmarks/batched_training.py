"""Whether heads should train as one computation or one after another.

    python benchmarks/batched_training.py [--runs 6] [--repeat 7] [--methods A,B,…]

Prints two tables of medians over repeats, taken in turns; only ratios should be compared between
machines. The first is CLIP-Adapter's training with several blends, D = 512 and 19 classes, stacked
or not, for several batches and shots: what stacking would bring. The second is what the library
does: several seeds of each method that trains, by ``fit_many`` and by ``fit``. A ratio is the time
one after another over the time together; below 1, together is slower.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from handful import methods
from handful.functional.bottleneck import bottleneck, layer_start, residual_blend
from handful.functional.normalise import unit
from handful.methods.training import Recipe, train

CLASSES, WIDTH, HIDDEN = 19, 512, 128
EPOCHS = 10


def compare(
    apart: Callable[[], object], together: Callable[[], object], repeat: int
) -> tuple[float, float]:
    """Return the median seconds of both, measured in turns after one round that does not count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat + 1):
        for work, found in zip((apart, together), seconds, strict=True):
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])


def adapters(shots: int, batch: int, runs: int) -> Callable[[list[int]], object]:
    """Return a function that trains the adapters with these numbers as one computation."""
    generator = torch.Generator().manual_seed(0)
    n = shots * CLASSES
    samples = unit(torch.randn(n, 1, WIDTH, generator=generator))
    labels = torch.arange(n) % CLASSES
    text = unit(torch.randn(CLASSES, WIDTH, generator=generator)).mT
    blends = torch.linspace(0.1, 1, runs)[:, None, None]
    down = layer_start(WIDTH, HIDDEN, generator).expand(runs, WIDTH, HIDDEN)
    up = layer_start(HIDDEN, WIDTH, generator).expand(runs, HIDDEN, WIDTH)

    def work(numbers: list[int]) -> object:
        def logits(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
            return 100 * unit(residual_blend(bottleneck(x, down, up), x, blends[numbers])) @ text

        many = len(numbers)
        recipe = Recipe(epochs=EPOCHS, batch=batch)
        start = [down[numbers], up[numbers]]
        return train(start, logits, [samples] * many, labels.expand(many, n), recipe, [0] * many)

    return work


def stacking(runs: int, repeat: int) -> None:
    """Print the first table."""
    print(f"CLIP-Adapter, {runs} blends: ms per step and run")
    print("shots batch one-by-one stacked ratio")
    numbers = list(range(runs))
    for shots, batch in ((1, 32), (2, 32), (4, 32), (16, 32), (4, 256), (16, 256)):
        work = adapters(shots, batch, runs)
        apart, together = compare(
            lambda work=work: [work([number]) for number in numbers],
            lambda work=work: work(numbers),
            repeat,
        )
        ms = 1e3 / (runs * EPOCHS * -(-shots * CLASSES // batch))
        ratio = apart / together
        print(f"{shots:5} {batch:5} {ms * apart:10.3f} {ms * together:7.3f} {ratio:5.2f}")


def fitting(names: list[str], runs: int, repeat: int) -> None:
    """Print the second table."""
    print(f"\nby the library, {runs} seeds: seconds")
    print(f"{'method':20} shots one-by-one together ratio")
    for name in names:
        for shots in (1, 16):
            rng = np.random.default_rng(0)
            y = np.repeat(np.arange(CLASSES), shots)
            text = rng.normal(size=(CLASSES, WIDTH))
            X = text[y] + 3 * rng.normal(size=(len(y), WIDTH))
            kind = methods.get(name)
            heads = [kind(text, random_state=seed) for seed in range(runs)]
            apart, together = compare(
                lambda heads=heads, X=X, y=y: [head.fit(X, y) for head in heads],
                lambda kind=kind, heads=heads, X=X, y=y: kind.fit_many(
                    heads, [(X, y, None)] * len(heads)
                ),
                repeat,
            )
            ratio = apart / together
            print(f"{name:20} {shots:5} {apart:10.3f} {together:8.3f} {ratio:5.2f}", flush=True)


def main() -> None:
    """Print both tables."""
    trained = [name for name in methods.names() if "epochs" in methods.get(name)().settings()]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--methods", default=",".join(trained))
    given = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    stacking(given.runs, given.repeat)
    fitting([name for name in given.methods.split(",") if name], given.runs, given.repeat)


if __name__ == "__main__":
    main()
