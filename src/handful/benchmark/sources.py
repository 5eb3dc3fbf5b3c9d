"""What methods are compared on: features with labels, and where they come from."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.benchmark.listing import Listing, Needed, tested_alone, thinned
from handful.benchmark.pictures import Pictures
from handful.classifier.correction import lacking, told_of, uses_correction
from handful.classifier.tuned import head_kind, is_tuning
from handful.datasets.source import open_images, short_name
from handful.encoders.protocol import Encoder
from handful.encoders.spec import encoder_name
from handful.errors import InputError
from handful.features.contents import Features
from handful.features.digests import row_digests
from handful.features.embed import embed_images
from handful.features.extract import encode_images
from handful.features.file import load_features
from handful.features.store import FeatureStore
from handful.tuning.corrected_encoder import correct_features, corrected
from handful.tuning.correction import Correction

__all__ = ["Source", "feature_paths", "features_source", "images_source", "with_correction"]


@dataclass(frozen=True, eq=False)
class Source:
    """All labelled features of one data set; only a protocol says which are for the test.

    Attributes:
        name: what tables call it.
        flags: of ``handful bench run``, so that the source can be had again.
        features: as in a features file; of several encoders, those of the first.
        labels: int64 ``(N,)``.
        class_names: C names; numbers where the file has none.
        digest: SHA-256 of features, labels, text (where there are sentences, of each prompt), logit
            scale and split: equal digests are equal sources. Of a thinned source, of its files'
            names and sizes, labels, splits, prompts and encoder.
        further: features of other encoders, of the same images in the same order.
        before_projection: whether images are seen before the projection of the image tower. These
            features are no part of the digest: they come of the same images and encoder.
        pictures: the images themselves; a features file has none.
        correction: of the encoder; part of the digest.
        corrected: whether images are seen in both spaces.
        rows: of a part of a source, and of a thinned one: where its images are in the whole.
        whole: of a thinned source, of which not all images are encoded: all of them.
    """

    name: str
    flags: tuple[str, ...]
    features: Features
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    digest: str
    further: tuple[Features, ...] = ()
    before_projection: bool = False
    pictures: Pictures | None = None
    correction: Correction | None = None
    corrected: bool = False
    rows: npt.NDArray[np.int64] | None = None
    whole: Listing | None = None

    @property
    def listing(self) -> Listing:
        """What is drawn from: all images, whether they are encoded or not."""
        if self.whole is not None:
            return self.whole
        split = self.features.split
        if split is None:
            split = np.zeros_like(self.labels)
        return Listing(self.name, self.labels, split, self.class_names)

    def in_whole(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where some of its images are in the whole source, if it is a part of one."""
        return rows if self.rows is None else self.rows[rows]

    def lacks(self, method: str, settings: Mapping[str, Any] | None = None) -> str:
        """Return why a method cannot run on this source, in a sentence; nothing if it can.

        Args:
            method: its name.
            settings: that it is given.
        """
        if uses_correction(method, settings or {}) and self.correction is None:
            return f"{self.name}: {lacking(method)}"
        if is_tuning(method) and self.pictures is None:
            return (
                f"{self.name} holds features, and method '{method}' trains inside the encoder: give"
                " the images with --images."
            )
        if not head_kind(method).before_projection or self.features.pooled_features is not None:
            return ""
        return (
            f"{self.name} has no features before the projection of the image tower, on which method"
            f" '{method}' works: embed it with --before-projection, where its encoder has a "
            "projection, or use elevater-l2p."
        )

    def seen_by(self, method: str, settings: Mapping[str, Any] | None = None) -> Source:
        """Return the source with the features that a method works on.

        Args:
            method: its name.
            settings: that it is given; with ``similarity`` ``corrected`` it sees both spaces.
        """
        if head_kind(method).before_projection:
            return self._unprojected
        return self._in_both_spaces if uses_correction(method, settings or {}) else self

    @cached_property
    def _unprojected(self) -> Source:
        return replace(self, before_projection=True)

    @cached_property
    def _in_both_spaces(self) -> Source:
        pictures = self.pictures
        if pictures is not None and self.correction is not None:
            pictures = replace(pictures, encoder=corrected(pictures.encoder, self.correction))
        return replace(self, corrected=True, pictures=pictures)

    @property
    def projection(self) -> npt.NDArray[np.float32] | None:
        """Π ``(D_v, D)`` where images are seen before it."""
        return self.features.projection if self.before_projection else None

    @cached_property
    def image_features(self) -> npt.NDArray[np.float32]:
        """``(N, D)``; those of several encoders or of both spaces side by side, or ``(N, D_v)``."""
        if self.before_projection:
            return self.features.before_projection(self.name)[0]
        if self.corrected:
            return self._both(self.features.image_features, self.pictures)
        return _beside([f.image_features for f in (self.features, *self.further)])

    @cached_property
    def view_features(self) -> npt.NDArray[np.float32] | None:
        """``(N, V, D)``; the same. There are none before the projection."""
        if self.before_projection:
            return None
        if self.corrected and self.features.view_features is not None:
            return self._both(self.features.view_features, None)
        views = [f.view_features for f in (self.features, *self.further)]
        return None if views[0] is None else _beside([v for v in views if v is not None])

    def _both(
        self, features: npt.NDArray[np.float32], pictures: Pictures | None
    ) -> npt.NDArray[np.float32]:
        assert self.correction is not None
        if self.correction.form == "projection" or pictures is None:
            return correct_features(features, self.correction)
        found = encode_images(
            pictures.encoder, pictures.paths, store=FeatureStore(), label="encoding in both spaces"
        ).features[:, 0]
        found[:, : self.correction.dim] = features  # of a pass of its own, as for other methods
        return found

    @cached_property
    def _digests(self) -> tuple[str, ...]:
        """SHA-256 of each image, or of each row of a features file."""
        if self.pictures is None:
            return row_digests(self.features.image_features)
        return tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in self.pictures.paths)

    def told_of_correction(self, test: npt.NDArray[np.int64]) -> dict[str, Any] | None:
        """Return what a run keeps of the correction that it sees through; None without one.

        Args:
            test: rows that are tested on, of which it tells how many taught the correction.
        """
        if not self.corrected or self.correction is None:
            return None
        told = {name: getattr(self.correction, name) for name in ("fingerprint", "objective")}
        return told | {"taught": self.correction.taught(self._digests[row] for row in test)}

    @property
    def widths(self) -> tuple[int, ...] | None:
        """Of each encoder's features, where there are several."""
        if not self.further:
            return None
        return tuple(f.image_features.shape[1] for f in (self.features, *self.further))

    def to_json(self) -> dict[str, Any]:
        """Return what a results file keeps of a source, once."""
        f = self.features
        return {
            "kind": "source",
            "digest": self.digest,
            "name": self.name,
            "flags": list(self.flags),
            "images": len(self.listing.labels),
            "dim": self.image_features.shape[1],
            "class_names": list(self.class_names),
            "templates": list(f.templates or ()),
            "sentences": asdict(f.sentences) if f.sentences else None,
            "logit_scale": f.logit_scale,
            "correction": told_of(self.correction),
            "encoder": _told([one.encoder for one in (f, *self.further)]),
            "fingerprint": _told([one.fingerprint for one in (f, *self.further)]),
        }


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


def _beside(arrays: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)


def _told(texts: Sequence[str | None]) -> str | None:
    return None if None in texts else "+".join(text or "" for text in texts)


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
