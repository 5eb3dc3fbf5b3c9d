"""From labelled images to the contents of a features file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from handful.datasets.images import ImageSource, LabelledImages
from handful.datasets.sentences import Sentences, class_sentences
from handful.encoders.joint import refuse_several
from handful.encoders.protocol import Encoder
from handful.encoders.templates import resolve_templates
from handful.encoders.unprojected import UnprojectedEncoder
from handful.encoders.views import CENTRE, random_views
from handful.errors import InputError
from handful.features.contents import Features
from handful.features.extract import encode_images
from handful.features.store import FeatureStore
from handful.features.texts import read_classes, refuse_blind
from handful.functional.pooling import pool_templates

__all__ = ["Embedded", "embed_images", "rows_of"]


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
    prompts: Sentences | None = None,
    views: int = 0,
    seed: int = 1,
    store: FeatureStore | None = None,
    strict: bool = False,
    before_projection: bool = False,
) -> Embedded:
    """Encode the images of all splits and their class names.

    Rows are sorted by class, then by path. Image features are raw, as the encoder gives them.

    Args:
        source: images by split; the split of each row is kept.
        encoder: encodes both sides.
        templates: see :func:`handful.encoders.templates.resolve_templates`; None: the encoder's
            own, or none where there are ``prompts``.
        prompts: a file of sentences about each class, or its content; see
            :func:`handful.datasets.sentences.class_sentences`.
        views: augmented encodings of each image besides the centre crop.
        seed: of the views.
        store: where features are kept between calls.
        strict: an unreadable image is an error instead of being left out.
        before_projection: encode each image a second time, before the projection of the image
            tower, and keep that projection; without views.

    Raises:
        InputError: a template or the prompts are wrong, there are several encoders, the encoder has
            no projection, ``strict`` and an image cannot be read, or none can.
    """
    refuse_several(encoder, "a features file")
    rows = rows_of(source)
    shown = (CENTRE, *random_views(views, seed=seed)) if views else (CENTRE,)
    # Before the work: the encoder, a template or the prompts may be wrong.
    earlier = None
    if before_projection:
        earlier = UnprojectedEncoder(encoder, "leave --before-projection out")
    sentences = None
    if prompts is not None:
        refuse_blind(encoder)
        sentences = class_sentences(prompts, source.class_names, needed=templates is None)
    default = encoder.default_templates if sentences is None else ()
    wanted = resolve_templates(templates, default) if encoder.has_text else None
    encoded = encode_images(
        encoder, [path for _, path, _ in rows], views=shown, store=store, strict=strict
    )
    kept = [rows[row] for row in encoded.kept]
    if not kept:
        raise InputError(
            f"none of the {len(rows)} images of {source.name} can be read (for one, {rows[0][1]}): "
            "replace them."
        )
    pooled = None
    if earlier is not None:
        paths = [path for _, path, _ in kept]
        pooled = encode_images(earlier, paths, store=store, label="encoding before the projection")
    texts = None
    if wanted is not None:
        texts = read_classes(encoder, source.class_names, wanted, store, sentences)
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
        sentences=None if sentences is None else sentences.record(),
        pooled_features=None if pooled is None else pooled.features[:, 0],
        projection=None if earlier is None else earlier.projection,
    )
    made = [encoded] if pooled is None else [encoded, pooled]
    return Embedded(
        features,
        sum(part.encoded for part in made),
        sum(part.reused for part in made),
        encoded.skipped,
    )


def rows_of(source: ImageSource) -> list[tuple[int, Path, int]]:
    """Return label, path and split (0, 1 or 2) of all images, sorted by class, then by path."""
    rows = [
        (int(label), path, split)
        for split, images in enumerate((source.train, source.validation, source.test))
        for path, label in _pairs(images)
    ]
    return sorted(rows, key=lambda row: (row[0], row[1].as_posix()))


def _pairs(images: LabelledImages | None) -> list[tuple[Path, int]]:
    return [] if images is None else list(zip(images.paths, images.labels.tolist(), strict=True))
