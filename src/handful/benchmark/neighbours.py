"""Test images as several methods see them, side by side: Figure 6 of the CLIP-Adapter paper.

t-SNE (van der Maaten and Hinton, 2008) lays images out on paper so that near ones stay near. How
large or how far apart groups are says little there, so that beside each picture stands a number
that was counted in the features themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.benchmark.adapted import Adapted, adapted
from handful.benchmark.exam import OF_OTHERS, Exam
from handful.benchmark.one_run import Run
from handful.benchmark.source import Source
from handful.classifier.tuned import check_method, is_tuning
from handful.errors import InputError, did_you_mean
from handful.progress import progress

__all__ = [
    "MOST_CLASSES",
    "PERPLEXITY",
    "Neighbours",
    "Panel",
    "file_name",
    "flattened",
    "nearest_share",
    "neighbours",
    "refuse_others",
]

PERPLEXITY = 30.0  # about how many images each one is held beside; fewer where there are few
MOST_CLASSES = 20  # that a reader can tell apart
FIRST_CLASSES = 10  # that are shown of more, where nobody says which
LEAST_IMAGES = 5

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Panel:
    """The images as one method sees them.

    Attributes:
        adapted: the method, and its vectors.
        nearest: share of the images whose nearest other one, by cosine of the vectors, is of their
            class; of equally near ones those of other classes come first.
        places: on paper, ``(n, 2)``.
    """

    adapted: Adapted
    nearest: float
    places: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The same test images in every panel.

    Attributes:
        source: what was learnt from and tested on.
        protocol, select, shots, seed: as in a run.
        rows: of the images, positions in the source; class by class.
        labels: of these images.
        test_images, test_classes: how many there are in all.
        panels: one for each method.
    """

    source: Source
    protocol: str
    select: str
    shots: int
    seed: int
    rows: Rows
    labels: Rows
    test_images: int
    test_classes: int
    panels: tuple[Panel, ...]

    @property
    def classes(self) -> dict[int, str]:
        """Names of the classes that are shown, by label."""
        return {int(c): self.source.class_names[c] for c in np.unique(self.labels)}

    @property
    def perplexity(self) -> float:
        """That t-SNE was run with."""
        return _perplexity(len(self.rows))


def neighbours(
    source: Source,
    methods: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    shots: int = 16,
    seed: int = 1,
    protocol: str = "coop",
    select: str = "val",
    classes: Sequence[str] | None = None,
    most: int = 1000,
) -> Neighbours:
    """Let methods learn one draw, and lay out what each of them makes of the same test images.

    Args:
        source: images with labels.
        methods: names, each with the settings that it is given; the same twice is shown once.
        shots: images per class that are learnt from.
        seed: of the draw, of training, of which images are shown, and of t-SNE.
        protocol: one that tests on the source itself.
        select: how settings are chosen: ``val``, ``cv`` or ``fixed``.
        classes: names of those that are shown; None: all, or the first ten of more than twenty.
            Methods learn and are tested on all of them.
        most: images that are shown, in equal shares of the classes; of a class that has fewer, all.

    Raises:
        InputError: a method, a setting, the protocol or a class is none, a method cannot run on the
            source, or there are too few images.
    """
    refuse_others(protocol)
    for method, given in methods:
        inside = is_tuning(method) and select == "cv"
        check_method(method, "fixed" if inside else select, given, ())
        if lacking := source.lacks(method, given):
            raise InputError(lacking)
    if not methods:
        raise InputError("there is no method to show: name some of 'handful methods'.")
    exam = Exam(protocol, source)
    drawn, learnt_from = exam.drawn(shots, seed), exam.learnt_from
    exam.check_select(select, drawn)
    rows = _shown(learnt_from, drawn.test, _chosen(learnt_from, drawn.test, classes), most, seed)
    labels = learnt_from.labels[rows]
    runs = dict.fromkeys(
        Run(source.digest, protocol, select, shots, seed, method, tuple(sorted(given.items())))
        for method, given in methods
    )
    panels = []
    with progress("learning", len(runs), "methods") as advance:
        for run in runs:
            found = adapted(run, learnt_from, drawn, rows)
            share = nearest_share(found.vectors, labels)
            panels.append(Panel(found, share, flattened(found.vectors, seed)))
            advance(1)
    return Neighbours(
        source=learnt_from,
        protocol=protocol,
        select=select,
        shots=shots,
        seed=seed,
        rows=rows,
        labels=labels,
        test_images=len(drawn.test),
        test_classes=len(np.unique(learnt_from.labels[drawn.test])),
        panels=tuple(panels),
    )


