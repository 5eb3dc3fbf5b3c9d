"""Accuracy over the values of a setting: the right points, in the right places, nothing hidden."""

from __future__ import annotations

import statistics
from itertools import product
from typing import Any

import pytest
from bench_rows import results, run

from handful.benchmark.figures.ablation import curves
from handful.benchmark.figures.plot import Drawing, drawings, ready, undrawn
from handful.benchmark.summary import Summary, summarise
from handful.errors import InputError

pytest.importorskip("matplotlib", reason="needs the extra plot")

SEEDS = (1, 2, 3)
BLENDS = (0, 0.2, 0.4, 1.0)


def accuracy(blend: float, shots: int, seed: int, source: str) -> float:
    return round(0.5 + 0.1 * blend + 0.02 * shots + 0.01 * seed**2 + 0.1 * (source == "b"), 3)


def ablation(**others: Any) -> list[dict[str, Any]]:
    rows = [
        run("clip-adapter", accuracy(blend, k, seed, source), source=source, shots=k, seed=seed,
            given={"blend": blend, **others})
        for blend, k, seed, source in product(BLENDS, (1, 4), SEEDS, "ab")
    ]  # fmt: skip
    return rows + [
        run("zero-shot", 0.5, source=source, shots=k, seed=seed)
        for k, seed, source in product((1, 4), SEEDS, "ab")
    ]


def summary_of(rows: list[dict[str, Any]]) -> Summary:
    return summarise([results(rows)])


def figures(summary: Summary, over: str) -> list[tuple[Drawing, Any]]:
    with ready():
        return [(one, one.figure()) for one in drawings(summary, over)]


def lines(axes: Any) -> dict[str, Any]:
    named = {line.get_label(): line for line in axes.lines}
    return {label: line for label, line in named.items() if not label.startswith("_")}


def test_the_numbers_are_those_of_the_runs() -> None:
    """A curve for each number of shots; a panel for each source, and their average."""
    ((one, figure),) = figures(summary_of(ablation()), "blend")
    assert one.name == "over-blend-coop-val"
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "average of 2 sources"]
    for axes, sources in zip(figure.axes, ("a", "b", "ab"), strict=True):
        found = lines(axes)
        assert set(found) == {"clip-adapter, 1 shot", "clip-adapter, 4 shots", "zero-shot"}
        assert list(found["zero-shot"].get_ydata()) == [50, 50]
        for k, label in ((1, "clip-adapter, 1 shot"), (4, "clip-adapter, 4 shots")):
            assert list(found[label].get_xdata()) == list(BLENDS)
            wanted = [
                100 * statistics.fmean(accuracy(b, k, *p) for p in product(SEEDS, sources))
                for b in BLENDS
            ]
            assert found[label].get_ydata() == pytest.approx(wanted)
        bands = [c for c in axes.collections if len(c.get_paths())]
        low, high = bands[0].get_paths()[0].vertices[:, 1].min(), found
        spread = statistics.stdev(
            statistics.fmean(100 * accuracy(0, 1, seed, s) for s in sources) for seed in SEEDS
        )
        assert low == pytest.approx(high["clip-adapter, 1 shot"].get_ydata()[0] - spread)
    assert "Mean ± 1 standard deviation." in figure.get_suptitle()
    assert "seeds 1 to 3" in figure.get_suptitle()
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 3


def test_other_settings_make_another_curve() -> None:
    rows = ablation() + ablation(epochs=9)
    (table, *_) = summary_of(rows).tables
    assert list(curves(table, "blend")) == [
        *(f"clip-adapter, {k}" for k in ("1 shot", "4 shots")),
        *(f"clip-adapter (epochs=9), {k}" for k in ("1 shot", "4 shots")),
    ]
    assert list(curves(table, "epochs")) == [
        f"clip-adapter (blend={b:g}), {k}" for b in BLENDS for k in ("1 shot", "4 shots")
    ]


