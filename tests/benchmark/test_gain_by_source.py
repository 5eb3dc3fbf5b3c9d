"""The gain over zero-shot by source: the numbers of the runs, in order, nothing incomplete."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from bench_rows import grid, results, run

from handful.benchmark.figures.by_source import gains_by_source, not_by_source
from handful.benchmark.figures.looks import COLOURS
from handful.benchmark.figures.plot import Drawing, drawings, ready, undrawn, write
from handful.benchmark.summary import Summary, summarise

pytest.importorskip("matplotlib", reason="needs the extra plot")

Rows = list[dict[str, Any]]

# By source and method, accuracies of seeds 1 to 3; zero-shot is not the same for each of them.
METHODS = ("zero-shot", "clip-adapter", "gda")
ACCURACIES: dict[str, dict[str, Sequence[float]]] = {
    source: dict(zip(METHODS, values, strict=True))
    for source, values in {
        "a": ((0.5, 0.51, 0.52), (0.45, 0.43, 0.47), (0.5, 0.51, 0.52)),
        "b": ((0.3, 0.3, 0.3), (0.7, 0.6, 0.65), (0.4, 0.4, 0.5)),
        "c": ((0.6, 0.6, 0.6), (0.65, 0.7, 0.66), (0.7, 0.75, 0.9)),
    }.items()
}
NAMES = {"a": "dtd", "b": "eurosat", "c": "caltech101"}


def rows_of(accuracies: Mapping[str, Mapping[str, Sequence[float]]], **more: Any) -> Rows:
    return [row for s, methods in accuracies.items() for row in grid(methods, source=s, **more)]


def summary_of(rows: Rows) -> Summary:
    return summarise([results(rows, NAMES)])


def drawing_of(rows: Rows) -> Drawing | None:
    found = [one for one in drawings(summary_of(rows)) if one.kind == "gain-by-source"]
    assert len(found) <= 1
    return found[0] if found else None


def figure_of(rows: Rows) -> Any:
    one = drawing_of(rows)
    assert one is not None
    with ready():
        return one.figure()


def gain(source: str, method: str) -> tuple[float, float]:
    """Mean and deviation, by hand."""
    zero, mine = ACCURACIES[source]["zero-shot"], ACCURACIES[source][method]
    points = [100 * (b - a) for a, b in zip(zero, mine, strict=True)]
    return statistics.fmean(points), statistics.stdev(points)


def bars(ax: Any) -> dict[str, list[Any]]:
    """The bars of each method, from the top."""
    return {box.get_label(): list(box) for box in ax.containers}


def names_on(ax: Any) -> list[str]:
    """The names from the top, which is where the axis ends."""
    low, high = ax.get_ylim()
    assert low > high
    return [label.get_text() for label in ax.get_yticklabels()]


def test_the_numbers_are_those_of_the_runs_in_order() -> None:
    one = drawing_of(rows_of(ACCURACIES))
    assert one is not None and one.name == "gain-by-source-coop-val"
    with ready():
        (ax,) = one.figure().axes
    # Mean gains of the two methods: b 22.5, c 12.7, a −3.
    order = ["b", "c", "a"]
    assert names_on(ax) == [NAMES[s] for s in order]
    assert [table.names for table in one.tables] == [(NAMES[s],) for s in order]
    found = bars(ax)
    assert list(found) == ["clip-adapter", "gda"]
    lines = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_label()[0] == "_"]
    for method, boxes in found.items():
        for source, box in zip(order, boxes, strict=True):
            mean, spread = gain(source, method)
            assert box.get_x() + box.get_width() == pytest.approx(mean)
            assert box.get_x() == 0
            middle = box.get_y() + box.get_height() / 2
            (around,) = [ln for ln in lines if ln.get_ydata()[0] == pytest.approx(middle)]
            assert list(around.get_xdata()) == pytest.approx([mean - spread, mean + spread])
            (value,) = [t for t in ax.texts if t.xy[1] == pytest.approx(middle)]
            assert value.get_text() == f"{mean:+.1f}".replace("-", "−").replace("+0.0", "0.0")
            # Behind the end of the error bar, on the side to which the bar points.
            assert value.xy[0] == pytest.approx(mean + (spread if mean >= 0 else -spread))
            assert value.get_horizontalalignment() == ("left" if mean >= 0 else "right")
    values = ["+35.0", "+7.0", "−6.0", "+13.3", "+18.3", "0.0"]
    assert [value.get_text() for value in ax.texts] == values


def test_methods_differ_in_colour_and_in_grey() -> None:
    from matplotlib.colors import to_hex

    for methods in range(1, 5):
        names = ["clip-adapter", "gda", "ape", "proker"][:methods]
        rows = rows_of({s: dict.fromkeys(["zero-shot", *names], (0.5, 0.6)) for s in "ab"})
        (ax,) = figure_of(rows).axes
        boxes = [found[0] for found in bars(ax).values()]
        colours = [to_hex(box.get_facecolor()).upper() for box in boxes]
        assert colours == [*COLOURS[:methods]]
        assert len({box.get_hatch() for box in boxes}) == methods
        (legend,) = ax.figure.legends
        shown = [text.get_text() for text in legend.get_texts()]
        assert sorted(shown) == sorted([*names, "zero-shot"])


def test_more_methods_than_four_are_markers() -> None:
    names = ["clip-adapter", "gda", "ape", "proker", "lp++"]
    of_one = {name: (0.5 + n / 10, 0.6 + n / 10) for n, name in enumerate(names)}
    accuracies = {s: {"zero-shot": (0.5, 0.5), **of_one} for s in "ab"}
    (ax,) = figure_of(rows_of(accuracies)).axes
    assert not ax.containers and not ax.texts
    markers = {ln.get_label(): ln for ln in ax.lines if ln.get_label() in names}
    assert set(markers) == set(names)
    for n, name in enumerate(names):
        assert list(markers[name].get_xdata()) == pytest.approx([10 * n + 5] * 2)
    assert len({line.get_marker() for line in markers.values()}) == 5
    places = sorted(y for line in markers.values() for y in line.get_ydata())
    assert min(b - a for a, b in pairwise(places)) > 0.05  # inches: none is hidden


def test_the_most_shots_that_most_sources_have() -> None:
    """Two have 16, all three 4; what only some of the three have is not the figure."""
    rows = rows_of(ACCURACIES, shots=(1, 4))
    rows += rows_of({s: ACCURACIES[s] for s in "ab"}, shots=(16,))
    gains = gains_by_source(summary_of(rows).tables)
    assert gains is not None and gains.shots == 4 and len(gains.tables) == 3
    figure = figure_of(rows)
    said = figure.get_suptitle().replace("\n", " ")
    assert said.startswith("Protocol coop, selection val, 4 shots, seeds 1 to 3. Mean ± 1 standard")
    # Without the third source the most shots are 16.
    gains = gains_by_source(summary_of([row for row in rows if row["source"][0] != "c"]).tables)
    assert gains is not None and gains.shots == 16


def test_what_is_incomplete_is_not_drawn_and_that_is_said() -> None:
    rows = rows_of(ACCURACIES, shots=(1, 4))
    lost = (("source", "c" * 64), ("method", "gda"), ("seed", 2), ("shots", 4))
    rows = [row for row in rows if not all(row[key] == value for key, value in lost)]
    rows += [run("zero-shot", 0.5, source="d", shots=4, seed=s) for s in (1, 2, 3)]
    (ax,) = figure_of(rows).axes
    assert list(bars(ax)) == ["clip-adapter"]
    assert names_on(ax) == ["eurosat", "caltech101", "dtd"]
    found = [text for text in undrawn(summary_of(rows)) if "gains by source" in text]
    assert found == [
        "Not among the gains by source, as not all 3 sources have them at 4 shots: gda"
        " (coop, val).",
        "Not among the gains by source, as nothing or no zero-shot may be compared at 4 shots:"
        " d (coop, val).",
    ]
    whole = summary_of(rows_of(ACCURACIES))
    assert not [text for text in undrawn(whole) if "gains by source" in text]


@pytest.mark.parametrize(
    "rows",
    [
        rows_of({"a": ACCURACIES["a"]}),
        rows_of({s: {"clip-adapter": (0.5, 0.6)} for s in "ab"}),
        rows_of({s: {"zero-shot": (0.5, 0.6)} for s in "ab"}),
        [*rows_of({"a": ACCURACIES["a"]}), *rows_of({"b": ACCURACIES["b"]}, protocol="whu")],
        [*rows_of({"a": ACCURACIES["a"]}), *rows_of({"b": ACCURACIES["b"]}, shots=(2,))],
    ],
    ids=["one source", "no zero-shot", "zero-shot alone", "two protocols", "other shots"],
)
def test_there_is_none(rows: Rows) -> None:
    summary = summary_of(rows)
    assert drawing_of([*rows, run("zero-shot", 0.5, source="e", seed=9, protocol="x"),
                       run("gda", 0.5, source="e", seed=9, protocol="x")]) is None  # fmt: skip
    assert not list(not_by_source([t for t in summary.tables if t.protocol == "coop"]))


def test_one_seed_has_no_deviation_and_documented_settings_are_said() -> None:
    given = {"select": "cv", "policy": "fixed"}
    rows = [run(m, 0.5, source=s, **given) for s in "ab" for m in ("zero-shot", "gda")]
    said = figure_of(rows).get_suptitle().replace("\n", " ")
    assert "seed 1." in said and "deviation" not in said and "order of" not in said
    assert said.endswith("Documented settings where nothing could be held out.")


def test_values_are_inside_and_hide_nothing() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    far = {
        "zero-shot": (0.5, 0.5),
        "gda": (0.02, 0.1),
        "ape": (0.9, 0.99),
        "proker": (0.45, 0.54),
        "lp++": (0.4, 0.6),
    }
    names = {s: f"{s} is a data set with a long name, openai/clip-vit-base-patch16" for s in "abc"}
    summary = summarise([results(rows_of(dict.fromkeys("abc", far)), names)])
    (one,) = [one for one in drawings(summary) if one.kind == "gain-by-source"]
    with ready():
        figure = one.figure()
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        (ax,) = figure.axes
        shown = [*ax.texts, *ax.get_yticklabels()]
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in shown]
        panel = ax.get_window_extent(canvas.get_renderer())
    assert len(boxes) == 15
    for a, b in combinations(boxes, 2):
        assert not a.padded(-1).overlaps(b.padded(-1))
    for box in boxes[:12]:
        assert panel.x0 - 1 <= box.x0 and box.x1 <= panel.x1 + 1
    assert min(box.x0 for box in boxes) >= 0


def test_equal_results_give_equal_files(tmp_path: Path) -> None:
    rows = rows_of(ACCURACIES)
    contents = []
    for n, given in enumerate((rows, rows[::-1])):
        one = drawing_of(given)
        assert one is not None
        for end in ("png", "svg"):
            path = tmp_path / f"{n}.{end}"
            with ready():
                write(one.figure(), path, overwrite=False)
            contents.append(path.read_bytes())
    assert contents[:2] == contents[2:]
