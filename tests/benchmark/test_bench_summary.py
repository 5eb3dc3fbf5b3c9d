"""Tables from lines that are made up, so that every number can be computed by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_rows import grid, results, run
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.benchmark.anchors import read_anchors
from handful.benchmark.column import ranks
from handful.benchmark.render.records import records
from handful.benchmark.summary import Line, Summary, Table, summarise
from handful.errors import InputError

ELEVEN = (
    *("imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"),
    *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
)
ANCHORS = Path(__file__).resolve().parents[2] / "benchmarks" / "anchors"


def one_table(rows: list[dict[str, Any]], **asked: Any) -> Table:
    (table,) = summarise([results(rows)], **asked).tables
    return table


def line(table: Table, label: str) -> Line:
    return next(line for line in table.lines if line.label == label)


# -- numbers of a cell -----------------------------------------------------------------------------


def test_mean_deviation_and_interval() -> None:
    """0.80, 0.82, 0.87: squared distances from 0.83 are 9, 1 and 16 · 10⁻⁴."""
    figure = line(one_table(grid({"zero-shot": (0.80, 0.82, 0.87)})), "zero-shot").cells[1]
    assert figure.mean == pytest.approx(0.83)
    assert figure.deviation == pytest.approx(np.sqrt(26e-4 / 2))
    # Student's t for two degrees of freedom and 97.5 %, from a printed table: 4.303.
    assert figure.interval == pytest.approx(4.303 * np.sqrt(26e-4 / 2 / 3), rel=1e-3)
    assert figure.seeds == (1, 2, 3)
    assert figure.negative_log_likelihood == pytest.approx(0.17)


def test_one_seed_has_no_spread() -> None:
    figure = line(one_table(grid({"zero-shot": (0.8,)})), "zero-shot").cells[1]
    assert (figure.mean, figure.deviation, figure.interval) == (0.8, None, None)


def test_gain_and_error_reduction() -> None:
    """Of errors 0.20 and 0.40 on two draws, 0.15 and 0.12 are gone: 0.27 of 0.60."""
    rows = grid({"zero-shot": (0.80, 0.60), "tip-adapter": (0.95, 0.72)})
    figure = line(one_table(rows), "tip-adapter").cells[1]
    assert figure.gain == pytest.approx(0.135)
    assert figure.error_reduction == pytest.approx(0.27 / 0.60)
    assert line(one_table(rows), "zero-shot").cells[1].gain is None


def test_no_error_cannot_be_reduced() -> None:
    rows = grid({"zero-shot": (1.0, 1.0), "tip-adapter": (0.9, 1.0)})
    figure = line(one_table(rows), "tip-adapter").cells[1]
    assert figure.gain == pytest.approx(-0.05)
    assert figure.error_reduction is None


def test_average_over_shots_and_sources() -> None:
    """Seed by seed: the deviation is of the averages, not the average of the deviations."""
    rows = [
        run("zero-shot", accuracy, source=source, shots=k, seed=seed)
        for source, k, seed, accuracy in (
            ("a", 1, 1, 0.1), ("a", 1, 2, 0.3), ("a", 2, 1, 0.4), ("a", 2, 2, 0.2),
            ("b", 1, 1, 0.5), ("b", 1, 2, 0.5), ("b", 2, 1, 0.8), ("b", 2, 2, 0.6),
        )
    ]  # fmt: skip
    of_a, of_b, of_both = summarise([results(rows)]).tables
    assert line(of_a, "zero-shot").average.accuracies == pytest.approx((0.25, 0.25))
    assert line(of_b, "zero-shot").average.accuracies == pytest.approx((0.65, 0.55))
    assert of_both.names == ("a", "b")
    assert line(of_both, "zero-shot").cells[2].accuracies == pytest.approx((0.6, 0.4))
    average = line(of_both, "zero-shot").average
    assert average.accuracies == pytest.approx((0.45, 0.40))
    assert average.deviation == pytest.approx(0.05 / np.sqrt(2))


# -- ranks and what is best ------------------------------------------------------------------------


def test_ties_share_ranks() -> None:
    assert ranks({"a": 0.9, "b": 0.7, "c": 0.9, "d": 0.1}) == {"a": 1.5, "b": 3, "c": 1.5, "d": 4}
    # Sums of the same numbers in another order differ in the last bit.
    assert set(ranks({"a": 0.1 + 0.2 + 0.3, "b": 0.3 + 0.2 + 0.1}).values()) == {1.5}


@given(st.lists(st.integers(0, 5), min_size=1))
def test_ranks_are_scipys(values: list[int]) -> None:
    from scipy.stats import rankdata

    found = ranks({str(i): value / 7 for i, value in enumerate(values)})
    assert [*found.values()] == pytest.approx(rankdata([-value for value in values]))


def test_rank_of_an_average_is_the_mean_over_cells() -> None:
    rows = [
        *grid({"zero-shot": (0.5,), "linear-probe": (0.4,), "tip-adapter": (0.9,)}, shots=[1]),
        *grid({"zero-shot": (0.5,), "linear-probe": (0.9,), "tip-adapter": (0.5,)}, shots=[2]),
        *grid({"zero-shot": (0.5,), "linear-probe": (0.9,), "tip-adapter": (0.8,)}, shots=[4]),
    ]
    table = one_table(rows)
    found = {one.label: one.average.rank for one in table.lines}
    assert found == pytest.approx(
        {"zero-shot": 7.5 / 3, "linear-probe": 5 / 3, "tip-adapter": 5.5 / 3}
    )
    # The two averages are equal: both are best, and rank says more than bold.
    assert [one.average.best for one in table.lines] == [False, True, True]
    assert [one.cells[1].best for one in table.lines] == [False, False, True]


# -- what may be compared --------------------------------------------------------------------------


def test_a_cell_with_fewer_seeds_is_compared_with_nothing() -> None:
    rows = grid({"zero-shot": (0.5,) * 3, "tip-adapter": (0.7,) * 3}, shots=[1, 2])
    rows += grid({"clip-adapter": (0.99,)}, shots=[1]) + grid(
        {"clip-adapter": (0.6,) * 3}, shots=[2]
    )
    table = one_table(rows)
    young = line(table, "clip-adapter")
    assert table.seeds == (1, 2, 3)
    assert not young.cells[1].complete
    assert young.cells[1].accuracies == (0.99,)
    assert (young.cells[1].rank, young.cells[1].gain, young.cells[1].best) == (None, None, False)
    assert line(table, "tip-adapter").cells[1].best
    assert young.cells[2].complete
    assert young.cells[2].rank == 2
    assert young.average is None
    assert line(table, "tip-adapter").average.rank == 1


def test_other_seeds_than_those_of_the_others_are_not_counted() -> None:
    rows = grid({"zero-shot": (0.5,) * 2, "tip-adapter": (0.7, 0.7, 0.1)}, shots=[1, 2])
    rows += grid({"linear-probe": (0.6,) * 2}, shots=[1, 2])
    table = one_table(rows)
    assert table.seeds == (1, 2)
    assert line(table, "tip-adapter").cells[1].mean == pytest.approx(0.7)
    assert table.uncounted == ("tip-adapter",)


def test_a_column_that_few_have_is_in_no_average() -> None:
    rows = grid({"zero-shot": (0.5,) * 2, "linear-probe": (0.6,) * 2}, shots=[1, 2])
    rows += grid({"tip-adapter": (0.7,) * 2}, shots=[1, 2, 4])
    table = one_table(rows)
    assert table.shots == (1, 2, 4)
    assert table.averaged == (1, 2)
    assert len(line(table, "tip-adapter").average.rows) == 4


def test_an_average_over_sources_has_only_cells_of_all_sources() -> None:
    rows = grid({"zero-shot": (0.5,) * 2, "tip-adapter": (0.7,) * 2}, shots=[1, 2], source="a")
    rows += grid({"zero-shot": (0.6,) * 2}, shots=[1, 2], source="b")
    rows += grid({"tip-adapter": (0.9,) * 2}, shots=[1], source="b")
    rows += grid({"tip-adapter": (0.9,)}, shots=[2], source="b")
    *_, table = summarise([results(rows)]).tables
    assert line(table, "tip-adapter").cells.keys() == {1}
    assert line(table, "tip-adapter").cells[1].mean == pytest.approx(0.8)
    assert [(m.label, m.shots, m.sources) for m in table.missing] == [("tip-adapter", 2, ("b",))]


def test_sources_without_a_common_cell_have_an_empty_average() -> None:
    rows = [run(source="a", shots=1), run(source="b", shots=2)]
    *_, table = summarise([results(rows)]).tables
    assert table.lines == ()
    assert len(table.missing) == 2


def test_given_settings_make_another_row() -> None:
    rows = [
        run("tip-adapter", 0.5),
        run("tip-adapter", 0.6, given={"blend": 1.0}),
        run("tip-adapter", 0.7, given={"blend": 2.5, "sharpness": 3}),
    ]
    labels = ["tip-adapter", "tip-adapter (blend=1)", "tip-adapter (blend=2.5, sharpness=3)"]
    assert [one.label for one in one_table(rows).lines] == labels


def test_methods_stand_in_the_order_of_their_list() -> None:
    rows = [run(m) for m in ("zebra", "tip-adapter-f", "ape", "linear-probe", "zero-shot")]
    order = ["zero-shot", "linear-probe", "tip-adapter-f", "ape", "zebra"]
    assert [one.label for one in one_table(rows).lines] == order


def test_cv_that_became_fixed_is_marked() -> None:
    rows = [
        run("zero-shot", select="cv", policy="fixed"),  # has nothing to select
        run("tip-adapter", select="cv", policy="fixed"),
        run("tip-adapter", select="cv", policy="fixed", given={"blend": 1, "sharpness": 2}),
        run("linear-probe", select="cv", policy="cv"),
    ]
    marked = {one.label: one.cells[1].settings_fixed for one in one_table(rows).lines}
    assert [label for label, mark in marked.items() if mark] == ["tip-adapter"]
    as_asked = one_table([run("tip-adapter", select="fixed")])
    assert not as_asked.lines[0].cells[1].settings_fixed


def test_two_sources_of_one_name_are_told_apart() -> None:
    rows = [run(source="a"), run(source="b")]
    tables = summarise([results(rows, {"a": "photos", "b": "photos"})]).tables
    assert [t.names for t in tables[:2]] == [("photos (aaaaaaaa)",), ("photos (bbbbbbbb)",)]


def test_of_equal_runs_in_two_files_the_first_counts() -> None:
    first, second = results([run(accuracy=0.5)]), results([run(accuracy=0.9), run(seed=2)])
    (table,) = summarise([first, second]).tables
    assert table.lines[0].cells[1].accuracies == (0.5, 0.5)


# -- protocols and policies ------------------------------------------------------------------------

some_rows = st.lists(
    st.builds(
        lambda method, tenths, given, **where: run(
            method, tenths / 10, given={"blend": given} if given else None, **where
        ),
        st.sampled_from(["zero-shot", "tip-adapter", "linear-probe"]),
        st.integers(0, 10),
        st.sampled_from([None, 2]),
        source=st.sampled_from("ab"),
        protocol=st.sampled_from(["coop", "whu"]),
        select=st.sampled_from(["val", "cv", "fixed"]),
        shots=st.sampled_from([1, 2]),
        seed=st.integers(1, 3),
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=200)
@given(some_rows)
def test_protocols_policies_and_draws_never_mix(rows: list[dict[str, Any]]) -> None:
    kept = results(rows)
    summary = summarise([kept])
    shown = set()
    for table in summary.tables:
        for figure in table.figures:
            for row in figure.rows:
                assert (row["protocol"], row["select"]) == (table.protocol, table.select)
                assert row["source"] in table.sources
            at = [(row["source"], row["shots"], row["seed"]) for row in figure.rows]
            assert len(set(at)) == len(at)
            assert figure.mean == pytest.approx(np.mean([row["accuracy"] for row in figure.rows]))
            if figure.complete:
                assert {seed for _, _, seed in at} == set(table.seeds)
                # The same draws on every source.
                draws = [{(k, s) for d, k, s in at if d == one} for one in table.sources]
                assert all(one == draws[0] for one in draws)
            else:
                assert len(table.sources) == 1
                nothing = (None, None, None, None, False)
                told = (figure.rank, figure.gain, figure.to_best, figure.to_baseline, figure.best)
                assert told == nothing
        for k in table.shots:
            draws = {
                frozenset((row["source"], row["seed"]) for row in one.cells[k].rows)
                for one in table.lines
                if k in one.cells and one.cells[k].complete
            }
            assert len(draws) <= 1
        if len(table.sources) == 1:
            shown |= {row["key"] for row in table.rows}
            heading = (table.protocol, table.select, table.sources)
            assert [(t.protocol, t.select, t.sources) for t in summary.tables].count(heading) == 1
    uncounted = {label for table in summary.tables for label in table.uncounted}
    assert shown == kept.runs.keys() or uncounted


@settings(deadline=None, max_examples=50)
@given(some_rows, st.randoms(use_true_random=False))
def test_the_order_of_lines_does_not_matter(rows: list[Any], chance: random.Random) -> None:
    """Several processes write a file."""
    rows = list({row["key"]: row for row in rows}.values())
    again = rows[:]
    chance.shuffle(again)

    def told(summary: Summary) -> str:
        return json.dumps([list(records(table)) for table in summary.tables])

    assert told(summarise([results(rows)])) == told(summarise([results(again)]))


# -- baseline and tests ----------------------------------------------------------------------------


def test_baseline_in_place_of_zero_shot() -> None:
    rows = grid({"zero-shot": (0.5,), "linear-probe": (0.6,), "tip-adapter": (0.8,)})
    table = one_table(rows, baseline="linear-probe")
    assert line(table, "tip-adapter").cells[1].gain == pytest.approx(0.2)
    assert line(table, "tip-adapter").cells[1].error_reduction == pytest.approx(0.5)
    assert line(table, "zero-shot").cells[1].gain == pytest.approx(-0.1)
    with pytest.raises(InputError, match=r"called 'linear-prob'\. Did you mean 'linear-probe'\?"):
        one_table(rows, baseline="linear-prob")


def test_a_baseline_that_a_table_lacks_gives_no_gains() -> None:
    rows = [run("tip-adapter", select="val"), run("linear-probe", select="cv")]
    for table in summarise([results(rows)], baseline="linear-probe").tables:
        assert all(figure.gain is None for figure in table.figures)


def test_the_average_is_tested_on_all_its_draws() -> None:
    """Nine draws, all higher by different amounts: p = 2 / 2⁹, times two comparisons."""
    up = [0.5 + i / 100 for i in range(9)]
    rows = [
        row
        for k, i in ((1, 0), (2, 3), (4, 6))
        for row in grid(
            {"zero-shot": (0.5,) * 3, "linear-probe": (0.4,) * 3, "tip-adapter": up[i : i + 3]},
            shots=[k],
        )
    ]
    rows[6] = {**rows[6], "accuracy": 0.51}  # a difference of zero would be left out
    table = one_table(rows)
    test = line(table, "linear-probe").average.to_best
    assert (test.against, test.pairs, test.comparisons) == ("tip-adapter", 9, 2)
    assert (test.p, test.corrected) == pytest.approx((2 / 2**9, 4 / 2**9))
    assert test.different
    assert line(table, "tip-adapter").average.to_best is None
    assert line(table, "tip-adapter").average.to_baseline.against == "zero-shot"
    in_column = line(table, "linear-probe").cells[1].to_best
    assert (in_column.pairs, in_column.p, in_column.different) == (3, None, None)


# -- what is refused -------------------------------------------------------------------------------


def test_results_without_runs() -> None:
    with pytest.raises(InputError, match="there is no run in these results"):
        summarise([results([])])


def test_a_line_that_lacks_something() -> None:
    row = run()
    del row["shots"]
    with pytest.raises(InputError, match="lacks 'shots'"):
        summarise([results([row])])


# -- anchors ---------------------------------------------------------------------------------------


def test_anchors_of_whu_are_those_of_the_measurements() -> None:
    """Means of 15 cells as they stand beside the measurements, which were averaged on their own."""
    found = read_anchors(ANCHORS / "whu-rs19.toml")
    means = {
        "zero-shot": 78.9, "nearest-class-mean": 90.0, "linear-probe": 91.5, "tip-adapter": 91.6,
        "tip-adapter-f": 91.9, "tip-x": 92.9, "ape": 92.8, "ape-t": 93.5, "cluster-adapter": 92.9,
        "clip-adapter": 95.1, "task-res": 94.5, "lp++": 94.1, "zs-lp": 94.7, "clap": 93.5,
        "gda": 92.5,
    }  # fmt: skip
    for method, mean in means.items():
        cells = [
            v for a in found if a.method == method and not a.given for v in a.accuracy.values()
        ]
        assert len(cells) == 15
        assert 100 * np.mean(cells) == pytest.approx(mean, abs=0.051), method
    fixed = [v for a in found if a.given for v in a.accuracy.values()]
    assert 100 * np.mean(fixed) == pytest.approx(86.9, abs=0.051)


def test_anchors_of_the_cars() -> None:
    found = {one.method: one for one in read_anchors(ANCHORS / "stanford-cars.toml")}
    measured = {1: 0.635, 2: 0.656, 4: 0.703, 8: 0.736, 16: 0.777}
    assert found["task-res"].accuracy == pytest.approx(measured)
    assert {one.source for one in found.values()} == {"cars-vit-b-32"}


def test_anchors_of_rn50_have_the_printed_averages() -> None:
    """Averages over the eleven sets are printed beside the log, and were typed from there."""
    found = read_anchors(ANCHORS / "rn50.toml")
    assert {one.source for one in found} == {f"{name}, RN50" for name in ELEVEN}
    printed = {
        "zero-shot": [58.9] * 5,
        "clip-adapter": [62.67, 65.55, 68.61, 71.40, 74.44],
        "tip-adapter": [62.33, 64.62, 66.54, 68.50, 70.32],
        "tip-adapter-f": [64.60, 66.65, 69.67, 72.45, 75.83],
    }
    for method, averages in printed.items():
        of_method = [one for one in found if one.method == method]
        for shots, average in zip((1, 2, 4, 8, 16), averages, strict=True):
            ours = 100 * np.mean([one.accuracy[shots] for one in of_method])
            assert ours == pytest.approx(average, abs=0.051 if method == "zero-shot" else 0.0051)


FILE = """
about = "Measured."
protocol = "coop"
shots = [1, 2]
[[anchor]]
method = "tip-adapter"
code = "searched"
select = "val"
accuracy = { a = [70.0, 80.0], b = [50, 60] }
[[anchor]]
method = "tip-adapter"
code = "fixed"
given = { blend = 1, sharpness = 5.5 }
accuracy = { a = [60.0, 65.0] }
"""


@pytest.fixture
def anchors_file(tmp_path: Path) -> Path:
    path = tmp_path / "anchors.toml"
    path.write_text(FILE)
    return path


def published(rows: list[dict[str, Any]], path: Path) -> list[float | None]:
    table = summarise([results(rows)], anchors=read_anchors(path)).tables[-1]
    found = [one.cells[k].published for one in table.lines for k in one.cells]
    found += [one.average.published for one in table.lines if one.average]
    return [None if one is None else round(one.accuracy, 9) for one in found]


def test_anchors_stand_beside_the_same_work_only(anchors_file: Path) -> None:
    given = {"blend": 1.0, "sharpness": 5.5}
    at = anchors_file
    assert published([run("tip-adapter", shots=2)], at) == [0.8, 0.8]
    assert published([run("tip-adapter", shots=4)], at) == [None, None]
    assert published([run("tip-adapter", protocol="whu")], at) == [None, None]
    assert published([run("tip-adapter", source="c")], at) == [None, None]
    assert published([run("linear-probe")], at) == [None, None]
    # Not searched, or searched otherwise:
    assert published([run("tip-adapter", select="cv")], at) == [None, None]
    assert published([run("tip-adapter", given={"blend": 1})], at) == [None, None]
    # The fixed settings stand beside every policy, and beside documented defaults that equal them.
    assert published([run("tip-adapter", given=given, select="cv")], at) == [0.6, 0.6]
    assert published([run("tip-adapter", given=given, select="val")], at) == [0.6, 0.6]
    assert published([run("tip-adapter", select="fixed")], at) == [0.6, 0.6]
    others = {"blend": 2.0, "sharpness": 5.5}
    assert published([run("tip-adapter", select="fixed", settings=others)], at) == [None, None]


def test_anchors_are_averaged_where_all_are_there(anchors_file: Path) -> None:
    rows = grid({"tip-adapter": (0.5, 0.5)}, shots=[1, 2])
    assert published(rows, anchors_file) == [0.7, 0.8, 0.75]
    rows += grid({"tip-adapter": (0.5, 0.5)}, shots=[1, 2], source="b")
    assert published(rows, anchors_file) == [0.6, 0.7, 0.65]
    assert published(rows + grid({"tip-adapter": (0.5,) * 2}, source="c"), anchors_file) == [
        None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("shots = [1, 2]", "shots = [1, 2", "cannot be read"),
        ("shots = [1, 2]", "", "lacks 'shots': expected a list"),
        ("shots = [1, 2]", "shots = [0, 2]", "expected numbers from 1"),
        ('protocol = "coop"', "protocol = 3", "protocol is 3: expected a text"),
        ('about = "Measured."', "", "lacks 'about'"),
        ('select = "val"', 'selct = "val"', "Did you mean 'select'?"),
        ('select = "val"', 'select = "vol"', "select is 'vol': expected one of val, cv, fixed"),
        ("[70.0, 80.0]", "[70.0]", "anchor 1: the accuracy on a is [70.0]: expected 2 numbers"),
        ("[70.0, 80.0]", "[70.0, 180.0]", "expected 2 numbers in %"),
        ("[70.0, 80.0]", "[70.0, nan]", "expected 2 numbers in %"),
        ("[70.0, 80.0]", "[70.0, true]", "expected 2 numbers in %"),
        ("[70.0, 80.0]", "70", "expected 2 numbers in %"),
        ('code = "fixed"', "", "anchor 2 lacks 'code'"),
        ("given = {", "givne = {", "Did you mean 'given'?"),
    ],
)
def test_a_damaged_anchors_file(anchors_file: Path, old: str, new: str, words: str) -> None:
    assert old in FILE
    anchors_file.write_text(FILE.replace(old, new))
    with pytest.raises(InputError) as error:
        read_anchors(anchors_file)
    assert words in str(error.value)
    assert str(anchors_file) in str(error.value)


def test_anchors_that_are_no_list_of_tables(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('about = ""\nprotocol = ""\nshots = [1]\nanchor = [1]\n')
    with pytest.raises(InputError, match=r"write \[\[anchor\]\]"):
        read_anchors(tmp_path / "a.toml")
    with pytest.raises(InputError, match="cannot be read"):
        read_anchors(tmp_path / "nothing.toml")