@pytest.mark.parametrize(
    ("values", "scale", "ticks"),
    [
        ((32, 1, 4), "log", ["1", "4", "32"]),
        ((0.5, 0.2), "linear", ["0.2", "0.5"]),
        ((0, 16, 1), "linear", ["0", "1", "16"]),
        (("visual", "both"), "linear", ["both", "visual"]),
        ((True, False), "linear", ["false", "true"]),
    ],
)
def test_the_axis_has_the_values(values: tuple[Any, ...], scale: str, ticks: list[str]) -> None:
    rows = [
        run("clip-adapter", 0.5, shots=k, seed=seed, given={"reduction": value})
        for value, k, seed in product(values, (1, 2), SEEDS)
    ]
    ((_, figure),) = figures(summary_of(rows), "reduction")
    (axes,) = figure.axes
    assert axes.get_xscale() == scale
    assert [label.get_text() for label in axes.get_xticklabels()] == ticks
    assert axes.get_xlabel() == "reduction"


def test_words_stand_side_by_side() -> None:
    """No line leads from one word to the next; curves of several shots do not cover each other."""
    height = {"text": 0.6, "visual": 0.8}
    rows = [
        run("clip-adapter", height[word] + 0.01 * seed, shots=k, seed=seed, given={"branch": word})
        for word, k, seed in product(height, (1, 2), SEEDS)
    ]
    ((_, figure),) = figures(summary_of(rows), "branch")
    (axes,) = figure.axes
    points = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    assert {tuple(line.get_ydata()) for line in points} == {(62.0,), (82.0,)}
    assert len({line.get_xdata()[0] for line in points}) == len(points) == 4
    for line in points:
        assert round(line.get_xdata()[0]) == (0 if line.get_ydata()[0] < 70 else 1)
    bars = [line for line in axes.lines if line not in points]
    assert sorted(round(y) for line in bars for y in line.get_ydata()) == [61, 61, 63, 63, 81, 81,
                                                                          83, 83]  # fmt: skip


def test_zero_shot_that_varies_is_no_line() -> None:
    rows = ablation() + [run("zero-shot", 0.6, shots=8, seed=s, source="a") for s in SEEDS]
    ((_, figure),) = figures(summary_of(rows), "blend")
    assert ["zero-shot" in lines(axes) for axes in figure.axes] == [False, True, True]


@pytest.mark.parametrize("values", [(1, 4), ("visual", "text")])
def test_settings_that_could_not_be_chosen_are_marked(values: tuple[Any, ...]) -> None:
    """The others, that is: under ``cv`` nothing could be held out."""
    for policy in ("fixed", "cv"):
        rows = [
            run("clip-adapter", 0.5, select="cv", policy=policy, seed=seed, given={"one": value})
            for seed, value in product(SEEDS, values)
        ]
        ((_, figure),) = figures(summary_of(rows), "one")
        axes = figure.axes[0]
        white = [x for line in axes.lines if line.get_markerfacecolor() == "white"
                 for x in line.get_xdata()]  # fmt: skip
        assert len(white) == (2 if policy == "fixed" else 0)
        assert ("White inside" in figure.get_suptitle()) == (policy == "fixed")


def test_what_is_not_drawn_is_said() -> None:
    rows = [r for r in ablation() if not (r["source"][0] == "a" and r["shots"] == 4
            and r["given"].get("blend") == 0.2 and r["seed"] == 2)]  # fmt: skip
    rows += [
        run("tip-adapter", 0.5, source="b", seed=s, shots=k) for s, k in product(SEEDS, (1, 4))
    ]
    summary = summary_of(rows)
    ((_, figure),) = figures(summary, "blend")
    four = [list(lines(axes)["clip-adapter, 4 shots"].get_xdata()) for axes in figure.axes]
    assert four == [[0, 0.4, 1], list(BLENDS), [0, 0.4, 1]]
    lacking = "Not drawn, as runs are missing: clip-adapter (blend=0.2) at 4 shots, {} (coop, val)."
    assert list(undrawn(summary, "blend")) == [
        lacking.format("a"),
        "Not drawn, as blend was not given: tip-adapter, b (coop, val).",
        *[s for s in undrawn(summary) if "average" in s and "Not drawn" in s],
    ]
    assert not list(undrawn(summary_of(ablation()), "blend"))


def test_a_setting_that_was_never_given() -> None:
    with pytest.raises(InputError) as error:
        drawings(summary_of(ablation()), "blent")
    assert str(error.value) == (
        "no run that may be drawn was given the setting 'blent'. Did you mean 'blend'?"
        " Given were: blend."
    )
    with pytest.raises(InputError, match=r"Given were: none\."):
        drawings(summary_of([run()]), "blend")
