"""The saved form: ``config.json``, ``model.safetensors``, ``trust.safetensors``, ``README.md``.

Beside them lies what belongs to the encoder: what was trained in it, or its correction.

It is written whole or not at all, and holds no pickle. Loading checks the format version, the
digest of the weights, and every shape.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from handful.classifier.card import model_card
from handful.classifier.correction import told_of
from handful.classifier.identity import EncoderIdentity
from handful.classifier.trust import Trust
from handful.classifier.tuned import SavedTuning, head_kind, is_tuning
from handful.datasets.missing import exists, refuse_missing
from handful.datasets.sentences import SentenceRecord
from handful.encoders.joint import Given
from handful.errors import InputError
from handful.evaluation.estimate import Estimate
from handful.methods import registry
from handful.methods.head import Head
from handful.paths import new_folder
from handful.tuning.correction import Correction
from handful.tuning.saved import PEFT, save_tuned
from handful.tuning.saved import WEIGHTS as TUNED

if TYPE_CHECKING:
    from handful.classifier.few_shot import FewShotClassifier

    Classifier = TypeVar("Classifier", bound=FewShotClassifier)

__all__ = ["FORMAT_VERSION", "load_classifier", "refuse_foreign", "save_classifier"]

FORMAT_VERSION = 1
_FORMAT = "handful classifier"
_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"
_TRUST, _CORRECTION = "trust.safetensors", "correction.safetensors"
_ANEW = "copy it again, or fit and save again"
_LIMIT = 64 * 2**20  # a config.json larger than this is not one of ours


def save_classifier(classifier: FewShotClassifier, folder: Path, *, overwrite: bool) -> Path:
    """Write a fitted classifier to ``folder`` and return it."""
    from safetensors.numpy import save

    head = classifier.head_
    assert head is not None
    arrays = {name: np.ascontiguousarray(array) for name, array in head.arrays().items()}
    weights = save(arrays)
    trust = None if classifier.trust_ is None else save(classifier.trust_.arrays())
    encoder = classifier.encoder_
    assert encoder is not None
    config: dict[str, Any] = {
        "format": _FORMAT,
        "format_version": FORMAT_VERSION,
        "method": classifier.method,
        "settings": classifier.settings_,
        "classes": list(classifier.classes_),
        "encoder": asdict(encoder),
        "dim": head.n_features_in_,
        "logit_scale": head.logit_scale,
        "templates": list(classifier.templates_),
        "sentences": asdict(classifier.sentences_) if classifier.sentences_ else None,
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
        "tuning": None,
        "correction": told_of(classifier.correction_),
        "trust": None if classifier.trust_ is None else classifier.trust_.to_json(),
        "trust_sha256": None if trust is None else hashlib.sha256(trust).hexdigest(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "versions": {
            "handful": version("handful"),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "scikit-learn")},
        },
    }
    card = model_card(config, classifier.estimate_, classifier.zero_shot_, classifier.calibration)
    if overwrite:
        refuse_foreign(folder)
    try:
        with new_folder(folder, overwrite=overwrite) as temporary:
            (temporary / _WEIGHTS).write_bytes(weights)
            if trust is not None:
                (temporary / _TRUST).write_bytes(trust)
            if classifier.correction_ is not None:
                classifier.correction_.save(temporary / _CORRECTION)
            if isinstance(classifier.tuned_, SavedTuning):
                config["tuning"] = classifier.tuned_.copied(temporary)
            elif classifier.tuned_ is not None:
                config["tuning"] = save_tuned(classifier.tuned_, temporary)
            text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
            # Names of folders need not be valid text; the escape is JSON's own.
            for name, content in ((_CONFIG, text + "\n"), (_CARD, card)):
                (temporary / name).write_text(content, "utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return folder


def load_classifier(kind: type[Classifier], folder: Path, encoder: Given | None) -> Classifier:
    """Read what :func:`save_classifier` wrote.

    Raises:
        InputError: something is missing, damaged, inconsistent, or from a newer version.
    """
    config = _read_config(folder)
    try:
        return _rebuild(kind, folder, config, encoder)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{folder / _CONFIG} is damaged ({why}): {_ANEW}.") from error


def refuse_foreign(folder: Path) -> None:
    """Refuse to overwrite anything but a saved classifier or an empty folder.

    Raises:
        InputError: a file, or a folder that holds anything else.
    """
    if not exists(folder):
        return
    try:
        inside = {entry.name for entry in folder.iterdir()}
        foreign = sorted(inside - {_CONFIG, _WEIGHTS, _TRUST, TUNED, PEFT, _CORRECTION, _CARD})
        # Models of other programs have a config.json and a model.safetensors, too.
        if not foreign and inside and not _is_ours(folder / _CONFIG):
            foreign = sorted(inside)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be overwritten ({error.strerror}): give another name."
        ) from error
    if foreign:
        raise InputError(
            f"{folder} holds other files ('{foreign[0]}'): only a saved classifier is overwritten, "
            "give another name."
        )


def _is_ours(path: Path) -> bool:
    try:
        return _read_json(path).get("format") == _FORMAT
    except (OSError, ValueError, RecursionError):
        return False


def _read_json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _LIMIT:
        raise ValueError("it is far too large")
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError("it holds no object in braces")
    return config


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    refuse_missing(folder, "the folder of a saved classifier")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: expected the folder of a saved classifier.")
    if not path.is_file():
        raise InputError(
            f"{folder} is not a saved classifier: it has no {_CONFIG}; give a folder that "
            "'handful fit' wrote."
        )
    try:
        config = _read_json(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): {_ANEW}.") from error
    if config.get("format") != _FORMAT:
        raise InputError(
            f"{folder} is not a saved classifier: its {_CONFIG} belongs to something else; give a "
            "folder that 'handful fit' wrote."
        )
    found = config.get("format_version")
    if found != FORMAT_VERSION:
        raise InputError(
            f"{folder} has format version {found!r}, but this handful reads {FORMAT_VERSION}: "
            "install the version of handful that wrote it (see its README.md)."
        )
    return config


def _rebuild(
    kind: type[Classifier], folder: Path, config: dict[str, Any], encoder: Given | None
) -> Classifier:
    inside = is_tuning(config["method"])
    if not inside and config["method"] not in registry.names():
        raise InputError(
            f"{folder} was fitted with method {config['method']!r}, which this handful does not "
            "have: install the version of handful that wrote it (see its README.md)."
        )
    method, settings = head_kind(config["method"]), {} if inside else config["settings"]
    classes, identity = _class_names(config["classes"]), _identity(config)
    arrays = _read_weights(folder / _WEIGHTS, method, config)
    logit_scale = float(config["logit_scale"])
    if not 0 < logit_scale < math.inf:
        raise ValueError(f"its logit scale is {logit_scale}")
    text = arrays["text_"]
    # Of several encoders the text side is as wide as the first one's features.
    width = arrays["widths_"][0] if "widths_" in arrays else identity.dim
    if text.shape != (len(classes), width):
        raise InputError(
            f"{folder} is damaged: its class embeddings have shape {text.shape}, expected "
            f"({len(classes)}, {width}); {_ANEW}."
        )
    head = method.from_arrays(arrays, np.arange(len(classes)), settings, logit_scale)
    correction = _correction(folder, config.get("correction"), identity)
    spaces = 1 if correction is None else 2
    if head.n_features_in_ != spaces * identity.dim:
        raise ValueError(
            f"its features have width {head.n_features_in_}, those of its encoder "
            f"{spaces * identity.dim}"
        )
    try:
        head.check_settings()
    except InputError as error:
        raise ValueError(str(error).rstrip(".")) from error
    _check_answers(head, folder / _WEIGHTS)
    classifier = kind(
        encoder,
        config["method"],
        text_pool=config["text_pool"],
        shots=config["shots"],
        views=config["views"],
        seed=config["seed"],
    )
    if inside:
        # Whole, or not at all; what is in it is looked at when there is an encoder to put it into.
        _read_arrays(folder / TUNED, config["tuning"]["sha256"])
        classifier.tuned_ = SavedTuning(folder, config["tuning"])
    classifier.correction = classifier.correction_ = correction
    classifier.head_ = head
    classifier.settings_ = config["settings"]
    classifier.classes_ = classes
    classifier.encoder_ = identity
    classifier.templates_ = tuple(config["templates"])
    classifier.sentences_ = _sentences(config.get("sentences"), len(classes))
    classifier.counts_ = tuple(config["support"]["counts"])
    classifier.digests_ = frozenset(config["support"]["digests"])
    classifier.selection_ = config["selection"]
    classifier.estimate_ = Estimate(**config["estimate"]) if config["estimate"] else None
    classifier.zero_shot_ = Estimate(**config["zero_shot"]) if config["zero_shot"] else None
    if config.get("trust") is not None:  # a classifier saved before there was any has none
        known = _read_arrays(folder / _TRUST, config["trust_sha256"])
        classifier.trust_ = Trust.from_saved(config["trust"], known)
        classifier.trust_.check(head.n_features_in_, len(classes))
    return classifier


def _correction(
    folder: Path, told: Mapping[str, Any] | None, identity: EncoderIdentity
) -> Correction | None:
    """Read the correction; None where there is none, as before there could be any."""
    if told is None:
        return None
    path = folder / _CORRECTION
    if not path.is_file():
        raise InputError(f"{folder} is not a whole classifier: {path.name} is missing; {_ANEW}.")
    correction = Correction.load(path)
    if correction.fingerprint != told["fingerprint"] or correction.dim != identity.dim:
        raise InputError(f"{path} is damaged (it is another correction): {_ANEW}.")
    return correction


def _class_names(names: Any) -> tuple[str, ...]:
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not texts or len(set(names)) < max(2, len(names)):
        raise ValueError("its classes are not two or more different names")
    return tuple(names)


def _identity(config: dict[str, Any]) -> EncoderIdentity:
    identity = EncoderIdentity(**config["encoder"])
    texts = isinstance(identity.spec, str) and isinstance(identity.fingerprint, str | None)
    spaces = 1 if config.get("correction") is None else 2
    if not texts or spaces * identity.dim != config["dim"]:
        raise ValueError("its encoder is not a spec, a fingerprint and the width of the features")
    return identity


def _sentences(value: Any, classes: int) -> SentenceRecord | None:
    """Return the record of sentences; None where there were none, as before there could be any."""
    if value is None:
        return None
    record = SentenceRecord.from_json(value)
    if len(record.counts) != classes:
        raise ValueError(f"it counts the sentences of {len(record.counts)} classes")
    return record


# What a forward pass through arrays that do not fit one another ends in.
_MISFITS = (RuntimeError, IndexError, TypeError, ValueError, ArithmeticError)


def _check_answers(head: Head, path: Path) -> None:
    """Find, by one forward pass, arrays that do not fit one another or are not finite."""
    logits = np.empty((0, 0))
    with warnings.catch_warnings(), suppress(*_MISFITS):
        warnings.simplefilter("ignore")
        probe = np.eye(2, head.n_features_in_)
        # What it makes of the names may read arrays that the answer does not need.
        logits = np.concatenate([head.logits(probe), head.names_logits(probe)])
    # A row for each key, which one forward pass need not miss.
    keys = {len(array) for name, array in head.arrays().items() if name.startswith("key")}
    finite = all(np.isfinite(array).all() for array in (logits, *head.arrays().values()))
    if logits.shape != (4, len(head.classes_)) or len(keys) > 1 or not finite:
        raise InputError(f"{path} is damaged (its arrays give no number for each class): {_ANEW}.")


def _read_weights(path: Path, method: type[Head], config: dict[str, Any]) -> dict[str, Any]:
    arrays = _read_arrays(path, config["weights_sha256"])
    expected = {"text_", *method.learned}
    if set(arrays) != expected:
        raise InputError(
            f"{path} holds {sorted(arrays)}, but method '{method.name}' needs {sorted(expected)}: "
            f"{_ANEW}."
        )
    return arrays


def _read_arrays(path: Path, sha256: str) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not path.is_file():
        raise InputError(
            f"{path.parent} is not a whole classifier: {path.name} is missing; {_ANEW}."
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError("its content is not what was saved")
        return load(data)
    except (ValueError, SafetensorError) as error:
        raise InputError(f"{path} is damaged ({error}): {_ANEW}.") from error


def _estimate_to_json(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else asdict(estimate)
