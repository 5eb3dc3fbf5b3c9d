"""From what the user gave to a ``FewShotTask``: draw the shots, encode, find near duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from handful.datasets.duplicates import duplicate_groups, perceptual_hashes
from handful.datasets.images import ImageSource, LabelledImages
from handful.datasets.sampling import few_shot
from handful.datasets.sentences import ClassSentences, SentenceRecord
from handful.encoders.joint import JointEncoder, widths_of
from handful.encoders.protocol import Encoder
from handful.encoders.unprojected import UnprojectedEncoder
from handful.encoders.views import random_views
from handful.errors import InputError
from handful.features.digests import row_digests
from handful.features.extract import EncodedImages, encode_images
from handful.features.file import Features
from handful.features.store import FeatureStore
from handful.features.texts import read_classes
from handful.functional.normalise import unit
from handful.functional.pooling import Pooling, pool_templates
from handful.task import FewShotTask
from handful.tuning.corrected_encoder import CorrectedEncoder, correct_features
from handful.tuning.correction import Correction

__all__ = ["Gathered", "Shots", "gather_features", "gather_images"]

Shots = int | Literal["all"]

_FEW = 2**22  # numbers of single prompts, 16 MB, that are kept in any case


@dataclass(frozen=True)
class Gathered:
    """A task, and what must be remembered of how it came about.

    Attributes:
        task: everything that a method may see.
        class_names: the user's labels, in the order of the rows.
        counts: support images of each class.
        names: of the support images: paths, or row numbers of a features file that has none.
        validation_names: of the validation images, likewise.
        digests: SHA-256 of the support images, or of their rows in a features file, to know them
            again.
        unused: training images that were not drawn.
        encoded, reused: image views that the encoder made, and that the store had.
        skipped: images left out, with the reason.
        sentences: what is known of the sentences about the classes, where some were read.
    """

    task: FewShotTask
    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    names: tuple[str, ...]
    digests: tuple[str, ...]
    unused: int = 0
    encoded: int = 0
    reused: int = 0
    skipped: tuple[tuple[Path, str], ...] = ()
    sentences: SentenceRecord | None = None
    validation_names: tuple[str, ...] = ()


def gather_images(
    source: ImageSource,
    encoder: Encoder,
    *,
    shots: Shots = "all",
    seed: int = 1,
    templates: Sequence[str] | None = None,
    sentences: ClassSentences | None = None,
    text_pool: Pooling = "norm_mean_norm",
    views: int = 0,
    store: FeatureStore | None = None,
    strict: bool = True,
    keep_prompts: bool = False,
) -> Gathered:
    """Draw the support set, encode it with its validation images and class names.

    Args:
        source: images by split; test images are not touched.
        encoder: encodes both sides; several, joined to one, stand side by side in the task, of
            an unprojected one the task has the projection, of a corrected one both spaces.
        shots: images per class, drawn as CoOp does, or ``all``.
        seed: of the draw and of the views.
        templates, text_pool: how class names become class embeddings; no templates: as the encoder
            likes, or none where there are sentences.
        sentences: read about each class after the templates.
        views: augmented encodings per support image; 0 for none.
        store: where features are kept.
        strict: an unreadable image is an error instead of a warning.
        keep_prompts: whether the task has the embedding of every single prompt, however many.

    Raises:
        InputError: a class has too few images, or none that can be read.
    """
    support, validation = _draw(source, shots, seed)
    unused = len(source.train) - len(support)
    encoded = encode_images(encoder, support.paths, store=store, strict=strict)
    support = _kept(support, encoded)
    parts = [encoded]
    augmented = None
    if views:
        more = encode_images(
            encoder,
            support.paths,
            views=random_views(views, seed=seed),
            store=store,
            label="encoding views",
        )
        parts.append(more)
        augmented = more.features
    X_val = y_val = None
    validation_names: tuple[str, ...] = ()
    if validation is not None:
        judged = encode_images(encoder, validation.paths, store=store, strict=strict)
        if not len(judged.kept):
            raise InputError(
                f"none of the {len(validation)} validation images of {source.name} can be read "
                f"(for one, {validation.paths[0]}): replace them, or leave them out."
            )
        parts.append(judged)
        X_val, y_val = judged.features[:, 0], validation.labels[judged.kept]
        validation_names = tuple(str(validation.paths[row]) for row in judged.kept)
    X = similar = encoded.features[:, 0]
    widths, projection, reader = widths_of(encoder), None, encoder
    if isinstance(encoder, JointEncoder):
        # Of several encoders the first says what looks alike, as it would alone.
        reader, similar = encoder.parts[0], X[:, : encoder.widths[0]]
    elif isinstance(encoder, UnprojectedEncoder):
        reader, projection, similar = encoder.base, encoder.projection, X @ encoder.projection
    elif isinstance(encoder, CorrectedEncoder):
        reader, similar = encoder.base, X[:, : encoder.base.dim]
    text = prompts = None
    if encoder.has_text:
        if not templates:
            templates = encoder.default_templates if sentences is None else ()
        prompts = read_classes(reader, source.class_names, templates, store, sentences)
        text = pool_templates(torch.from_numpy(prompts), text_pool).numpy()
    task = FewShotTask(
        X,
        support.labels,
        X_val,
        y_val,
        class_embeddings=text,
        class_names=source.class_names,
        logit_scale=encoder.logit_scale,
        views=augmented,
        groups=_groups(support, similar),
        # Heads pool single prompts by norm_mean_norm.
        prompts=_kept_prompts(prompts, keep_prompts) if text_pool == "norm_mean_norm" else None,
        widths=widths,
        projection=projection,
        corrected=isinstance(encoder, CorrectedEncoder),
    )
    return Gathered(
        task=task,
        class_names=source.class_names,
        counts=tuple(support.counts().tolist()),
        names=tuple(map(str, support.paths)),
        digests=encoded.digests,
        unused=unused,
        encoded=sum(part.encoded for part in parts),
        reused=sum(part.reused for part in parts),
        skipped=tuple(one for part in parts for one in part.skipped),
        sentences=None if sentences is None else sentences.record(),
        validation_names=validation_names,
    )


def gather_features(
    features: Features,
    *,
    name: str,
    shots: Shots,
    seed: int,
    keep_prompts: bool = False,
    before_projection: bool = False,
    correction: Correction | None = None,
) -> Gathered:
    """Draw the support set from a features file; rows marked as test are not touched.

    Args:
        features: what the file holds.
        name: of the file, for messages.
        shots, seed, keep_prompts: see :func:`gather_images`.
        before_projection: take the features before the projection, of which there are no views.
        correction: gives the task a second space.

    Raises:
        InputError: there are no labels, too few rows of a class, only one class, no features
            before the projection where they are asked for, or a correction of other features.
    """
    all_rows, views, projection = features.image_features, features.view_features, None
    if before_projection:
        all_rows, projection = features.before_projection(name)
        views = None
    if features.labels is None:
        raise InputError(f"{name} has no labels: only a features file with labels can be learnt.")
    split = np.zeros(len(features.labels)) if features.split is None else features.split
    pool, judged = np.flatnonzero(split == 0), np.flatnonzero(split == 1)
    names = features.class_names or tuple(
        str(label) for label in range(int(features.labels.max()) + 1)
    )
    labels = features.labels
    if not len(pool):
        raise InputError(f"{name} has no training rows: expected some of split 0.")
    rows, val_rows = pool, judged if len(judged) else None
    if shots != "all":
        drawn = few_shot(
            labels[pool],
            shots,
            seed,
            None if val_rows is None else labels[val_rows],
            class_names=names,
        )
        rows = pool[drawn.support]
        if val_rows is not None and drawn.validation is not None:
            val_rows = val_rows[drawn.validation]
    if twice := next((text for text in names if names.count(text) > 1), None):
        raise InputError(
            f"{name} has the class name '{twice}' twice: give each class a name of its own in the "
            "metadata class_names."
        )
    counts = np.bincount(labels[rows], minlength=len(names))
    if (counts > 0).sum() < 2:
        raise InputError(f"{name} has training rows of one class only: expected at least two.")
    if correction is not None:
        correction.check(features.fingerprint, features.encoder or name)

    def seen(part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return part if correction is None else correct_features(part, correction)

    task = FewShotTask(
        seen(all_rows[rows]),
        labels[rows],
        None if val_rows is None else seen(all_rows[val_rows]),
        None if val_rows is None else labels[val_rows],
        class_embeddings=features.class_embeddings,
        class_names=names,
        logit_scale=features.logit_scale,
        views=None if views is None else seen(views[rows]),
        groups=duplicate_groups(None, _unit(features.image_features[rows])),
        prompts=_kept_prompts(features.text_features, keep_prompts),
        projection=projection,
        corrected=correction is not None,
    )
    return Gathered(
        task,
        names,
        tuple(counts.tolist()),
        tuple(features.row_names[row] for row in rows),
        row_digests(all_rows[rows]),
        len(pool) - len(rows),
        sentences=features.sentences,
    )


def _draw(
    source: ImageSource, shots: Shots, seed: int
) -> tuple[LabelledImages, LabelledImages | None]:
    if shots == "all":
        return source.train, source.validation
    validation = source.validation
    drawn = few_shot(
        source.train.labels,
        shots,
        seed,
        None if validation is None else validation.labels,
        class_names=source.class_names,
    )
    support = source.train.take(drawn.support)
    if validation is None or drawn.validation is None:
        return support, None
    return support, validation.take(drawn.validation)


def _kept_prompts(
    prompts: npt.NDArray[np.float32] | None, keep: bool
) -> npt.NDArray[np.float32] | None:
    return prompts if prompts is not None and (keep or prompts.size <= _FEW) else None


def _kept(support: LabelledImages, encoded: EncodedImages) -> LabelledImages:
    kept = support.take(encoded.kept)
    lost = [
        name
        for name, before, after in zip(
            support.class_names, support.counts(), kept.counts(), strict=True
        )
        if before and not after
    ]
    if lost:
        path = support.paths[int((support.labels == support.class_names.index(lost[0])).argmax())]
        raise InputError(
            f"no image of class '{lost[0]}' can be read (for one, {path}): add readable images or "
            "remove the class."
        )
    return kept


def _groups(support: LabelledImages, X: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Number what belongs together: the user's groups where given, else near duplicates."""
    if support.groups is not None:
        return np.unique(support.groups, return_inverse=True)[1].astype(np.int64)
    return duplicate_groups(perceptual_hashes(support.paths), _unit(X))


def _unit(X: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return unit(torch.from_numpy(np.ascontiguousarray(X, dtype=np.float32))).numpy()
