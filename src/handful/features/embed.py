"""From labelled images to the contents of a features file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from handful.datasets.images import ImageSource, LabelledImages
from handful.encoders.protocol import Encoder
from handful.encoders.templates import resolve_templates
from handful.encoders.views import CENTRE, random_views
from handful.errors import InputError
from handful.features.contents import Features
from handful.features.extract import encode_images
from handful.features.store import FeatureStore
from handful.features.texts import class_embeddings, readable_names
from handful.functional.pooling import pool_templates

__all__ = ["Embedded", "embed_images"]


@dataclass(frozen=True)
class Embedded:
    """Features, and what became of each image."""

    features: Features
    encoded: int
    reused: int
    skipped: tuple[tuple[Path, str], ...]


def embed_images(
    source: ImageSource,
    encoder: Encoder,
    *,
    templates: str | Sequence[str] | None = None,
    views: int = 0,
    seed: int = 1,
    store: FeatureStore | None = None,
    strict: bool = False,
) -> Embedded:
    """Encode the images of all splits and their class names.

    Rows are sorted by class, then by path. Image features are raw, as the encoder gives them.

    Args:
        source: images by split; the split of each row is kept.
        encoder: encodes both sides.
        templates: see :func:`handful.encoders.templates.resolve_templates`.
        views: augmented encodings of each image besides the centre crop.
        seed: of the views.
        store: where features are kept between calls.
        strict: an unreadable image is an error instead of being left out.

    Raises:
        InputError: a template is wrong, ``strict`` and an image cannot be read, or none can.
    """
    splits = (source.train, source.validation, source.test)
    rows = [
        (int(label), path, split)
        for split, images in enumerate(splits)
        for path, label in _pairs(images)
    ]
    rows.sort(key=lambda row: (row[0], row[1].as_posix()))
    shown = (CENTRE, *random_views(views, seed=seed)) if views else (CENTRE,)
    # Before the work: a template may be wrong.
    wanted = resolve_templates(templates, encoder.default_templates) if encoder.has_text else None
    encoded = encode_images(
        encoder, [path for _, path, _ in rows], views=shown, store=store, strict=strict
    )
    kept = [rows[row] for row in encoded.kept]
    if not kept:
        raise InputError(
            f"none of the {len(rows)} images of {source.name} can be read (for one, {rows[0][1]}): "
            "replace them."
        )
    texts = None
    if wanted is not None:
        names = readable_names(source.class_names)
        texts = class_embeddings(encoder, names, wanted, store)
    features = Features(
        image_features=encoded.features[:, 0],
        labels=np.array([label for label, _, _ in kept], dtype=np.int64),
        text_features=texts,
        class_embeddings=None if texts is None else pool_templates(torch.from_numpy(texts)).numpy(),
        class_names=source.class_names,
        logit_scale=encoder.logit_scale,
        split=np.array([split for _, _, split in kept], dtype=np.int64),
        view_features=encoded.features[:, 1:] if views else None,
        paths=tuple(str(path) for _, path, _ in kept),
        templates=wanted,
        encoder=encoder.spec,
        fingerprint=encoder.fingerprint,
        normalised="no",
    )
    return Embedded(features, encoded.encoded, encoded.reused, encoded.skipped)


def _pairs(images: LabelledImages | None) -> list[tuple[Path, int]]:
    return [] if images is None else list(zip(images.paths, images.labels.tolist(), strict=True))
