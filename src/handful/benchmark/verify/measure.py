"""What a source reaches with the method of a published number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from handful.benchmark.one_run import Run, run_once, task_of
from handful.benchmark.protocols import draw
from handful.benchmark.source import Source
from handful.benchmark.verify.published import Number
from handful.functional.cosine import cosine_logits
from handful.methods.zero_shot import ZeroShot
from handful.progress import progress

__all__ = ["PROTOCOL", "measure", "zero_shot_accuracy"]

PROTOCOL = "coop"
_AT_ONCE = 4096  # images

Rows = npt.NDArray[np.int64]


def measure(number: Number, source: Source, test: Rows) -> float:
    """Return the accuracy of the number's method; of a head the mean over its seeds.

    Settings of a head are chosen on validation images, where the protocol has some, and
    else by cross-validation.

    Args:
        number: says which method, how many shots and which seeds.
        source: with class embeddings and a test split.
        test: rows of the test images.

    Raises:
        InputError: too few images for the shots.
    """
    if number.method == ZeroShot.name:
        return zero_shot_accuracy(source, source.features.image_features[test], test)
    found = []
    with progress(number.method, len(number.seeds), "runs") as advance:
        for seed in number.seeds:
            drawn = draw(PROTOCOL, source, number.shots, seed)
            policy = "cv" if drawn.validation is None else "val"
            run = Run(source.digest, PROTOCOL, policy, number.shots, seed, number.method)
            found.append(run_once(run, source, drawn, task_of(source, drawn, policy))["accuracy"])
            advance(1)
    return float(np.mean(found))


def zero_shot_accuracy(source: Source, features: npt.NDArray[np.float32], rows: Rows) -> float:
    """Return the share of images whose nearest class embedding is that of their class.

    Args:
        source: with class embeddings.
        features: of some of its images, ``(n, D)``.
        rows: which these are.
    """
    f = source.features
    W = torch.from_numpy(f.class_embeddings).double()
    right = 0
    for start in range(0, len(rows), _AT_ONCE):
        X = torch.from_numpy(features[start : start + _AT_ONCE]).double()
        said = cosine_logits(X, W, f.logit_scale).argmax(dim=1).numpy()
        right += int((said == source.labels[rows[start : start + _AT_ONCE]]).sum())
    return right / len(rows)
