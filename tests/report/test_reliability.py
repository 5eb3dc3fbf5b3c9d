"""The diagram shows the numbers of the bins, and is written whole or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handful.errors import InputError
from handful.evaluation.calibration import Bin, calibration_error, reliability
from handful.report.figures import ready
from handful.report.reliability import draw_reliability, reliability_figure

pytest.importorskip("matplotlib", reason="needs the extra plot")

BINS = (Bin(0.3, 0.5, 2), Bin(0.7, 0.6, 5), Bin(0.95, 1.0, 13))


def test_the_numbers_are_those_of_the_bins() -> None:
    with ready():
        figure = reliability_figure({"before": BINS, "after": BINS[1:]})
    for ax, bins in zip(figure.axes, (BINS, BINS[1:]), strict=True):
        (points,) = [line for line in ax.lines if line.get_label() == "accuracy"]
        assert list(points.get_xdata()) == [one.confidence for one in bins]
        assert list(points.get_ydata()) == [one.accuracy for one in bins]
        shares = [column.get_height() for column in ax.patches]
        images = sum(one.n for one in bins)
        assert shares == pytest.approx([one.n / images for one in bins])
        (lines,) = ax.collections
        ends = [tuple(segment[:, 1]) for segment in lines.get_segments()]
        assert ends == [(one.confidence, one.accuracy) for one in bins]


def test_the_title_tells_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), size=50)
    labels = rng.integers(0, 4, 50)
    with ready():
        figure = reliability_figure({"all": reliability(probabilities, labels)})
    error = calibration_error(probabilities, labels)
    assert figure.axes[0].get_title() == f"all\nerror {error:.1%}, 50 images"


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_equal_bins_give_equal_files(tmp_path: Path, ending: str) -> None:
    first, second = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    for path in (first, second):
        draw_reliability({"before": BINS}, path)
    assert first.read_bytes() == second.read_bytes()
    if ending == "png":
        with Image.open(first) as image:
            assert min(image.size) > 300
            assert len(image.convert("RGB").getcolors(100_000) or []) > 3


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png or \.svg"):
        draw_reliability({"before": BINS}, tmp_path / "a.jpg")
    for panels in ({}, {"before": ()}):
        with pytest.raises(InputError, match="nothing to draw"):
            draw_reliability(panels, tmp_path / "a.png")
    there = tmp_path / "b.png"
    there.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        draw_reliability({"before": BINS}, there)
    assert there.read_text() == "mine"
    draw_reliability({"before": BINS}, there, overwrite=True)
    assert there.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.png"]
