"""What a features file holds, checked once so that nothing after it has to check again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.datasets.sentences import SentenceRecord
from handful.errors import InputError

__all__ = ["LOGIT_SCALE", "SHAPES", "TEXTS", "Features"]

LOGIT_SCALE = 100.0  # of every released CLIP model

# The shape of each field, a letter per axis; letters that occur twice must agree.
SHAPES = {
    "image_features": "ND",
    "labels": "N",
    "split": "N",
    "view_features": "NVD",
    "pooled_features": "NP",
    "projection": "PD",
    "class_names": "C",
    "class_embeddings": "CD",
    "text_features": "CTD",
    "templates": "T",
    "paths": "N",
}
# What an error calls a field whose name in the file is another one.
SPOKEN = {"class_embeddings": "class_embeddings (text_features_average)"}
AXES = {
    "N": "images",
    "D": "numbers per row",
    "V": "views",
    "P": "numbers before the projection",
    "C": "classes",
    "T": "prompts per class",
}
_LOOKED_AT = 100  # rows
_SAME_DIRECTION = 0.99  # cosine; float16 and bfloat16 stay above it
INTEGERS = ("labels", "split")
TEXTS = ("class_names", "templates", "paths")


@dataclass(frozen=True, eq=False)
class Features:
    """Encoded images and what is known about them; checked when it is made.

    Attributes:
        image_features: float32 ``(N, D)``.
        labels: int64 ``(N,)``, rows of ``class_embeddings`` and positions in ``class_names``.
        text_features: float32 ``(C, T, D)``, one row per class and prompt: first its name in each
            template, then its sentences, then zeros where other classes have more of them.
        class_embeddings: float32 ``(C, D)``; where only ``text_features`` are given, these pooled
            by ``norm_mean_norm``.
        class_names: C names.
        logit_scale: factor on the cosines in front of the softmax.
        split: int64 ``(N,)``: 0 = pool for support, 1 = validation, 2 = test.
        view_features: float32 ``(N, V, D)``, several views of each image.
        paths: N image files.
        templates: prompt templates, T of them where there are no sentences.
        sentences: what is known of the sentences, where some were read.
        pooled_features: float32 ``(N, D_v)``, the same images before the projection of the image
            tower; together with it.
        projection: Π ``(D_v, D)``, float32: Πᵀ times a pooled row is the image's row, up to length.
        encoder: name of the encoder, in words or as a spec.
        fingerprint: of the encoder.
        normalised: what was done to the rows, in words (``unit L2``).

    Raises:
        InputError: dimensions or counts that disagree, NaN or infinity, labels outside.
    """

    image_features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | None = None
    text_features: npt.NDArray[np.float32] | None = None
    class_embeddings: npt.NDArray[np.float32] | None = None
    class_names: tuple[str, ...] | None = None
    logit_scale: float = LOGIT_SCALE
    split: npt.NDArray[np.int64] | None = None
    view_features: npt.NDArray[np.float32] | None = None
    paths: tuple[str, ...] | None = None
    templates: tuple[str, ...] | None = None
    encoder: str | None = None
    fingerprint: str | None = None
    normalised: str | None = None
    sentences: SentenceRecord | None = None
    pooled_features: npt.NDArray[np.float32] | None = None
    projection: npt.NDArray[np.float32] | None = None

    @property
    def row_names(self) -> tuple[str, ...]:
        """What each row is called: its path, or its number where there are no paths."""
        return self.paths or tuple(f"row {row}" for row in range(len(self.image_features)))

    def __post_init__(self) -> None:
        sizes: dict[str, tuple[int, str]] = {}
        for name, axes in SHAPES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if name in TEXTS:
                value = tuple(str(text) for text in value)
                shape: tuple[int, ...] = (len(value),)
            else:
                value = _integers(name, value) if name in INTEGERS else _floats(value)
                shape = value.shape
            object.__setattr__(self, name, value)
            if name == "templates" and self.sentences is not None:
                continue  # counted together, below
            _check_shape(SPOKEN.get(name, name), shape, axes, sizes)
        for name in SHAPES:
            value = getattr(self, name)
            if isinstance(value, np.ndarray) and name not in INTEGERS:
                _check_finite(SPOKEN.get(name, name), value)
        if self.pooled_features is not None or self.projection is not None:
            _check_projection(self.image_features, self.pooled_features, self.projection)
        if self.sentences is not None:
            _check_sentences(self.sentences, self.templates, sizes)
        if self.labels is not None:
            _check_labels(self.labels, sizes["C"][0] if "C" in sizes else None)
        if self.split is not None and not np.isin(self.split, (0, 1, 2)).all():
            raise InputError(
                f"split holds {self.split[~np.isin(self.split, (0, 1, 2))][0]}: it must be "
                "0 (pool for support), 1 (validation) or 2 (test) in every row."
            )
        if not (math.isfinite(self.logit_scale) and self.logit_scale > 0):
            raise InputError(f"logit_scale is {self.logit_scale}: it must be a positive number.")
        if self.class_embeddings is None and self.text_features is not None:
            object.__setattr__(self, "class_embeddings", _pooled(self.text_features))

    def before_projection(
        self, name: str
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return ``pooled_features`` and ``projection``.

        Args:
            name: of the file, for the message.

        Raises:
            InputError: they are not there.
        """
        if self.pooled_features is None or self.projection is None:
            raise InputError(
                f"{name} has no features before the projection of the image tower "
                "(pooled_features): write it again with 'handful embed --before-projection', or "
                "use method elevater-l2p."
            )
        return self.pooled_features, self.projection


