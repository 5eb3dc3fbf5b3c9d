"""The picture of the overlap shows the counts, in both spaces on one axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handful.errors import InputError
from handful.evaluation.overlap import Overlap, overlap_of
from handful.report.figures import ready
from handful.report.overlap import draw_overlap, overlap_figure

pytest.importorskip("matplotlib", reason="needs the extra plot")


def of(spread: float, n: int = 60) -> Overlap:
    rng, labels = np.random.default_rng(0), np.arange(n) % 3
    rows = rng.normal(size=(3, 8))[labels] + spread * rng.normal(size=(n, 8))
    return overlap_of(rows.astype(np.float32), labels)


def test_the_areas_are_those_of_the_numbers() -> None:
    panels = {"before": of(1.5), "after": of(0.5)}
    with ready():
        figure = overlap_figure(panels)
    assert len(figure.axes) == 2
    for ax, (title, one) in zip(figure.axes, panels.items(), strict=True):
        both, paired, unpaired = (patch.get_data() for patch in ax.patches)
        width = np.diff(both.edges)
        assert (both.values * width).sum() == pytest.approx(one.area)
        for shown, counts in ((paired, one.cosines.paired), (unpaired, one.cosines.unpaired)):
            assert (shown.values * width).sum() == pytest.approx(1)
            merged = counts.numpy().reshape(len(width), -1).sum(1)
            np.testing.assert_allclose(shown.values * width, merged / merged.sum(), rtol=1e-5)
        means = [line.get_xdata()[0] for line in ax.lines]
        assert means == pytest.approx(list(one.cosines.means))
        assert f"{title}: overlap {one.area:.0%}" in ax.get_title(loc="left")
        # All that is there can be seen.
        low, high = ax.get_xlim()
        kept = (both.edges[:-1] >= low) & (both.edges[1:] <= high)
        assert (paired.values * width)[kept].sum() > 0.998
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()


def test_lines_differ_without_colours() -> None:
    with ready():
        figure = overlap_figure({"images": of(1)})
    _, paired, unpaired = figure.axes[0].patches
    assert paired.get_linestyle() != unpaired.get_linestyle()


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_equal_numbers_give_equal_files(tmp_path: Path, ending: str) -> None:
    files = [tmp_path / f"{name}.{ending}" for name in "ab"]
    for path in files:
        draw_overlap({"before": of(1.5), "after": of(0.5)}, path)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png or \.svg"):
        draw_overlap({"images": of(1)}, tmp_path / "a.jpg")
    with pytest.raises(InputError, match="nothing to draw"):
        draw_overlap({}, tmp_path / "a.png")
