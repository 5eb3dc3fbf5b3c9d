"""Figures: the numbers of the tables, nothing hidden, the same bytes every time."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handful.benchmark.figures.looks import COLOURS, look
from handful.benchmark.figures.panels import KINDS, listed
from handful.benchmark.figures.plot import Drawing, drawings, ready, undrawn, write
from handful.benchmark.results import read_results
from handful.benchmark.summary import Summary, summarise
from handful.errors import InputError
from handful.methods import registry

pytest.importorskip("matplotlib", reason="needs the extra plot")

SHOTS, SEEDS = (1, 2, 4, 8, 16), (1, 2, 3)
Rows = list[dict[str, Any]]


def a_source(number: int, name: str | None = None) -> dict[str, Any]:
    return {"kind": "source", "digest": f"{number:064x}", "name": name or f"source {number}"}


def a_run(source: int, method: str, shots: int, seed: int, accuracy: float, **more: Any) -> Any:
    row = {
        "kind": "run",
        "source": f"{source:064x}",
        "protocol": "coop",
        "select": "val",
        "shots": shots,
        "seed": seed,
        "method": method,
        "given": {},
        "accuracy": accuracy,
        "test_images": 100,
        "right": "",
        "settings": {"blend": 1.0},
        "selection": {"policy": "val"},
        "negative_log_likelihood": 1.0,
        "calibration_error": 0.1,
        "fit_seconds": 0.5,
        "command": [],
        **more,
    }
    names = ("source", "protocol", "select", "shots", "seed", "method", "given")
    return {"key": " ".join(str(row[name]) for name in names), **row}


def invented(sources: int, methods: int, shots: Sequence[int] = SHOTS) -> Rows:
    """Results as they might be; zero-shot is the first method."""
    chance = random.Random(0)
    # Those that the tests below name come first.
    first = ["zero-shot", "linear-probe", "clip-adapter"]
    known = [*first, *(name for name in registry.names() if name not in first)]
    names = [*known, *(f"another-method-{n}" for n in range(methods))][:methods]
    long = "images with quite a long name, openai/clip-vit-base-patch16"
    rows: Rows = []
    for source in range(sources):
        rows.append(a_source(source, (f"{long} {source}", f"dtd {source}")[source % 2]))
        least = chance.uniform(0.4, 0.8)
        for n, k, seed in product(range(methods), shots, SEEDS):
            more = 0 if n == 0 else 0.05 * np.log2(k) * (1 + n / 20) + chance.gauss(0, 0.01)
            seconds = round(10 ** (n / 6 - 4), 4)
            accuracy = min(1.0, least + more)
            rows.append(a_run(source, names[n], k, seed, accuracy, fit_seconds=seconds))
    return rows


@pytest.fixture
def summary_of(tmp_path: Path) -> Callable[[Rows], Summary]:
    def of(rows: Rows) -> Summary:
        path = tmp_path / "results.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return summarise([read_results(path)])

    return of


def figures(summary: Summary) -> Iterator[tuple[Drawing, Any]]:
    with ready():
        for one in drawings(summary):
            yield one, one.figure()


def drawn(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.lines if len(line.get_xdata())}


def points(line: Any) -> dict[int, float]:
    return dict(zip(line.get_xdata(), line.get_ydata(), strict=True))


def band(axes: Any, colour: str) -> dict[int, tuple[float, float]]:
    from matplotlib.colors import to_hex

    (found,) = [c for c in axes.collections if to_hex(c.get_facecolor()[0]) == colour.lower()]
    x, y = found.get_paths()[0].vertices.T
    return {k: (min(y[x == k]), max(y[x == k])) for k in set(x)}


# -- the numbers -----------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_runs(summary_of) -> None:
    rows = invented(2, 3, shots=(1, 4))
    runs = [row for row in rows if row["kind"] == "run"]
    of = {one.kind: figure for one, figure in figures(summary_of(rows))}
    assert list(of) == ["accuracy", "cost", "gain", "gain-by-source"]

    def accuracy(method: str, k: int, seed: int, sources: Sequence[int]) -> float:
        return 100 * statistics.fmean(
            row["accuracy"]
            for row in runs
            if (row["method"], row["shots"], row["seed"]) == (method, k, seed)
            and int(row["source"], 16) in sources
        )

    order = [1, 0]  # by name
    for place, sources in enumerate(([order[0]], [order[1]], order)):
        axes, gains, cost = (of[kind].axes[place] for kind in ("accuracy", "gain", "cost"))
        lines = drawn(axes)
        assert set(lines) == {"zero-shot", "linear-probe", "clip-adapter"}
        zero = accuracy("zero-shot", 1, 1, sources)
        assert lines["zero-shot"].get_ydata() == pytest.approx([zero, zero])
        assert lines["zero-shot"].get_xdata() == [0, 1]  # from side to side
        for number, method in enumerate(("linear-probe", "clip-adapter")):
            found, spread = points(lines[method]), band(axes, COLOURS[number])
            gain, gain_spread = points(drawn(gains)[method]), band(gains, COLOURS[number])
            assert set(found) == set(spread) == set(gain) == set(gain_spread) == {1, 4}
            for k in (1, 4):
                values = [accuracy(method, k, seed, sources) for seed in SEEDS]
                around = statistics.stdev(values)
                assert found[k] == pytest.approx(statistics.fmean(values))
                assert spread[k] == pytest.approx((found[k] - around, found[k] + around))
                assert gain[k] == pytest.approx(found[k] - zero)
                assert gain_spread[k] == pytest.approx((gain[k] - around, gain[k] + around))
            (seconds,), (mean,) = drawn(cost)[method].get_data()
            assert seconds == pytest.approx(round(10 ** ((number + 1) / 6 - 4), 4))
            assert mean == pytest.approx(statistics.fmean(found.values()))
        assert drawn(gains)["zero-shot"].get_ydata() == [0, 0]
        assert drawn(cost)["zero-shot"].get_data()[1] == pytest.approx([zero])
    titles = [axes.get_title() for axes in of["accuracy"].axes]
    assert titles[0] == "dtd 1" and titles[2] == "average of 2 sources"
    assert titles[1].replace("\n", " ").startswith("images with quite a long name")


def test_cost_is_the_median_and_never_zero(summary_of) -> None:
    rows = [a_source(0)]
    for method, seconds in (("zero-shot", (0, 0, 0)), ("tip-adapter", (0.1, 90, 0.3))):
        for seed, fit in zip(SEEDS, seconds, strict=True):
            rows.append(a_run(0, method, 1, seed, 0.5, fit_seconds=fit))
    (cost,) = [figure for one, figure in figures(summary_of(rows)) if one.kind == "cost"]
    found = {label: line.get_xdata()[0] for label, line in drawn(cost.axes[0]).items()}
    assert found == {"zero-shot": 1e-4, "tip-adapter": 0.3}
    low, high = cost.axes[0].get_xlim()
    assert low < 1e-4 and high > 0.3


def test_gain_is_of_the_same_draw(summary_of) -> None:
    """Zero-shot varies from draw to draw where the test does, and is a curve then."""
    rows = [a_source(0)]
    for k, seed in product((1, 2), SEEDS):
        zero = 0.5 + 0.1 * k + 0.05 * seed
        rows += [a_run(0, "zero-shot", k, seed, zero), a_run(0, "tip-adapter", k, seed, zero + 0.1)]
    of = {one.kind: figure.axes[0] for one, figure in figures(summary_of(rows))}
    assert points(drawn(of["accuracy"])["zero-shot"]) == pytest.approx({1: 70, 2: 80})
    assert points(drawn(of["gain"])["tip-adapter"]) == pytest.approx({1: 10, 2: 10})
    for low, high in band(of["gain"], COLOURS[0]).values():
        assert (low, high) == pytest.approx((10, 10))


def test_one_seed_has_no_band(summary_of) -> None:
    rows = [a_source(0), *(a_run(0, m, 1, 7, 0.5) for m in ("zero-shot", "tip-adapter"))]
    for one, figure in figures(summary_of(rows)):
        assert "seed 7." in figure.get_suptitle(), one.kind
        assert "deviation" not in figure.get_suptitle()


def test_without_zero_shot_there_is_no_gain(summary_of) -> None:
    rows = [a_source(0), *(a_run(0, "tip-adapter", k, s, 0.5) for k, s in product((1, 2), SEEDS))]
    assert [one.kind for one, _ in figures(summary_of(rows))] == ["accuracy", "cost"]


# -- what stands together --------------------------------------------------------------------------


def test_policies_and_protocols_are_never_in_one_figure(summary_of) -> None:
    rows = [a_source(0), a_source(1)]
    pairs = [("coop", "val"), ("coop", "cv"), ("whu", "val")]
    for n, (protocol, select) in enumerate(pairs):
        for source, seed, method in product((0, 1), SEEDS, ("zero-shot", "tip-adapter")):
            given = {"protocol": protocol, "select": select}
            rows.append(a_run(source, method, 1, seed, 0.1 * (n + 1), **given))
    seen = []
    for one, figure in figures(summary_of(rows)):
        (value,) = {round(float(y), 6) for ax in figure.axes for line in drawn(ax).values()
                    for y in line.get_ydata()} if "gain" not in one.kind else (None,)  # fmt: skip
        seen.append((one.name, value))
        said = figure.get_suptitle()
        _, protocol, select = one.name.rsplit("-", 2)
        assert said.startswith(f"Protocol {protocol}, selection {select}, "), said
        assert len(figure.axes) == (1 if one.kind == "gain-by-source" else 3)
    kinds = ("accuracy", "cost", "gain", "gain-by-source")
    assert seen == [
        (f"{kind}-{where}", None if "gain" in kind else value)
        for where, value in (("coop-cv", 20), ("coop-val", 10), ("whu-val", 30))
        for kind in kinds
    ]


def test_given_settings_make_another_curve(summary_of) -> None:
    rows = [a_source(0)]
    for blend, seed in product((None, 0.2, 0.4), SEEDS):
        given = {} if blend is None else {"blend": blend}
        rows.append(a_run(0, "tip-adapter", 1, seed, 0.5, given=given))
    (accuracy, *_) = (figure for _, figure in figures(summary_of(rows)))
    names = ["tip-adapter", "tip-adapter (blend=0.2)", "tip-adapter (blend=0.4)"]
    assert list(drawn(accuracy.axes[0])) == names


def test_what_is_incomplete_is_not_drawn_and_that_is_said(summary_of) -> None:
    rows = invented(2, 3, shots=(1, 4))
    lost = [r for r in rows if r.get("method") == "clip-adapter" and r["source"].endswith("1")
            and (r["shots"], r["seed"]) == (4, 2)]  # fmt: skip
    assert len(lost) == 1
    summary = summary_of([row for row in rows if row not in lost])
    of = {one.kind: figure.axes for one, figure in figures(summary)}
    assert [set(points(drawn(ax)["clip-adapter"])) for ax in of["accuracy"]] == [{1}, {1, 4}, {1}]
    assert ["clip-adapter" in drawn(ax) for ax in of["cost"]] == [False, True, False]
    lacking = (
        "Not drawn, as runs are missing: clip-adapter at 4 shots, {} (coop, val).",
        "Not among the costs, as not all of 1 and 4 shots are there: clip-adapter, {} (coop, val).",
    )
    places = ("dtd 1", "average of 2 sources")
    by_source = (
        "Not among the gains by source, as not all 2 sources have them at 4 shots: clip-adapter"
        " (coop, val)."
    )
    told = [text.format(one) for one in places for text in lacking]
    assert list(undrawn(summary)) == [*told, by_source]
    assert not list(undrawn(summary_of(rows)))


def test_equal_draws_stand_side_by_side(summary_of) -> None:
    """Where K images are the whole pool, every seed draws the same, and one seed is enough."""
    rows = [r for r in invented(2, 3) if r.get("shots") != 16 or r["seed"] == 1]
    of = {one.kind: figure.axes for one, figure in figures(summary_of(rows))}
    for kind in ("accuracy", "gain"):
        *single, average = of[kind]
        for ax in single:
            assert set(points(drawn(ax)["clip-adapter"])) == {1, 2, 4, 8, 16}
            low, high = band(ax, COLOURS[1])[16]
            assert low == pytest.approx(high)
            title = ax.get_title().replace("\n", " ")
            assert title.endswith(" seeds 1 to 3, seed 1 at 16 shots")
        assert set(points(drawn(average)["clip-adapter"])) == {1, 2, 4, 8}
        assert average.get_title() == "average of 2 sources\nseeds 1 to 3"
    # One method with another seed there, and only what is complete is left.
    other = a_run(1, "tip-adapter", 16, 2, 0.5)
    of = {one.kind: figure.axes for one, figure in figures(summary_of([*rows, other]))}
    assert set(points(drawn(of["accuracy"][0])["clip-adapter"])) == {1, 2, 4, 8}
    assert set(points(drawn(of["accuracy"][1])["clip-adapter"])) == {1, 2, 4, 8, 16}


def test_what_panels_do_not_share_stands_above_each(summary_of) -> None:
    rows = [r for r in invented(2, 3, (1, 2)) if not (r["kind"] == "run" and r["seed"] == 3
            and r["source"].endswith("1"))]  # fmt: skip
    for one, figure in figures(summary_of(rows)):
        if one.kind == "gain-by-source":
            said = figure.get_suptitle().replace("\n", " ")
            assert "2 shots, seeds 1 to 3 or seeds 1 and 2." in said
            continue
        shots = "1 and 2 shots, " if one.kind == "cost" else ""
        titles = [ax.get_title().partition("\nseeds")[0] for ax in figure.axes]
        below = [ax.get_title().rpartition("\n")[2] for ax in figure.axes]
        assert titles[0].startswith("dtd 1")
        assert below[:2] == [f"{shots}seeds 1 and 2", f"{shots}seeds 1 to 3"]
        assert "seeds" not in figure.get_suptitle()
        nothing_hidden(one, figure)


def test_settings_that_could_not_be_chosen_are_marked(summary_of) -> None:
    """Under ``cv`` one image per class cannot be held out: the documented settings were taken."""
    rows = [a_source(0)]
    for k, seed, method in product((1, 2), SEEDS, ("zero-shot", "tip-adapter")):
        policy = "fixed" if k == 1 or method == "zero-shot" else "cv"
        settings = {} if method == "zero-shot" else {"blend": 1.0}
        rows.append(a_run(0, method, k, seed, 0.5 + 0.1 * k * (method != "zero-shot"), select="cv",
                          selection={"policy": policy}, settings=settings))  # fmt: skip
    for one, figure in figures(summary_of(rows)):
        said = figure.get_suptitle().replace("\n", " ")
        if one.kind == "cost":
            assert "Documented settings where nothing could be held out, as at 1 shot." in said
            continue
        assert "White inside: documented settings, as nothing could be held out." in said
        white = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
        assert [list(line.get_xdata()) for line in white if len(line.get_xdata())] == [[1]]
    chosen = [
        row | {"selection": {"policy": "cv"}} if row["kind"] == "run" else row for row in rows
    ]
    for _, figure in figures(summary_of(chosen)):
        assert "ocumented settings" not in figure.get_suptitle()


# -- what can be read ------------------------------------------------------------------------------


def test_looks_are_all_different() -> None:
    seen = [look(n) for n in range(330)]
    triples = [(o.colour, o.marker["marker"], str(o.line["linestyle"])) for o in seen]
    assert len(set(triples)) == 330
    # Of any six neighbours each has its own colour, of any eleven its own marker, and of two that
    # share a colour neither marker nor line are the same.
    for n in range(300):
        assert len({one.colour for one in seen[n : n + 6]}) == 6
        assert len({one.marker["marker"] for one in seen[n : n + 11]}) == 11
        assert seen[n].line["linestyle"] != seen[n + 6].line["linestyle"]


def test_colours_are_okabe_and_itos() -> None:
    """As published (jfly.uni-koeln.de/color), without yellow and black."""
    published = {(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0),
                 (86, 180, 233)}  # fmt: skip
    assert {tuple(bytes.fromhex(colour[1:])) for colour in COLOURS} == published


def boxes(figure: Any) -> list[tuple[str, Any]]:
    """Every text, legend entry and panel of a figure with its place on paper."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    (legend,) = figure.legends
    found = [("heading", figure._suptitle), ("legend", legend)]
    for n, ax in enumerate(figure.axes):
        found += [(f"panel {n}", ax.patch), (f"title {n}", ax.title)]
        for axis in (ax.xaxis, ax.yaxis):
            found.append((f"label {n} {axis.axis_name}", axis.label))
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            found += [(f"tick {n} {axis.axis_name} {t.get_loc():g}", t.label1) for t in ticks]
    sized = [(name, one.get_window_extent(renderer)) for name, one in found
             if getattr(one, "get_text", lambda: "something")()]  # fmt: skip
    return [(name, box) for name, box in sized if box.width and box.height]


