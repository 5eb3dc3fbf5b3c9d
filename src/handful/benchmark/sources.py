"""Where sources come from: features files, and images that are encoded."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from handful.benchmark.listing import Needed, tested_alone, thinned
from handful.benchmark.pictures import Pictures
from handful.benchmark.source import Source
from handful.datasets.source import open_images, short_name
from handful.encoders.protocol import Encoder
from handful.encoders.spec import encoder_name
from handful.errors import InputError
from handful.features.contents import Features
from handful.features.embed import embed_images
from handful.features.file import load_features
from handful.features.store import FeatureStore
from handful.tuning.corrected_encoder import correct_features
from handful.tuning.correction import Correction

__all__ = ["feature_paths", "features_source", "images_source", "with_correction"]


def feature_paths(given: str) -> tuple[str, ...]:
    """Return the features files that ``A`` or ``A+B`` names; a file of that very name is one."""
    return (given,) if Path(given).exists() else tuple(given.split("+"))


def with_correction(source: Source, path: str) -> Source:
    """Return a source with the correction of its encoder that lies in a file.

    It is another source, with a digest of its own: its runs stand in a table of their own, those of
    methods that do not use the correction, too.

    Raises:
        InputError: no such file, the correction is of another encoder, or lies inside the encoder
            where there are features only.
    """
    correction, f = Correction.load(path), source.features
    if source.further:
        raise InputError(
            f"{source.name} has features of several encoders, and a correction is of one: name the "
            "features file of that one."
        )
    correction.check(f.fingerprint, f.encoder or source.name)
    if source.pictures is None:
        correct_features(f.image_features[:1], correction)  # refused before the work
    digest = hashlib.sha256(f"{source.digest} {correction.fingerprint}".encode()).hexdigest()
    return replace(
        source,
        name=f"{source.name}, {Path(path).stem}",
        flags=(*source.flags, "--correction", path),
        digest=digest,
        correction=correction,
    )


def features_source(given: Path | str, name: str | None = None) -> Source:
    """Read a features file; it is named by its stem.

    Args:
        given: the file, or several with plus signs between them: of the same images by several
            encoders, whose text side is that of the first.
        name: in tables.

    Raises:
        InputError: one cannot be read, has no labels, or is not of the same images as the first.
    """
    paths = [Path(path) for path in feature_paths(str(given))]
    first, *further = [load_features(path) for path in paths]
    for path, other in zip(paths[1:], further, strict=True):
        counts = [len(one.image_features) for one in (first, other)]
        _compare("number of images", paths[0], counts[0], path, counts[1])
        for what in ("labels", "class_names", "split", "paths"):
            _compare(what, paths[0], getattr(first, what), path, getattr(other, what))
        if first.class_embeddings is None and other.class_embeddings is not None:
            raise InputError(
                f"{paths[0]} has no class embeddings, but {path} has: name {path.name} first."
            )
        views = [
            None if f.view_features is None else f.view_features.shape[1] for f in (first, other)
        ]
        if views[0] != views[1]:
            raise InputError(
                f"{paths[0]} has {views[0] or 0} views of each image, but {path} has "
                f"{views[1] or 0}: embed them alike."
            )
    named = name or "+".join(path.stem for path in paths)
    return _source(named, ("--features", str(given)), first, tuple(further))


def _compare(what: str, path: Path, own: Any, other_path: Path, other: Any) -> None:
    """Refuse another file of which it is certain that its rows are other images."""
    if own is None or other is None:
        return
    if not np.array_equal(np.asarray(own), np.asarray(other)):
        raise InputError(
            f"{path} and {other_path} differ in their {what.replace('_', ' ')}: side by side go "
            "only features of the same images in the same order."
        )


def images_source(
    images: str,
    encoder: Encoder,
    templates: Sequence[str] | None = None,
    name: str | None = None,
    *,
    prompts: str | None = None,
    before_projection: bool = False,
    needed: Needed | None = None,
    only_test: bool = False,
) -> Source:
    """Encode labelled images through the store.

    An image that cannot be read is left out, with a warning. Not so of a thinned source: what is
    drawn from it would depend on what else was read.

    Args:
        images: a folder, a table, or another form that ``handful fit`` takes.
        encoder: encodes them and their class names.
        templates: prompt templates; None: those of the encoder.
        name: in tables; None: :func:`~handful.datasets.source.short_name` and the kind of encoder.
        prompts: a file of sentences about the classes.
        before_projection: whether a method works on features before the projection.
        needed: thins a large source, see :func:`~handful.benchmark.listing.thinned`.
        only_test: encode the test images alone, where there are some.

    Raises:
        InputError: the images or the prompts cannot be read, an image of a thinned source cannot,
            or the encoder has no projection where one is needed.
    """
    kind = encoder_name(encoder.spec)
    name = name or f"{short_name(images)}, {kind}"
    opened = open_images(images, to_learn=False)
    if only_test:
        opened = tested_alone(opened)
    if thin := None if needed is None else thinned(opened, name, needed):
        opened = thin.images
    embedded = embed_images(
        opened,
        encoder,
        templates=templates,
        prompts=prompts,
        store=FeatureStore(),
        strict=thin is not None,
        before_projection=before_projection,
    )
    if embedded.skipped:
        _, why = embedded.skipped[0]
        all_images = len(embedded.features.image_features) + len(embedded.skipped)
        warnings.warn(
            f"{name}: {len(embedded.skipped):,} of {all_images:,} images left out, for one: {why}",
            RuntimeWarning,
            stacklevel=2,
        )
    flags = ["--images", images, "--encoder", encoder.spec]
    for template in templates or ():
        flags += ["--template", template]
    if prompts is not None:
        flags += ["--prompts", prompts]
    pictures = Pictures.behind(embedded.features, encoder, prompts)
    source = _source(name, tuple(flags), embedded.features, pictures=pictures)
    if thin is None:
        return source
    digest = thin.digest(encoder, pictures.prompts)
    return replace(source, digest=digest, rows=thin.rows, whole=thin.listing)


def _source(
    name: str,
    flags: tuple[str, ...],
    features: Features,
    further: tuple[Features, ...] = (),
    pictures: Pictures | None = None,
) -> Source:
    if features.labels is None:
        raise InputError(f"{name} has no labels: methods can be compared on labelled images only.")
    count = int(features.labels.max(initial=-1)) + 1
    names = features.class_names or tuple(str(label) for label in range(count))
    digest = hashlib.sha256(repr(features.logit_scale).encode())
    for array in (
        features.image_features,
        features.labels,
        features.class_embeddings,
        features.view_features,
        features.split,
        # The same mean may come from other prompts, or from the same in another order.
        *((features.text_features,) if features.sentences is not None else ()),
        *(array for other in further for array in (other.image_features, other.view_features)),
    ):
        digest.update(b"-" if array is None else str(array.shape).encode() + array.tobytes())
    return Source(
        name,
        flags,
        features,
        features.labels,
        names,
        digest.hexdigest(),
        further,
        pictures=pictures,
    )
