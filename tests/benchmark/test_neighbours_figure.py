"""Neighbours on paper: the places that were found, classes that can be told apart, all said."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful import Features
from handful.benchmark.adapted import Adapted
from handful.benchmark.figures.neighbours import draw_neighbours, unshown
from handful.benchmark.neighbours import Neighbours, Panel
from handful.benchmark.source import Source
from handful.report.figures import ready, write

pytest.importorskip("matplotlib", reason="needs the extra plot")


def invented(panels: int = 3, classes: int = 4, of: int | None = None, **more: Any) -> Neighbours:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), 6)
    names = tuple(f"class {c} of them" for c in range(classes))
    X = np.ones((len(labels), 3), np.float32)
    source = Source("things, 5$ and 6$", (), Features(X), labels, names, "digest")
    seen = [
        Panel(
            Adapted(
                ("zero-shot", "clip-adapter (epochs=5, residual=false, branch=both)")[n % 2],
                ("features", "scores")[n % 2],
                X,
                0.5 + n / 100,
            ),
            0.25 + n / 100,
            rng.normal(size=(len(labels), 2)),
        )
        for n in range(panels)
    ]
    given = {"test_images": len(labels), "test_classes": of or classes, **more}
    return Neighbours(source, "coop", "val", 16, 1, np.arange(len(labels)), labels,
                      panels=tuple(seen), **given)  # fmt: skip


def figure_of(found: Neighbours) -> Any:
    with ready():
        return draw_neighbours(found)


def test_the_places_are_those_that_were_found() -> None:
    found = invented()
    axes = figure_of(found).axes
    assert len(axes) == 3
    for ax, panel in zip(axes, found.panels, strict=True):
        assert [line.get_label() for line in ax.lines] == list(found.classes.values())
        for label, line in enumerate(ax.lines):
            assert np.array_equal(np.stack(line.get_data()).T, panel.places[found.labels == label])
        title = ax.get_title().replace("\n", " ")
        assert title == (
            f"{panel.adapted.label} accuracy {panel.adapted.accuracy:.1%}"
            f" nearest in {panel.adapted.space} {panel.nearest:.1%}"
        )


def test_classes_can_be_told_apart_in_grey() -> None:
    lines = figure_of(invented(1, 20)).axes[0].lines
    hollow = [line.get_markerfacecolor() == "white" for line in lines]
    looks = [(line.get_marker(), white) for line, white in zip(lines, hollow, strict=True)]
    assert len(set(looks)) == 20
    assert not any(hollow[:10]) and len({line.get_color() for line in lines[:6]}) == 6


def test_the_legend_has_every_class_once_with_its_look() -> None:
    from matplotlib.colors import to_hex

    figure = figure_of(invented(2, 14))
    (legend,) = figure.legends
    shown = {text.get_text(): line for text, line in
             zip(legend.get_texts(), legend.get_lines(), strict=True)}  # fmt: skip
    for line in figure.axes[1].lines:
        mine = shown.pop(line.get_label())
        for one in ("get_marker", "get_markerfacecolor", "get_markeredgecolor"):
            assert getattr(mine, one)() == getattr(line, one)(), one
        assert to_hex(mine.get_color()) == to_hex(line.get_color())
    assert not shown


def test_the_heading_says_what_is_shown() -> None:
    said = figure_of(invented()).get_suptitle().replace("\n", " ")
    assert said.startswith(r"things, 5\$ and 6\$: protocol coop, selection val, 16 shots, seed 1. ")
    assert "24 test images, the same in every panel, by t-SNE of perplexity 7.67." in said
    assert "Accuracy" not in said and "(scores: " in said and "mean little." in said
    assert "(scores: " not in figure_of(invented(1)).get_suptitle()
    part = invented(of=30, test_images=2345)
    said = figure_of(part).get_suptitle().replace("\n", " ")
    assert "24 of 2,345 test images (4 of 30 classes), the same" in said
    assert "Accuracy is of all test images." in said
    assert list(unshown(part)) == ["Shown are 4 of 30 classes: name others with --classes."]
    assert not list(unshown(invented()))


@pytest.mark.parametrize(("panels", "classes"), [(1, 3), (2, 20), (4, 9), (5, 10)])
def test_nothing_hides_anything(panels: int, classes: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    with ready():
        figure = draw_neighbours(invented(panels, classes))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        (legend,) = figure.legends
        named = {"heading": figure._suptitle, "legend": legend}
        for n, ax in enumerate(figure.axes):
            named |= {f"panel {n}": ax.patch, f"title {n}": ax.title}
        boxes = {name: one.get_window_extent(renderer) for name, one in named.items()}
    assert len(figure.axes) == panels
    width, height = (side * figure.dpi for side in figure.get_size_inches())
    for name, box in boxes.items():
        assert box.x0 >= -1 and box.y0 >= -1, name
        assert box.x1 <= width + 1 and box.y1 <= height + 1, name
        if name.startswith("panel"):
            assert min(box.width, box.height) > 1.6 * figure.dpi, name
    for (name, box), (other, other_box) in combinations(boxes.items(), 2):
        assert not box.padded(-1).overlaps(other_box.padded(-1)), (name, other)
    sizes = {t.get_fontsize() for t in figure.findobj(Text) if t.get_text() and t.get_visible()}
    assert min(sizes) >= 8


def test_equal_neighbours_give_equal_files(tmp_path: Path) -> None:
    for n in range(2):
        for end in ("png", "svg"):
            with ready():
                write(draw_neighbours(invented()), tmp_path / f"{n}.{end}", overwrite=False)
    for end in ("png", "svg"):
        assert (tmp_path / f"0.{end}").read_bytes() == (tmp_path / f"1.{end}").read_bytes()