def nothing_hidden(one: Drawing, figure: Any) -> None:
    width, height = figure.get_size_inches()
    placed = boxes(figure)
    assert len([name for name, _ in placed if name.startswith("panel")]) == len(figure.axes)
    for name, box in placed:
        assert box.x0 >= -1 and box.y0 >= -1, (one.name, name, box)
        assert box.x1 <= width * figure.dpi + 1, (one.name, name, box)
        assert box.y1 <= height * figure.dpi + 1, (one.name, name, box)
        if name.startswith("panel"):
            # Large enough to be read.
            assert box.width > 1.3 * figure.dpi and box.height > 1.1 * figure.dpi, box
    for (name, box), (other, other_box) in combinations(placed, 2):
        assert not box.padded(-1).overlaps(other_box.padded(-1)), (one.name, name, other)


@pytest.mark.parametrize(
    ("sources", "methods", "shots"),
    [
        (1, 2, (1,)),
        (1, 6, SHOTS),
        (2, 5, (1, 2)),
        (3, 5, SHOTS),
        (4, 9, (1, 2, 3, 4, 5, 8, 16, 32)),
        pytest.param(11, 20, SHOTS, marks=pytest.mark.slow),
    ],
)
def test_nothing_hides_anything(summary_of, sources, methods, shots) -> None:
    for one, figure in figures(summary_of(invented(sources, methods, shots))):
        assert figure.get_size_inches()[0] == (3.5 if sources == 1 else 7.0)
        nothing_hidden(one, figure)
        (legend,) = figure.legends
        shown = [text.get_text() for text in legend.get_texts()]
        assert len(set(shown)) == len(shown) == methods