def refuse_others(protocol: str) -> None:
    """Refuse a protocol that tests on other sources.

    Raises:
        InputError: it does.
    """
    if protocol in OF_OTHERS:
        raise InputError(
            f"the protocol {protocol} tests on other sources: use coop, which draws the same"
            " images, to see the test images of this one."
        )


def file_name(source: str, protocol: str, select: str, shots: int, seed: int) -> str:
    """Return the name of a figure without its ending, known before anything is learnt."""
    parts = ("tsne", source, protocol, select, shots, seed)
    return re.sub(r"[^\w-]+", "_", "-".join(map(str, parts)))


def nearest_share(vectors: npt.NDArray[np.float32], labels: Rows) -> float:
    """Return the share of rows whose nearest other row is of their class.

    Args:
        vectors: of unit length, ``(n, D)``. Of equal cosines those of other classes come first.
        labels: ``(n,)``.
    """
    right = 0
    X = vectors.astype(np.float64)
    for row, (x, label) in enumerate(zip(X, labels, strict=True)):
        cosines, same = X @ x, labels == label
        other = cosines[~same].max(initial=-np.inf)
        same[row] = False
        # What a product of float64 rounds away tells no two images apart.
        right += bool(cosines[same].max(initial=-np.inf) > other + 1e-12)
    return right / len(labels)


def flattened(vectors: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float64]:
    """Return places on paper ``(n, 2)``, by t-SNE that starts from the principal components.

    Equal vectors and seeds have equal places: it runs in one thread, as the order of a sum shows
    after a thousand steps.

    Args:
        vectors: ``(n, D)``.
        seed: of the decomposition.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if not np.ptp(vectors, axis=0).any():  # all in one place, where it has no direction to start
        return np.zeros((len(vectors), 2))
    with threadpool_limits(1):
        tsne = TSNE(perplexity=_perplexity(len(vectors)), init="pca", random_state=seed, n_jobs=1)
        found: npt.NDArray[np.float64] = tsne.fit_transform(vectors).astype(np.float64)
    return found


def _perplexity(images: int) -> float:
    return min(PERPLEXITY, (images - 1) / 3)


def _chosen(source: Source, test: Rows, names: Sequence[str] | None) -> Rows:
    """Return the labels of the classes that are shown."""
    there = np.unique(source.labels[test])
    if names is None:
        return there if len(there) <= MOST_CLASSES else there[:FIRST_CLASSES]
    known = [source.class_names[c] for c in there]
    for name in names:
        if name not in known:
            raise InputError(
                f"{source.name} has no class '{name}' with test images."
                f"{did_you_mean(name, known)} Its classes are {', '.join(known[:MOST_CLASSES])}"
                f"{' …' if len(known) > MOST_CLASSES else ''}."
            )
    found = np.array([c for c, name in zip(there, known, strict=True) if name in names], np.int64)
    if len(found) > MOST_CLASSES:
        raise InputError(
            f"{len(found)} classes are to be shown, and nobody could tell them apart: name"
            f" {MOST_CLASSES} at most with --classes."
        )
    return found


def _shown(source: Source, test: Rows, classes: Rows, most: int, seed: int) -> Rows:
    """Return test images of these classes, class by class, as many of each as there is room for."""
    generator = np.random.default_rng(seed)
    labels = source.labels[test]
    kept = [
        np.sort(generator.permutation(test[labels == c])[: max(0, most) // max(1, len(classes))])
        for c in classes
    ]
    rows = np.concatenate([np.empty(0, np.int64), *kept])
    if len(rows) < LEAST_IMAGES:
        raise InputError(
            f"of {len(classes)} classes of {source.name}, {len(rows)} test images would be shown:"
            f" expected {LEAST_IMAGES} or more; show more images or other classes."
        )
    return rows
