"""The quick start: compare methods on the vendored photographs, save a classifier, use it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from handful.benchmark.held_out import held_out_accuracy
from handful.classifier import FewShotClassifier
from handful.classifier.gather import gather_images
from handful.classifier.saved import refuse_foreign
from handful.datasets.sampling import few_shot
from handful.datasets.source import open_images
from handful.encoders.spec import load_encoder
from handful.errors import InputError
from handful.features.store import FeatureStore
from handful.methods.registry import DEFAULT_METHOD
from handful.paths import refuse_existing

__all__ = ["PHOTOS", "run_demo"]

PHOTOS = Path(__file__).parent / "photos"

# The default, and what it is to be compared with first.
_METHODS = ("zero-shot", "linear-probe", "clip-adapter", "tip-adapter", "tip-adapter-f", "best")
_SHOTS, _SEEDS = (1, 2), (1, 2, 3, 4, 5)


def run_demo(out: Path, *, overwrite: bool) -> dict[str, Any]:
    """Run the quick start; the classifier goes to ``out``.

    Returns:
        ``table`` (method, shots, mean, deviation of held-out accuracy), ``predictions`` of three
        held-out photographs, and what they were made with.

    Raises:
        InputError: ``out`` is there, is not the classifier of an earlier demo, and ``overwrite``
            is false; or the extra ``lite`` is not installed.
    """
    source = open_images(PHOTOS)
    shots, seed = _SHOTS[-1], _SEEDS[0]
    support = few_shot(source.train.labels, shots, seed).support
    overwrite = overwrite or _is_earlier_demo(out, [source.train.paths[row] for row in support])
    refuse_existing(out, overwrite=overwrite, folder=True)
    refuse_foreign(out)
    encoder = load_encoder("lite")
    everything = gather_images(source, encoder, store=FeatureStore()).task
    assert everything.class_embeddings is not None
    table = held_out_accuracy(
        everything.X,
        everything.y,
        everything.class_embeddings,
        logit_scale=encoder.logit_scale,
        methods=_METHODS,
        shots=_SHOTS,
        seeds=_SEEDS,
    )
    classifier = FewShotClassifier(encoder, DEFAULT_METHOD, shots=shots, seed=seed).fit(PHOTOS)
    classifier.save(out, overwrite=overwrite)
    rest = np.setdiff1d(np.arange(len(source.train)), support)
    # One photograph of each of three classes: the first that was held out.
    shown = [int(rest[source.train.labels[rest] == label][0]) for label in (1, 4, 8)]
    probabilities = classifier.predict_proba([source.train.paths[row] for row in shown])
    return {
        "encoder": encoder.spec,
        "seeds": len(_SEEDS),
        "table": [
            {k: v for k, v in asdict(cell).items() if k != "accuracies"}
            | {"mean": cell.mean, "deviation": cell.deviation}
            for cell in table
        ],
        "method": DEFAULT_METHOD,
        "shots": shots,
        "out": str(out),
        "predictions": [
            {
                "image": "/".join(source.train.paths[row].parts[-2:]),
                "label": classifier.classes_[int(p.argmax())],
                "probability": float(p.max()),
                "truth": source.class_names[source.train.labels[row]],
            }
            for row, p in zip(shown, probabilities, strict=True)
        ],
    }


def _is_earlier_demo(out: Path, support: Sequence[Path]) -> bool:
    """Return whether ``out`` was fitted on these photographs; only that is replaced unasked."""
    try:
        digests = FewShotClassifier.load(out).digests_
    except InputError:
        return False
    return digests == {hashlib.sha256(path.read_bytes()).hexdigest() for path in support}