def test_text_is_large_enough(summary_of) -> None:
    from matplotlib.text import Text

    for _, figure in figures(summary_of(invented(3, 5))):
        sizes = {t.get_fontsize() for t in figure.findobj(Text) if t.get_text() and t.get_visible()}
        assert min(sizes) >= 8


def test_the_axis_has_the_shots(summary_of) -> None:
    accuracy, *_ = (figure for _, figure in figures(summary_of(invented(1, 3, (1, 2, 4, 16)))))
    axis = accuracy.axes[0].xaxis
    assert axis.get_scale() == "log" and axis.get_transform().base == 2
    assert [label.get_text() for label in axis.get_ticklabels()] == ["1", "2", "4", "16"]
    assert list(axis.get_minorticklocs()) == []


def test_names_are_not_formulas(summary_of) -> None:
    rows = [a_source(0, "5$ and 6$ of it"), *(a_run(0, "tip-adapter", 1, s, 0.5) for s in SEEDS)]
    accuracy, *_ = (figure for _, figure in figures(summary_of(rows)))
    title = accuracy.axes[0].title
    assert title._preprocess_math(title.get_text()) == ("5$ and 6$ of it", False)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [((1,), "1"), ((1, 2), "1 and 2"), ((1, 2, 3), "1 to 3"), ((1, 2, 4), "1, 2 and 4")],
)
def test_numbers_in_words(numbers: tuple[int, ...], expected: str) -> None:
    assert listed(numbers) == expected


