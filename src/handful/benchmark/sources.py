"""What methods are compared on: features with labels, and where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.datasets.source import open_images
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.features.contents import Features
from handful.features.embed import embed_images
from handful.features.file import load_features
from handful.features.store import FeatureStore

__all__ = ["Source", "features_source", "images_source"]


@dataclass(frozen=True, eq=False)
class Source:
    """All labelled features of one data set; only a protocol says which are for the test.

    Attributes:
        name: what tables call it.
        flags: of ``handful bench run``, so that the source can be had again.
        features: as in a features file.
        labels: int64 ``(N,)``.
        class_names: C names; numbers where the file has none.
        digest: SHA-256 of features, labels, text, logit scale and split: equal digests are equal
            sources.
    """

    name: str
    flags: tuple[str, ...]
    features: Features
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    digest: str

    def to_json(self) -> dict[str, Any]:
        """Return what a results file keeps of a source, once."""
        f = self.features
        return {
            "kind": "source",
            "digest": self.digest,
            "name": self.name,
            "flags": list(self.flags),
            "images": len(self.labels),
            "dim": f.image_features.shape[1],
            "class_names": list(self.class_names),
            "templates": list(f.templates or ()),
            "logit_scale": f.logit_scale,
            "encoder": f.encoder,
            "fingerprint": f.fingerprint,
        }


def features_source(path: Path, name: str | None = None) -> Source:
    """Read a features file; it is named by its stem.

    Raises:
        InputError: it cannot be read, or has no labels.
    """
    return _source(name or path.stem, ("--features", str(path)), load_features(path))


def images_source(
    images: str, encoder: Encoder, templates: Sequence[str] | None = None, name: str | None = None
) -> Source:
    """Encode labelled images through the store.

    Args:
        images: a folder, a table, or another form that ``handful fit`` takes.
        encoder: encodes them and their class names.
        templates: prompt templates; None: those of the encoder.
        name: in tables; None: the last part of ``images`` and the kind of encoder.

    Raises:
        InputError: the images cannot be read.
    """
    embedded = embed_images(
        open_images(images, to_learn=False), encoder, templates=templates, store=FeatureStore()
    )
    flags = ["--images", images, "--encoder", encoder.spec]
    for template in templates or ():
        flags += ["--template", template]
    kind = encoder.spec.partition("@")[0].rpartition("/")[2]
    return _source(name or f"{Path(images).stem}, {kind}", tuple(flags), embedded.features)


def _source(name: str, flags: tuple[str, ...], features: Features) -> Source:
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
    ):
        digest.update(b"-" if array is None else str(array.shape).encode() + array.tobytes())
    return Source(name, flags, features, features.labels, names, digest.hexdigest())
