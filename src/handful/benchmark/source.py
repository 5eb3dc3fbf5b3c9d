"""A source: features with labels that methods are compared on, as each method sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.benchmark.listing import Listing
from handful.benchmark.pictures import Pictures
from handful.classifier.correction import lacking, told_of, uses_correction
from handful.classifier.tuned import head_kind, is_tuning
from handful.features.contents import Features
from handful.features.digests import row_digests
from handful.features.extract import encode_images
from handful.features.store import FeatureStore
from handful.tuning.corrected_encoder import correct_features, corrected
from handful.tuning.correction import Correction

__all__ = ["Source"]


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


def _beside(arrays: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)


def _told(texts: Sequence[str | None]) -> str | None:
    return None if None in texts else "+".join(text or "" for text in texts)