# -- files -----------------------------------------------------------------------------------------


CODE = """
import sys
from pathlib import Path
from handful.benchmark.figures.plot import drawings, ready, write
from handful.benchmark.results import read_results
from handful.benchmark.summary import summarise
summary = summarise([read_results(Path(sys.argv[1]))])
with ready():
    for one in drawings(summary):
        for end in ("svg", "png"):
            write(one.figure(), Path(sys.argv[2]) / f"{one.name}.{end}", overwrite=False)
assert "matplotlib.pyplot" not in sys.modules
"""


def test_equal_results_give_equal_files(tmp_path: Path) -> None:
    """In another process, with other hashes, lines in another order, and a user's own style."""
    rows = invented(1, 4, shots=(1, 2))
    written = {}
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        lines = [json.dumps(row) + "\n" for row in (rows if seed == "1" else rows[::-1])]
        (folder / "results.jsonl").write_text("".join(lines))
        environment = {"PYTHONHASHSEED": seed, "MPLCONFIGDIR": str(folder)}
        if seed == "2":
            settings = "axes.titleweight: bold\nfont.size: 20\nsvg.hashsalt: x\n"
            (folder / "matplotlibrc").write_text(settings)
            environment["MPLBACKEND"] = "pdf"
        subprocess.run(
            [sys.executable, "-c", CODE, folder / "results.jsonl", folder / "figures"],
            env={**os.environ, **environment},
            check=True,
            timeout=120,
        )
        written[seed] = {one.name: one.read_bytes() for one in (folder / "figures").iterdir()}
    assert len(written["1"]) == 6
    assert written["1"] == written["2"]
    for name, content in written["1"].items():
        if name.endswith(".svg"):
            assert b"date" not in content and b"Matplotlib" not in content


