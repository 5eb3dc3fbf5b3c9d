"""Intra-modal overlap of labelled images, before a correction and after it.

How far cosines between images of one class and of two classes mix says how well images can be told
apart by looking at other images, whatever the names say. It explains; nothing is chosen by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from handful.datasets.images import ImageSource, LabelledImages
from handful.encoders.joint import refuse_several
from handful.encoders.protocol import Encoder
from handful.encoders.templates import resolve_templates
from handful.errors import InputError, did_you_mean
from handful.features.contents import Features
from handful.features.extract import encode_images
from handful.features.store import FeatureStore
from handful.features.texts import read_classes
from handful.functional.overlap import PairCosines, feature_variance, modality_gap, pair_cosines
from handful.functional.pooling import pool_templates

if TYPE_CHECKING:
    from handful.tuning.correction import Correction

__all__ = ["SPLITS", "Overlap", "Overlaps", "overlap_of", "overlaps_of_features",
           "overlaps_of_images"]  # fmt: skip

SPLITS = ("all", "train", "val", "test")

_FINE = 400  # bins from −1 to 1, as they are counted
_FACTORS = (1, 2, 4, 5, 8, 10, 16, 20)  # by which they may be merged

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Overlap:
    """How images lie to one another and to the class names, in one space.

    Attributes:
        cosines: of all pairs of images, on fine bins.
        area: overlap of the two distributions, 1 for equal ones, 0 for disjoint ones.
        divergence: their Jensen-Shannon divergence, in bits.
        variance: of unit features, mean over the channels.
        gap: distance between mean image and mean class embedding; None without text.
        bins: the bins that area and divergence are of, from −1 to 1.
    """

    cosines: PairCosines
    area: float
    divergence: float
    variance: float
    gap: float | None
    bins: int

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints of one space."""
        shown = self.cosines.merged(_FINE // self.bins)
        return {
            "overlap": self.area,
            "divergence": self.divergence,
            "separation": self.cosines.separation,
            "auroc": self.cosines.auroc,
            "means": list(self.cosines.means),
            "deviations": list(self.cosines.deviations),
            "variance": self.variance,
            "modality_gap": self.gap,
            "histogram": {
                "edges": [round(float(edge), 6) for edge in shown.edges],
                "paired": shown.paired.tolist(),
                "unpaired": shown.unpaired.tolist(),
            },
        }


@dataclass(frozen=True)
class Overlaps:
    """The same images in the space of an encoder, and in the corrected one.

    Attributes:
        before: in the encoder's own space.
        after: in the corrected space; None without a correction.
        images: that were compared.
        classes: names of those that have images.
        encoder: its spec; of a features file, what it says.
        taught: images among them that the correction was trained on; None without a correction.
        skipped: path and reason of each image that could not be read.
    """

    before: Overlap
    after: Overlap | None
    images: int
    classes: tuple[str, ...]
    encoder: str
    taught: int | None = None
    skipped: tuple[tuple[Path, str], ...] = ()

    @property
    def pairs(self) -> tuple[int, int]:
        """Number of pairs of images of one class, and of two."""
        cosines = self.before.cosines
        return int(cosines.paired.sum()), int(cosines.unpaired.sum())


def overlap_of(X: Array, labels: npt.NDArray[np.int64], text: Array | None = None) -> Overlap:
    """Measure the overlap of features.

    Histograms of few pairs are rugged, which makes two distributions look further apart than they
    are: the fewer pairs of one class there are, the wider the bins (Rice's rule, over a quarter of
    the range of cosines). AUROC and separation are not touched by it.

    Args:
        X: features ``(N, D)`` of any length.
        labels: class of each.
        text: class embeddings ``(C, D)``, or None.

    Raises:
        InputError: there are not two classes, or no class has two images.
    """
    counts = np.bincount(labels)
    if (counts > 0).sum() < 2 or counts.max() < 2:
        raise InputError(
            f"there are {len(labels)} images of {(counts > 0).sum()} class(es): the overlap needs "
            "two classes, and two images of one of them; give more images."
        )
    features = torch.from_numpy(np.ascontiguousarray(X, np.float32))
    cosines = pair_cosines(features, torch.from_numpy(labels), _FINE)
    wanted = 8 * int(cosines.paired.sum()) ** (1 / 3)
    factor = min(_FACTORS, key=lambda one: abs(_FINE / one - wanted))
    shown = cosines.merged(factor)
    return Overlap(
        cosines,
        shown.overlap,
        shown.divergence,
        feature_variance(features),
        None if text is None else modality_gap(features, torch.from_numpy(text)),
        _FINE // factor,
    )


def overlaps_of_images(
    source: ImageSource,
    encoder: Encoder,
    *,
    split: str = "all",
    correction: Correction | None = None,
    templates: Sequence[str] | None = None,
    store: FeatureStore | None = None,
    strict: bool = False,
) -> Overlaps:
    """Measure the overlap of images.

    Args:
        source: images by split.
        encoder: of images and, for the modality gap, of class names.
        split: ``train``, ``val``, ``test``, or ``all`` of them.
        correction: also measure the space that it gives.
        templates: prompts of the class names; None: the encoder's own.
        store: where features are kept.
        strict: an unreadable image is an error instead of being left out.

    Raises:
        InputError: there is no such split, the correction belongs to another encoder, or there are
            too few images.
    """
    refuse_several(encoder, "the overlap")
    images = _of_split(source, split)
    seeing = encoder
    if correction is not None:
        from handful.tuning.corrected_encoder import corrected

        seeing = corrected(encoder, correction)
    encoded = encode_images(seeing, images.paths, store=store, strict=strict)
    if not len(encoded.kept):
        raise InputError(
            f"none of the {len(images)} images of {source.name} can be read (for one, "
            f"{images.paths[0]}): replace them."
        )
    labels, X = images.labels[encoded.kept], encoded.features[:, 0]
    names = tuple(images.class_names[label] for label in np.unique(labels))
    text = None
    if encoder.has_text:
        wanted = resolve_templates(templates, encoder.default_templates)
        prompts = read_classes(encoder, names, wanted, store, None)
        text = pool_templates(torch.from_numpy(prompts)).numpy()
    return _overlaps(
        X, labels, text, names, encoder.spec, correction, encoded.digests, encoded.skipped
    )


def overlaps_of_features(
    features: Features, name: str, *, split: str = "all", correction: Correction | None = None
) -> Overlaps:
    """Measure the overlap of a features file.

    Args:
        features: of the file.
        name: of the file, for messages.
        split, correction: see :func:`overlaps_of_images`; a correction of frozen features.

    Raises:
        InputError: there are no labels, or as :func:`overlaps_of_images`.
    """
    if features.labels is None:
        raise InputError(f"{name} has no labels: the overlap needs images of known classes.")
    _check_split(split)
    given = np.zeros(len(features.labels)) if features.split is None else features.split
    kept = np.ones(len(given), bool) if split == "all" else given == SPLITS.index(split) - 1
    if not kept.any():
        raise _none_of(name, split)
    labels, X = features.labels[kept], features.image_features[kept]
    present = np.unique(labels)
    names = tuple((features.class_names or {int(c): str(c) for c in present})[int(c)]
                  for c in present)  # fmt: skip
    text = features.class_embeddings
    digests: Sequence[str] = ()
    if correction is not None:
        from handful.features.digests import row_digests
        from handful.tuning.corrected_encoder import correct_features

        correction.check(features.fingerprint, features.encoder or name)
        digests = row_digests(X)
        X = correct_features(X, correction)
    return _overlaps(
        X,
        labels,
        None if text is None else text[present],
        names,
        features.encoder or "unknown (features file)",
        correction,
        digests,
        (),
    )


def _overlaps(
    X: Array,
    labels: npt.NDArray[np.int64],
    text: Array | None,
    names: tuple[str, ...],
    encoder: str,
    correction: Correction | None,
    digests: Sequence[str],
    skipped: tuple[tuple[Path, str], ...],
) -> Overlaps:
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    after = None
    if correction is not None:
        after = overlap_of(X[:, correction.dim :], labels, text)
        X = X[:, : correction.dim]
    return Overlaps(
        overlap_of(X, labels, text),
        after,
        len(labels),
        names,
        encoder,
        None if correction is None else correction.taught(digests),
        skipped,
    )


def _of_split(source: ImageSource, split: str) -> LabelledImages:
    _check_split(split)
    parts = dict(zip(SPLITS[1:], (source.train, source.validation, source.test), strict=True))
    if split != "all":
        images = parts[split]
        if images is None or not len(images):
            raise _none_of(source.name, split)
        return images
    given = [images for images in parts.values() if images is not None]
    return LabelledImages(
        tuple(path for images in given for path in images.paths),
        np.concatenate([images.labels for images in given]),
        source.class_names,
    )


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise InputError(
            f"there is no split '{split}'.{did_you_mean(split, SPLITS)} Use one of "
            f"{', '.join(SPLITS)}."
        )


def _none_of(name: str, split: str) -> InputError:
    return InputError(f"{name} has no images of the split '{split}': leave --split out.")
