"""The saved form: a folder with ``config.json``, ``model.safetensors`` and ``README.md``.

It is written whole or not at all, and holds no pickle. Loading checks the format version, the
digest of the weights, and every shape.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from handful.classifier.card import model_card
from handful.classifier.identity import EncoderIdentity
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.evaluation.estimate import Estimate
from handful.methods import registry
from handful.methods.head import Head
from handful.paths import new_folder

if TYPE_CHECKING:
    from handful.classifier.few_shot import FewShotClassifier

    Classifier = TypeVar("Classifier", bound=FewShotClassifier)

__all__ = ["FORMAT_VERSION", "load_classifier", "save_classifier"]

FORMAT_VERSION = 1
_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"
_LIMIT = 64 * 2**20  # a config.json larger than this is not one of ours


def save_classifier(classifier: FewShotClassifier, folder: Path, *, overwrite: bool) -> Path:
    """Write a fitted classifier to ``folder`` and return it."""
    from safetensors.numpy import save

    head = classifier.head_
    assert head is not None
    arrays = {name: np.ascontiguousarray(array) for name, array in head.arrays().items()}
    weights = save(arrays)
    encoder = classifier.encoder_
    assert encoder is not None
    config: dict[str, Any] = {
        "format": "handful classifier",
        "format_version": FORMAT_VERSION,
        "method": type(head).name,
        "settings": head.settings(),
        "classes": list(classifier.classes_),
        "encoder": asdict(encoder),
        "dim": head.n_features_in_,
        "logit_scale": head.logit_scale,
        "templates": list(classifier.templates_),
        "text_pool": classifier.text_pool,
        "shots": classifier.shots,
        "views": classifier.views,
        "seed": classifier.seed,
        "support": {
            "counts": list(classifier.counts_),
            "digests": sorted(classifier.digests_),
        },
        "selection": classifier.selection_,
        "estimate": _estimate_to_json(classifier.estimate_),
        "zero_shot": _estimate_to_json(classifier.zero_shot_),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "versions": {
            "handful": version("handful"),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "scikit-learn")},
        },
    }
    card = model_card(config, classifier.estimate_, classifier.zero_shot_)
    if folder.is_dir():
        _refuse_foreign(folder)
    try:
        with new_folder(folder, overwrite=overwrite) as temporary:
            (temporary / _WEIGHTS).write_bytes(weights)
            text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
            (temporary / _CONFIG).write_text(text + "\n", encoding="utf-8")
            (temporary / _CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return folder


def load_classifier(
    kind: type[Classifier], folder: Path, encoder: str | Encoder | None
) -> Classifier:
    """Read what :func:`save_classifier` wrote.

    Raises:
        InputError: something is missing, damaged, inconsistent, or from a newer version.
    """
    config = _read_config(folder)
    try:
        return _rebuild(kind, folder, config, encoder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{folder / _CONFIG} is damaged ({error}): fit and save the classifier again."
        ) from error


def _refuse_foreign(folder: Path) -> None:
    """Overwriting replaces a whole folder: never one that holds anything but a classifier."""
    foreign = sorted({entry.name for entry in folder.iterdir()} - {_CONFIG, _WEIGHTS, _CARD})
    if foreign:
        raise InputError(
            f"{folder} holds other files ('{foreign[0]}'): only a saved classifier is overwritten, "
            "give another name."
        )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}: expected the folder of a saved classifier.")
    if not path.is_file():
        raise InputError(f"{folder} is not a saved classifier: it has no {_CONFIG}.")
    try:
        if path.stat().st_size > _LIMIT:
            raise ValueError("it is far too large")
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict) or config.get("format") != "handful classifier":
            raise ValueError("it does not describe a classifier of handful")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    found = config.get("format_version")
    if found != FORMAT_VERSION:
        raise InputError(
            f"{folder} has format version {found!r}, but this handful reads {FORMAT_VERSION}: "
            "install the version of handful that wrote it (see its README.md)."
        )
    return config


def _rebuild(
    kind: type[Classifier], folder: Path, config: dict[str, Any], encoder: str | Encoder | None
) -> Classifier:
    method = registry.get(config["method"])
    classes = tuple(str(name) for name in config["classes"])
    arrays = _read_weights(folder / _WEIGHTS, method, config)
    head = method.from_arrays(
        arrays, np.arange(len(classes)), config["settings"], float(config["logit_scale"])
    )
    text = arrays["text_"]
    if text.shape != (len(classes), config["dim"]):
        raise InputError(
            f"{folder} is damaged: its class embeddings have shape {text.shape}, expected "
            f"({len(classes)}, {config['dim']})."
        )
    # A forward pass finds arrays whose shapes do not fit one another.
    head.logits(np.ones((1, config["dim"])))
    classifier = kind(
        encoder,
        config["method"],
        text_pool=config["text_pool"],
        shots=config["shots"],
        views=config["views"],
        seed=config["seed"],
    )
    classifier.head_ = head
    classifier.classes_ = classes
    classifier.encoder_ = EncoderIdentity(**config["encoder"])
    classifier.templates_ = tuple(config["templates"])
    classifier.counts_ = tuple(config["support"]["counts"])
    classifier.digests_ = frozenset(config["support"]["digests"])
    classifier.selection_ = config["selection"]
    classifier.estimate_ = Estimate(**config["estimate"]) if config["estimate"] else None
    classifier.zero_shot_ = Estimate(**config["zero_shot"]) if config["zero_shot"] else None
    return classifier


def _read_weights(path: Path, method: type[Head], config: dict[str, Any]) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not path.is_file():
        raise InputError(f"{path.parent} is not a whole classifier: {path.name} is missing.")
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != config["weights_sha256"]:
            raise ValueError("its content is not what was saved")
        arrays = load(data)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{path} is damaged ({error}): copy it again, or fit and save again."
        ) from error
    expected = {"text_", *method.learned}
    if set(arrays) != expected:
        raise InputError(
            f"{path} holds {sorted(arrays)}, but method '{method.name}' needs {sorted(expected)}."
        )
    return arrays


def _estimate_to_json(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else asdict(estimate)