def test_a_file_is_as_large_as_it_is_on_paper(summary_of, tmp_path: Path) -> None:
    with ready():
        one = drawings(summary_of(invented(2, 3)))[0]
        figure = one.figure()
        write(figure, tmp_path / "a.png", overwrite=False)
        with pytest.raises(InputError, match="exists already"):
            write(figure, tmp_path / "a.png", overwrite=False)
        write(figure, tmp_path / "a.png", overwrite=True)
        write(figure, tmp_path / "a.svg", overwrite=False)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == tuple(int(200 * side) for side in figure.get_size_inches())
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        assert "Software" not in image.info
    assert (tmp_path / "a.svg").read_text("utf-8").startswith("<?xml")


def test_settings_of_matplotlib_come_back(summary_of) -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 17, "axes.titleweight": "bold"}):
        before = dict(matplotlib.rcParams)
        list(figures(summary_of(invented(1, 2))))
        assert dict(matplotlib.rcParams) == before


def test_names_of_files_stay_in_their_folder(summary_of) -> None:
    rows = [a_source(0), *(a_run(0, "tip-adapter", 1, s, 0.5, protocol="../../x") for s in SEEDS)]
    assert [one.name for one in drawings(summary_of(rows))] == [
        "accuracy-______x-val",
        "cost-______x-val",
    ]


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError) as error, ready():
        pass
    assert str(error.value).startswith("figures need the package matplotlib (")
    assert str(error.value).endswith('): run pip install "handful[plot]".')


def test_every_kind_is_there() -> None:
    assert list(KINDS) == ["accuracy", "cost", "gain"]