def _floats(value: Any) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows is infinite, and reported as such
        return np.asarray(value, np.float32)


def _integers(name: str, value: Any) -> npt.NDArray[np.int64]:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise InputError(f"{name} are of type {array.dtype}: they must be integers.")
    return array.astype(np.int64, copy=False)


def _check_shape(
    name: str, shape: tuple[int, ...], axes: str, sizes: dict[str, tuple[int, str]]
) -> None:
    if len(shape) != len(axes) or 0 in shape:
        raise InputError(f"{name} has shape {shape}: expected ({', '.join(axes)}), none empty.")
    for axis, size in zip(axes, shape, strict=True):
        known, where = sizes.setdefault(axis, (size, name))
        if size != known:
            raise InputError(
                f"{name} has {size} {AXES[axis]} but {where} has {known}: these must be equal."
            )


def _check_finite(name: str, array: npt.NDArray[np.float32]) -> None:
    bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    if bad.size:
        more = f" and {bad.size - 1} more" if bad.size > 1 else ""
        raise InputError(
            f"{name} holds NaN or infinity in row {bad[0]}{more} (the first row is 0): "
            "encode these images or prompts again, in float32."
        )


def _check_projection(
    images: npt.NDArray[np.float32],
    pooled: npt.NDArray[np.float32] | None,
    projection: npt.NDArray[np.float32] | None,
) -> None:
    """Refuse one without the other, and a projection that is not the one, or lies on its side."""
    if pooled is None or projection is None:
        there, lacks = "pooled_features", "projection"
        if pooled is None:
            there, lacks = lacks, there
        raise InputError(f"there is {there} but no {lacks}: give both or neither.")
    expected = pooled[:_LOOKED_AT].astype(np.float64) @ projection
    found = images[:_LOOKED_AT].astype(np.float64)
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    wrong = np.flatnonzero((expected * found).sum(axis=1) < _SAME_DIRECTION * lengths)
    if wrong.size:
        raise InputError(
            f"pooled_features times projection is not image_features in row {wrong[0]}: they must "
            "be of the same encoder and images, the projection as (D_v, D)."
        )


def _check_sentences(
    sentences: SentenceRecord, templates: tuple[str, ...] | None, sizes: dict[str, tuple[int, str]]
) -> None:
    _check_shape("sentences", (len(sentences.counts),), "C", sizes)
    prompts = len(templates or ()) + sentences.most
    _check_shape("templates with sentences", (prompts,), "T", sizes)


def _check_labels(labels: npt.NDArray[np.int64], classes: int | None) -> None:
    bad = np.flatnonzero((labels < 0) | (labels >= (classes if classes is not None else np.inf)))
    if bad.size:
        allowed = f"0 to {classes - 1}" if classes is not None else "0 or more"
        raise InputError(
            f"row {bad[0]} has label {labels[bad[0]]}: labels are {allowed}, one per class."
        )


def _pooled(text_features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    import torch

    from handful.functional.pooling import pool_templates

    pooled: npt.NDArray[np.float32] = pool_templates(
        torch.from_numpy(text_features), "norm_mean_norm"
    ).numpy()
    return pooled
