"""Reliability diagram: how often answers were right, against how sure they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from handful.errors import InputError
from handful.evaluation.calibration import Bin
from handful.report.figures import check_file, ready, write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_reliability", "reliability_figure"]

POINT, OVER, UNDER, DIAGONAL = "#56B4E9", "#D55E00", "#0072B2", "#000000"
PANEL = 2.6  # inches, width of a panel


def draw_reliability(
    panels: Mapping[str, Sequence[Bin]], path: Path, *, overwrite: bool = False
) -> None:
    """Draw one diagram for each set of bins, side by side, into a PNG or SVG file.

    Args:
        panels: by title, the bins of :func:`handful.evaluation.calibration.reliability`; "before"
            and "after" calibration, for instance.
        path: ends in ``.png`` or ``.svg``.
        overwrite: whether a file there may be replaced.

    Raises:
        InputError: another ending, a file that exists, no bins, or matplotlib is not installed.
    """
    check_file(path, overwrite=overwrite)
    with ready():
        write(reliability_figure(panels), path, overwrite=overwrite)


def reliability_figure(panels: Mapping[str, Sequence[Bin]]) -> Figure:
    """Return the figure; inside :func:`handful.report.figures.ready`.

    Each point is a bin: its accuracy over its mean confidence. The line from it to the diagonal is
    how far it is off: above, the answers were better than they claimed to be, below, worse. Grey
    columns are the share of the images in each bin.

    Raises:
        InputError: there are no bins.
    """
    from matplotlib.figure import Figure

    if not panels or not all(panels.values()):
        raise InputError("there is nothing to draw: a reliability diagram needs predictions.")
    figure = Figure(figsize=(PANEL * len(panels), PANEL + 0.5), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True).ravel()
    for ax, (title, bins) in zip(axes, panels.items(), strict=True):
        images = sum(one.n for one in bins)
        sure, right = [one.confidence for one in bins], [one.accuracy for one in bins]
        share = [one.n / images for one in bins]
        error = sum(w * abs(s - r) for w, s, r in zip(share, sure, right, strict=True))
        ax.bar(sure, share, width=0.02, color="#bbbbbb", label="share of images")
        ax.plot([0, 1], [0, 1], color=DIAGONAL, linewidth=0.8, linestyle=(0, (4, 2)))
        ax.vlines(sure, sure, right, linewidth=1.2, colors=[
            UNDER if r >= s else OVER for s, r in zip(sure, right, strict=True)
        ])  # fmt: skip
        ax.plot(sure, right, "o", color=POINT, markeredgecolor="white", label="accuracy")
        ax.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), xlabel="confidence")
        ax.set_title(f"{title}\nerror {error:.1%}, {images} images")
    axes[0].set_ylabel("accuracy")
    return figure
