"""Columns of what was tested elsewhere: base, new and harmonic mean; the source and its shifts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from bench_rows import results, run

from handful.benchmark.column import Figure
from handful.benchmark.elsewhere_columns import elsewhere_columns
from handful.benchmark.render import FORMATS
from handful.benchmark.render.records import records
from handful.benchmark.summary import Summary, summarise


def with_tests(
    method: str, own: float, others: Mapping[str, float], by: str | None = None, **more: Any
) -> dict[str, Any]:
    """A line with tests elsewhere."""
    tests = [
        {"name": name, "source": "f" * 64, "by": by or method, "accuracy": a, "test_images": 8,
         "right": "AA=="}
        for name, a in others.items()
    ]  # fmt: skip
    return run(method, own, tests=tests, shots=16, **more)


@pytest.fixture
def base_to_new() -> Summary:
    lines = []
    for source, shift in (("a", 0.0), ("b", -0.2)):
        for seed, d in ((1, -0.1), (2, 0.1)):
            more: dict[str, Any] = {"source": source, "seed": seed, "protocol": "base-to-new"}
            lines += [
                with_tests("zero-shot", 0.7 + shift, {"new": 0.6 + shift}, **more),
                with_tests("clip-adapter", 0.8 + shift + d, {"new": 0.5 + shift - d}, **more),
                with_tests("tip-adapter", 0.9 + shift, {"new": 0.6 + shift}, "zero-shot", **more),
            ]
    return summarise([results(lines)])


def means(found: Mapping[str, Mapping[str, Figure]], label: str) -> dict[str, float]:
    return {name: pytest.approx(of[label].mean) for name, of in found.items()}


def test_base_new_and_their_harmonic_mean(base_to_new: Summary) -> None:
    first, _, average = base_to_new.tables
    figures = {line.label: line.cells[16] for line in first.lines}
    found = elsewhere_columns(figures, "base-to-new")
    assert list(found) == ["base", "new", "harmonic mean"]
    # Of the two means, not the mean of harmonic means of seeds: 2·.8·.5 / 1.3.
    assert means(found, "clip-adapter") == {"base": 0.8, "new": 0.5, "harmonic mean": 0.8 / 1.3}
    assert found["new"]["clip-adapter"].accuracies == pytest.approx((0.6, 0.4))
    assert [found["base"][m].best for m in figures] == [False, False, True]
    assert [found["new"][m].best for m in figures] == [True, False, True]
    figures = {line.label: line.cells[16] for line in average.lines}
    found = elsewhere_columns(figures, "base-to-new")
    assert means(found, "clip-adapter") == {"base": 0.7, "new": 0.4, "harmonic mean": 0.56 / 1.1}


def test_shifts_and_their_mean() -> None:
    lines = [
        with_tests("zero-shot", 0.5, {"V2": 0.4, "Sketch": 0.1}, protocol="shift", seed=1),
        with_tests("zero-shot", 0.5, {"V2": 0.4, "Sketch": 0.3}, protocol="shift", seed=2),
        with_tests("gda", 0.6, {"V2": 0.5, "Sketch": 0.1}, protocol="shift", seed=1),
    ]
    (table,) = summarise([results(lines)]).tables
    found = elsewhere_columns({line.label: line.cells[16] for line in table.lines}, "shift")
    assert list(found) == ["itself", "V2", "Sketch", "mean of others"]
    assert found["Sketch"]["zero-shot"].accuracies == (0.1, 0.3)
    assert found["mean of others"]["zero-shot"].accuracies == pytest.approx((0.25, 0.35))
    assert means(found, "gda") == {"itself": 0.6, "V2": 0.5, "Sketch": 0.1, "mean of others": 0.3}
    assert not any(of["gda"].best for of in found.values())  # it has one seed of two
    one = [with_tests("zero-shot", 0.5, {"V2": 0.4}, protocol="shift")]
    (table,) = summarise([results(one)]).tables
    figures = {line.label: line.cells[16] for line in table.lines}
    assert list(elsewhere_columns(figures, "shift")) == ["itself", "V2"]


def test_only_what_all_were_tested_on_is_a_column() -> None:
    lines = [
        with_tests("zero-shot", 0.5, {"V2": 0.4, "A": 0.1}, protocol="shift"),
        with_tests("gda", 0.6, {"V2": 0.5}, protocol="shift"),
    ]
    (table,) = summarise([results(lines)]).tables
    figures = {line.label: line.cells[16] for line in table.lines}
    assert list(elsewhere_columns(figures, "shift")) == ["itself", "V2"]
    (table,) = summarise([results([run("zero-shot"), run("gda")])]).tables
    figures = {line.label: line.cells[1] for line in table.lines}
    assert elsewhere_columns(figures, "coop") == {}


def test_every_format_shows_them(base_to_new: Summary) -> None:
    text = FORMATS["terminal"](base_to_new, "sd")
    assert text.count("Tested elsewhere, 16 shots") == 3
    block = text.split("Tested elsewhere, 16 shots")[1].split("\n\n")[1].splitlines()
    assert {line.split()[0]: line.split()[1:] for line in block[2:]} == {
        "zero-shot": ["70.0", "±0.0", "60.0", "±0.0*", "64.6"],
        "clip-adapter": ["80.0", "±14.1", "50.0", "±14.1", "61.5"],
        "tip-adapter": ["90.0", "±0.0*", "60.0", "±0.0§*", "72.0*"],
    }
    assert "§: the method has nothing for classes that it did not see" in " ".join(text.split())
    assert "the first half of the classes (base)" in " ".join(text.split())
    for form in ("markdown", "latex", "html"):
        found = FORMATS[form](base_to_new, "sd")
        assert "harmonic mean" in found
        assert "72.0" in found
    csv = FORMATS["csv"](base_to_new, "sd").splitlines()
    (line,) = [one for one in csv if one.startswith("a,") and ",clip-adapter,16," in one]
    assert "base=0.8;new=0.5;harmonic mean=0.61538462" in line
    told = json.loads(json.dumps(list(records(base_to_new.tables[0]))))
    assert told[0]["elsewhere"] == pytest.approx(
        {"base": 0.7, "new": 0.6, "harmonic mean": 0.84 / 1.3}
    )
    plain = summarise([results([run("zero-shot"), run("gda", 0.6)])])
    assert "elsewhere" not in FORMATS["terminal"](plain, "sd")
    assert all(record["elsewhere"] == {} for record in records(plain.tables[0]))
