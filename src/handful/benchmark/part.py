"""Some classes of a source, as a source of their own: nothing of the others is in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.benchmark.pictures import Pictures
from handful.benchmark.source import Source
from handful.features.contents import SHAPES, TEXTS, Features
from handful.tuning.prompts import Prompts

__all__ = ["part_of"]


def part_of(source: Source, classes: range) -> Source:
    """Return the images, names and texts of some classes, which are numbered from 0 again.

    Its name and digest are those of the whole, and so are positions in a results line.

    Args:
        source: the whole.
        classes: that are kept.
    """
    rows = np.flatnonzero((source.labels >= classes.start) & (source.labels < classes.stop))
    first, *further = (_of(f, rows, classes) for f in (source.features, *source.further))
    assert first.labels is not None
    pictures = source.pictures
    return replace(
        source,
        features=first,
        labels=first.labels,
        class_names=source.class_names[classes.start : classes.stop],
        further=tuple(further),
        pictures=None if pictures is None else _pictures(pictures, rows, classes),
        rows=source.in_whole(rows),
        whole=None,
    )


def _of(features: Features, rows: npt.NDArray[np.int64], classes: range) -> Features:
    kept = {"N": rows, "C": np.arange(classes.start, classes.stop)}
    changes: dict[str, Any] = {}
    for name, axes in SHAPES.items():
        value = getattr(features, name)
        if value is None or axes[0] not in kept:
            continue
        taken = kept[axes[0]]
        changes[name] = tuple(value[i] for i in taken) if name in TEXTS else value[taken]
    if features.labels is not None:
        changes["labels"] = features.labels[rows] - classes.start
    # What was read of the classes is not counted anew: it stands with the whole.
    return replace(features, **changes, templates=None, sentences=None)


def _pictures(pictures: Pictures, rows: npt.NDArray[np.int64], classes: range) -> Pictures:
    kept = slice(classes.start, classes.stop)
    of_all = pictures.prompts
    prompts = Prompts(of_all.names[kept], of_all.templates, of_all.sentences[kept])
    return Pictures(pictures.encoder, tuple(pictures.paths[row] for row in rows), prompts)
