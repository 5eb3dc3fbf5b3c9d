"""The picture of intra-modal overlap: cosines of images of one class and of two, before and after.

Both panels have one axis, so that what moved can be seen. Lines differ in colour and in dashes, and
the overlap is grey: it reads in print and without colours, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from handful.errors import InputError
from handful.evaluation.overlap import Overlap
from handful.functional.overlap import PairCosines
from handful.report.figures import check_file, ready, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_overlap", "overlap_figure"]

PAIRED, UNPAIRED, BOTH = "#0072B2", "#D55E00", "#b8b8b8"
SIZE = (5.2, 1.75)  # inches, of a panel
_EDGE = 0.0005  # share of the pairs that may lie outside what is shown, at each end


def draw_overlap(panels: Mapping[str, Overlap], path: Path, *, overwrite: bool = False) -> None:
    """Draw distributions of cosines, one panel below the other, into a PNG or SVG file.

    Args:
        panels: by title; "before" and "after" a correction, for instance.
        path: ends in ``.png`` or ``.svg``.
        overwrite: whether a file there may be replaced.

    Raises:
        InputError: another ending, a file that exists, or matplotlib is not installed.
    """
    check_file(path, overwrite=overwrite)
    with ready():
        write(overlap_figure(panels), path, overwrite=overwrite)


def overlap_figure(panels: Mapping[str, Overlap]) -> Figure:
    """Return the figure; inside :func:`handful.report.figures.ready`.

    Each line is a distribution of area 1; grey is what lies under both. Dots mark the means.

    Raises:
        InputError: there is nothing to draw.
    """
    from matplotlib.figure import Figure

    if not panels:
        raise InputError("there is nothing to draw: give the overlap of some images.")
    figure = Figure(figsize=(SIZE[0], SIZE[1] * len(panels) + 0.75), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True).ravel()
    bins = min(one.bins for one in panels.values())
    shown = [one.cosines.merged(len(one.cosines.paired) // bins) for one in panels.values()]
    for ax, (title, one), cosines in zip(axes, panels.items(), shown, strict=True):
        _panel(ax, title, one, cosines)
    ends = [_ends(cosines) for cosines in shown]
    axes[-1].set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
    axes[-1].set_xlabel("cosine of two images")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def _panel(ax: Axes, title: str, one: Overlap, shown: PairCosines) -> None:
    edges = shown.edges.double().numpy()
    width = edges[1] - edges[0]
    density = [
        np.asarray(counts.double() / counts.sum() / width)
        for counts in (shown.paired, shown.unpaired)
    ]
    ax.stairs(np.minimum(*density), edges, fill=True, color=BOTH, label="overlap")
    for values, mean, colour, dashes, name in (
        (density[0], one.cosines.means[0], PAIRED, "-", "images of one class"),
        (density[1], one.cosines.means[1], UNPAIRED, (0, (3, 1.2)), "images of two classes"),
    ):
        ax.stairs(values, edges, baseline=None, color=colour, linewidth=1.4, linestyle=dashes,
                  label=name)  # fmt: skip
        ax.plot(mean, 0, "o", color=colour, markersize=4.5, markeredgecolor="white",
                clip_on=False, zorder=5)  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False)
    ax.set_title(
        f"{title}: overlap {one.area:.0%}, d′ {one.cosines.separation:.2f}, "
        f"AUROC {one.cosines.auroc:.3f}",
        loc="left",
    )


def _ends(cosines: PairCosines) -> tuple[float, float]:
    """Return from where to where almost all cosines lie."""
    edges = cosines.edges.double().numpy()
    low, high = [], []
    for counts in (cosines.paired, cosines.unpaired):
        below = np.cumsum(counts.numpy()) / float(counts.sum())
        low.append(edges[int(np.searchsorted(below, _EDGE, side="right"))])
        high.append(edges[int(np.searchsorted(below, 1 - _EDGE)) + 1])
    margin = 0.03 * (max(high) - min(low))
    return max(-1.0, min(low) - margin), min(1.0, max(high) + margin)
