"""What turns logits into probabilities, how it is fitted to held-out images, and its saved form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from handful.evaluation.calibration import calibration_error, negative_log_likelihood
from handful.functional.temperature import (
    fit_temperature,
    fit_vector_scaling,
    log_softmax,
    rescale,
)
from handful.selection.candidates import HeldOut

__all__ = ["Calibration", "Kind", "Quality", "Source", "cross_fitted", "fitted", "image_weights"]

Floats = npt.NDArray[np.float64]
Kind = Literal["none", "temperature", "vector"]
Source = Literal["validation", "cross-validation", "support", "method", "none"]

_PSEUDO_ERRORS = 0.5  # why so many: see handful.evaluation.calibrate
_FOLDS, _ONE_BY_ONE = 5, 20


@dataclass(frozen=True)
class Quality:
    """How good probabilities of held-out images are; both are better when smaller.

    Attributes:
        calibration_error: expected, 15 bins; with few images it is too large by chance alone.
        negative_log_likelihood: mean, in nats.
    """

    calibration_error: float
    negative_log_likelihood: float

    @classmethod
    def of(cls, probabilities: Floats, labels: npt.NDArray[np.int64]) -> Quality:
        """Measure probabilities ``(M, C)`` of images with these columns as true classes."""
        return cls(
            calibration_error(probabilities, labels),
            negative_log_likelihood(probabilities, labels),
        )


@dataclass(frozen=True)
class Calibration:
    """What turns logits into probabilities.

    Attributes:
        kind: ``none``: plain softmax; ``temperature``; ``vector``, which may change answers.
        temperature: T; 1 for ``none``. For ``vector`` what it would be.
        scale, bias: for ``vector``, those of each class, else None.
        images: distinct images that it was learnt from.
        source: where they come from; ``support`` is the class names judging the support images.
        before, after: quality on the held-out images of plain softmax and of a calibration that was
            learnt without the image and its near duplicates; None where nothing was held out.
    """

    kind: Kind = "none"
    temperature: float = 1.0
    scale: tuple[float, ...] | None = None
    bias: tuple[float, ...] | None = None
    images: int = 0
    source: Source = "none"
    before: Quality | None = None
    after: Quality | None = None

    def __post_init__(self) -> None:
        scale, bias = self.scale or (), self.bias or ()
        right = (
            self.kind in get_args(Kind)
            and self.source in get_args(Source)
            and type(self.images) is int
            and self.images >= 0
            and 0 < self.temperature < math.inf
            and len(scale) == len(bias)
            and (len(scale) > 1) == (self.kind == "vector")
            and bool(np.isfinite([*scale, *bias]).all())
        )
        if not right:
            raise ValueError("a value is of another kind or out of range")

    def probabilities(self, logits: npt.NDArray[np.floating[Any]]) -> Floats:
        """Return the probabilities ``(N, C)``, float64, of logits ``(N, C)``."""
        z = np.asarray(logits, dtype=np.float64)
        if self.scale is not None and self.bias is not None:
            z = rescale(z, np.array(self.scale), np.array(self.bias))
        else:
            z = z / self.temperature
        found: Floats = np.exp(log_softmax(z))
        return found

    def cross_fitted(self, held: HeldOut) -> Floats:
        """Return probabilities of the held-out images ``(M, C)``.

        Those of each image come from a calibration of this kind that was learnt without it and its
        near duplicates, except where the class names alone were calibrated (source ``support``).
        """
        if self.kind == "none" or self.source == "support":
            return self.probabilities(held.logits)
        return cross_fitted(self.kind, held)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Calibration:
        """Read what :meth:`to_json` gave.

        Raises:
            ValueError: it is not that.
        """
        try:
            if set(told) != set(cls.__dataclass_fields__):
                raise ValueError("other names")
            read = dict(told)
            for name in ("scale", "bias"):
                read[name] = None if told[name] is None else tuple(map(float, told[name]))
            for name in ("before", "after"):
                read[name] = None if told[name] is None else Quality(**told[name])
            found = cls(**read)
            for one in (found.before, found.after):
                if one is not None and not np.isfinite([*asdict(one).values()]).all():
                    raise ValueError("a quality is not finite")
        except (TypeError, ValueError) as error:
            raise ValueError(f"this is no calibration: {str(told)[:200]} ({error})") from error
        return found


def fitted(
    kind: Kind, logits: Floats, labels: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]
) -> Calibration:
    """Return a calibration of a kind, ``temperature`` or ``vector``, without what is told of it.

    Args:
        kind: the kind.
        logits, labels, groups: as in :class:`~handful.selection.candidates.HeldOut`.
    """
    weights = image_weights(groups)
    temperature = fit_temperature(logits, labels, weights, _PSEUDO_ERRORS)
    if kind == "temperature":
        return Calibration(kind, temperature)
    scale, bias = fit_vector_scaling(logits, labels, weights, pseudo_errors=_PSEUDO_ERRORS)
    return Calibration(kind, temperature, tuple(scale.tolist()), tuple(bias.tolist()))


def cross_fitted(kind: Kind, held: HeldOut) -> Floats:
    """Return the probability of each class ``(M, C)`` by a calibration learnt without the image."""
    found = np.empty_like(held.logits)
    for own in _parts(held.groups):
        learnt = fitted(kind, held.logits[~own], held.labels[~own], held.groups[~own])
        found[own] = learnt.probabilities(held.logits[own])
    return found


def image_weights(groups: npt.NDArray[np.int64]) -> Floats:
    """Return weights ``(M,)``: 1 for each group, shared by its images."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    found: Floats = 1 / counts[place]
    return found


def _parts(groups: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield which images to leave out together: each group by itself, or five parts of many."""
    _, place = np.unique(groups, return_inverse=True)
    n = int(place.max()) + 1
    n_parts = n if n <= _ONE_BY_ONE else _FOLDS
    part = np.random.default_rng(0).permutation(n)[place] % n_parts
    for number in range(n_parts):
        yield part == number
