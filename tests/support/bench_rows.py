"""Lines of a results file, made up: tables are computed from them by hand."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from handful.benchmark.results import Results

TEST_IMAGES = 1000


def run(
    method: str = "zero-shot",
    accuracy: float = 0.5,
    *,
    source: str = "a",
    protocol: str = "coop",
    select: str = "val",
    shots: int = 1,
    seed: int = 1,
    given: Mapping[str, Any] | None = None,
    policy: str | None = None,
    right: Iterable[bool] | None = None,
    **others: Any,
) -> dict[str, Any]:
    """A line; the first ``accuracy`` of its test images are right unless ``right`` says which."""
    bits = np.arange(TEST_IMAGES) < round(accuracy * TEST_IMAGES)
    if right is not None:
        bits = np.array(list(right), dtype=bool)
    digest = source * 64
    settings = {} if method == "zero-shot" else {"blend": 1.0, "sharpness": 5.5}
    return {
        "kind": "run",
        "key": f"{digest[:16]} {protocol} {select} {shots} {seed} {method} {given or ''}",
        "source": digest,
        "protocol": protocol,
        "select": select,
        "shots": shots,
        "seed": seed,
        "method": method,
        "given": dict(given or {}),
        "accuracy": float(bits.mean()),
        "test_images": len(bits),
        "per_class": {"cat": 0.5, "dog": 0.5},
        "negative_log_likelihood": 1 - accuracy,
        "calibration_error": 0.1,
        "right": base64.b64encode(np.packbits(bits).tobytes()).decode(),
        "settings": {**settings, **(given or {})},
        "selection": {"policy": policy or ("fixed" if method == "zero-shot" else select)},
        "support": list(range(20)),
        "validation": None,
        "fit_seconds": 0.25,
        "versions": {"handful": "1.0"},
        "command": ["handful", "bench", "run", "--methods", method],
        **others,
    }


def results(
    runs: Iterable[Mapping[str, Any]],
    names: Mapping[str, str] | None = None,
    classes: Iterable[str] = ("cat", "dog"),
) -> Results:
    """What a results file with these lines holds; a source is called by its letter."""
    kept = {row["key"]: dict(row) for row in runs}
    sources = {
        digest: {
            "kind": "source",
            "digest": digest,
            "name": (names or {}).get(digest[0], digest[0]),
            "encoder": None,
            "class_names": list(classes),
        }
        for digest in {row["source"] for row in kept.values()}
    }
    return Results(kept, sources)


def grid(
    accuracies: Mapping[str, Iterable[float]], *, shots: Iterable[int] = (1,), **others: Any
) -> list[dict[str, Any]]:
    """Lines for each method at each K with the seeds 1, 2, …, one for each accuracy."""
    return [
        run(method, accuracy, shots=k, seed=seed, **others)
        for method, values in accuracies.items()
        for k in shots
        for seed, accuracy in enumerate(values, 1)
    ]
