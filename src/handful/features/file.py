"""The features file: encoded images, their labels and the text side in one safetensors file.

Tensors (only ``image_features`` is required; N images, C classes, T prompts, V views):

    image_features          (N, D)
    labels                  (N,) integers, positions in class_names
    split                   (N,) integers: 0 = pool for support, 1 = validation, 2 = test
    view_features           (N, V, D)
    pooled_features         (N, D_v), the images before the projection of the image tower
    projection              (D_v, D), that projection; both or neither
    text_features           (T, C, D), one row per prompt and class: templates, then sentences;
                            rows of zeros where a class has fewer sentences than another
    text_features_average   (C, D), the class embeddings
    logit_scale             one number; the metadata may hold it instead

Metadata: ``class_names``, ``templates`` and ``paths`` as JSON lists; ``sentences`` as a JSON object
``{"file", "sha256", "counts"}``, see ``SentenceRecord``; ``encoder``, ``fingerprint``,
``normalised`` and ``logit_scale`` as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from handful.datasets.missing import refuse_missing
from handful.datasets.sentences import SentenceRecord
from handful.errors import InputError
from handful.features.contents import LOGIT_SCALE, SHAPES, TEXTS, Features
from handful.paths import new_file

__all__ = ["Features", "load_features", "save_features"]


def load_features(path: Path | str) -> Features:
    """Read a features file.

    Text features may be stored ``(T, C, D)`` or ``(C, T, D)``; the number of prompts and of
    classes tells which. Where both fit (as many prompts as classes, or neither is named) they
    are taken as ``(T, C, D)``, the order in which ``save_features`` writes them.

    Raises:
        InputError: no such file, not a safetensors file, damaged, or refused by ``Features``.
    """
    path = Path(path)
    tensors, metadata = _read(path)
    try:
        return _from_file(tensors, metadata)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def save_features(
    path: Path | str,
    features: Features,
    overwrite: bool = False,
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Write a features file, whole or not at all; ``load_features`` gives back equal features.

    Args:
        path: of the file.
        features: what to write.
        overwrite: whether a file that is there may be replaced.
        dtype: number format of the features; ``float16`` halves the file and rounds them to
            three digits.

    Raises:
        InputError: the file exists and ``overwrite`` is false, it cannot be written, or a feature
            is too large for float16.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = Path(path)
    text = features.text_features
    tensors = {
        "image_features": features.image_features,
        "labels": features.labels,
        "split": features.split,
        "view_features": features.view_features,
        "pooled_features": features.pooled_features,
        "projection": features.projection,
        "text_features": None if text is None else text.swapaxes(0, 1),
        "text_features_average": features.class_embeddings,
    }
    metadata = {
        name: json.dumps(getattr(features, name))
        for name in TEXTS
        if getattr(features, name) is not None
    }
    if features.sentences is not None:
        metadata["sentences"] = json.dumps(asdict(features.sentences))
    metadata["logit_scale"] = repr(features.logit_scale)
    for name in ("encoder", "fingerprint", "normalised"):
        if getattr(features, name) is not None:
            metadata[name] = getattr(features, name)
    arrays = {k: _as(v, dtype, path) for k, v in tensors.items() if v is not None}
    with new_file(path, overwrite=overwrite) as temporary:
        try:
            save_file(arrays, temporary, metadata=metadata)
        except (SafetensorError, OSError) as error:
            # "Error while serializing: I/O error: No space left on device (os error 28)"
            reason = re.sub(r"^.*I/O error: | \(os error \d+\)$", "", str(error))
            raise InputError(f"{path} cannot be written: {reason}.") from error


def _as(array: npt.NDArray[Any], dtype: str, path: Path) -> npt.NDArray[Any]:
    if dtype == "float32" or not np.issubdtype(array.dtype, np.floating):
        return np.ascontiguousarray(array)
    largest = np.abs(array).max(initial=0)
    if largest > np.finfo(np.float16).max:
        raise InputError(
            f"a feature is {largest:.3g}, too large for float16, so {path} was not written: use"
            " float32."
        )
    return np.ascontiguousarray(array, dtype=np.float16)


def _read(path: Path) -> tuple[dict[str, npt.NDArray[Any]], Mapping[str, str]]:
    import torch
    from safetensors import SafetensorError, safe_open

    refuse_missing(path, "a features file (.safetensors)")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no file"
        raise InputError(f"{path} {what}: give a features file (.safetensors).")
    try:
        path.open("rb").close()  # of a file that may not be read, safetensors says it is not there
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    tensors: dict[str, npt.NDArray[Any]] = {}
    try:
        # Through torch, because numpy has no bfloat16.
        with safe_open(path, framework="pt") as file:
            for key in set(file.keys()) & {*SHAPES, "text_features_average", "logit_scale"}:
                tensor = file.get_tensor(key)
                if tensor.is_floating_point():
                    tensor = tensor.to(torch.float64 if key == "logit_scale" else torch.float32)
                tensors[key] = tensor.numpy()
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a safetensors file, or it is damaged or cut short ({error}): "
            "write it again with 'handful embed'."
        ) from error


def _from_file(tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> Features:
    if "image_features" not in tensors:
        raise InputError("there is no tensor image_features, so this is not a features file.")
    class_names, templates = _texts(metadata, "class_names"), _texts(metadata, "templates")
    average, text = tensors.get("text_features_average"), tensors.get("text_features")
    labels, sentences = tensors.get("labels"), _sentences(metadata)
    if text is not None and text.ndim == 3:
        prompts = None if templates is None else len(templates)
        if sentences is not None:
            prompts = (prompts or 0) + sentences.most
        known = [] if prompts is None else [prompts == text.shape[0]]
        known += [len(x) == text.shape[1] for x in (class_names, average) if x is not None]
        if not known and labels is not None:
            known = [labels.max(initial=0) < text.shape[1]]
        if all(known):
            text = np.ascontiguousarray(text.swapaxes(0, 1))
    return Features(
        image_features=tensors["image_features"],
        labels=labels,
        text_features=text,
        class_embeddings=average,
        class_names=class_names,
        logit_scale=_logit_scale(tensors, metadata),
        split=tensors.get("split"),
        view_features=tensors.get("view_features"),
        paths=_texts(metadata, "paths"),
        templates=templates,
        encoder=metadata.get("encoder"),
        fingerprint=metadata.get("fingerprint"),
        normalised=metadata.get("normalised"),
        sentences=sentences,
        pooled_features=tensors.get("pooled_features"),
        projection=tensors.get("projection"),
    )


def _texts(metadata: Mapping[str, str], key: str) -> tuple[str, ...] | None:
    if key not in metadata:
        return None
    try:
        value = json.loads(metadata[key])
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError(f"its metadata {key} must be a JSON list of texts, as json.dumps writes.")
    return tuple(value)


def _sentences(metadata: Mapping[str, str]) -> SentenceRecord | None:
    if "sentences" not in metadata:
        return None
    try:
        return SentenceRecord.from_json(json.loads(metadata["sentences"]))
    except (ValueError, RecursionError) as error:
        raise InputError(
            "its metadata sentences must be a JSON object with file, sha256 and counts, as "
            "'handful embed' writes."
        ) from error


def _logit_scale(tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> float:
    stored: Any = tensors.get("logit_scale", metadata.get("logit_scale", LOGIT_SCALE))
    try:
        return float(stored.item() if isinstance(stored, np.ndarray) else stored)
    except ValueError as error:
        raise InputError(f"logit_scale is {stored!r}: it must be one number.") from error
