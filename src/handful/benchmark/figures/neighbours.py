"""Neighbours as a figure: a panel for each method, with a colour and a marker for each class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from textwrap import fill
from typing import TYPE_CHECKING, Any

from handful.benchmark.adapted import SCORES
from handful.benchmark.figures.looks import MARKERS, look
from handful.benchmark.figures.page import LINE, WIDTH, heading, legend
from handful.benchmark.figures.panels import plain
from handful.benchmark.grouping import shots_in_words
from handful.benchmark.neighbours import Neighbours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_neighbours", "unshown"]

TALLEST = 2.8  # inches of a panel
TITLE = 12  # letters of 9 points, per inch


def draw_neighbours(found: Neighbours) -> Figure:
    """Draw them, inside :func:`~handful.report.figures.ready`."""
    from matplotlib.figure import Figure

    panels = found.panels
    columns = 2 if len(panels) in (2, 4) else min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = WIDTH if columns > 1 else WIDTH / 2
    size = min(5.0, max(3.2, 70 / math.sqrt(len(found.rows))))
    figure = Figure(figsize=(width, 1), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    text = 1
    titles = []
    for ax, panel in zip(axes, panels, strict=False):
        for place, (label, name) in enumerate(found.classes.items()):
            at = panel.places[found.labels == label].T
            ax.plot(*at, **_marker(place, size), label=plain(name))
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.grid(visible=False)
        for side in ("top", "right"):
            ax.spines[side].set_visible(True)
        letters = int(width / columns * TITLE)
        titles.append(fill(plain(panel.adapted.label), letters, break_on_hyphens=False))
        titles[-1] += f"\naccuracy {panel.adapted.accuracy:.1%}"
        titles[-1] += f"\nnearest in {panel.adapted.space} {panel.nearest:.1%}"
        ax.set_title(titles[-1])
    for ax in axes[len(panels) :]:
        ax.remove()
    for start in range(0, len(titles), columns):
        text += max(title.count("\n") + 1 for title in titles[start : start + columns])
    text += legend(figure, list(_handles(found)), width)
    text += heading(figure, _said(found), width)
    figure.set_size_inches(width, rows * min(TALLEST, width / columns - 0.1) + text * LINE)
    return figure


def unshown(found: Neighbours) -> Iterator[str]:
    """Yield a sentence if test images of some classes are not shown."""
    if len(found.classes) < found.test_classes:
        yield (
            f"Shown are {len(found.classes)} of {found.test_classes} classes: name others with"
            " --classes."
        )


def _marker(place: int, size: float) -> dict[str, Any]:
    """Return the look of a class: where its marker is another's, too, it is white inside."""
    style = look(place).marker | {"markersize": size, "markeredgewidth": 0.3}
    if place < len(MARKERS):
        return style
    hollow = {"markerfacecolor": "white", "markeredgecolor": look(place).colour}
    return style | hollow | {"markeredgewidth": 0.8}


def _handles(found: Neighbours) -> Iterator[Any]:
    """Yield what stands in the legend: markers that are large enough, whatever they are above."""
    from matplotlib.lines import Line2D

    for place, name in enumerate(found.classes.values()):
        yield Line2D([], [], **_marker(place, 6.0), label=plain(name))


def _said(found: Neighbours) -> str:
    images, of_all = f"{found.test_images:,} test images", ""
    if len(found.rows) < found.test_images:
        images = f"{len(found.rows):,} of {images}"
        of_all = " Accuracy is of all test images."
    if len(found.classes) < found.test_classes:
        images += f" ({len(found.classes)} of {found.test_classes} classes)"
    scores = ""
    if any(panel.adapted.space == SCORES for panel in found.panels):
        scores = " (scores: of the classes, by methods that leave images as they are)"
    return (
        f"{plain(found.source.name)}: protocol {found.protocol}, selection {found.select},"
        f" {shots_in_words(found.shots)}, seed {found.seed}. {images}, the same in every panel, by"
        f" t-SNE of perplexity {found.perplexity:.3g}.{of_all} Nearest: the share of them whose"
        f" nearest other one, by cosine and not in the picture{scores}, is of their class. Sizes of"
        " groups in a t-SNE picture, and distances between them, mean little."
    )
