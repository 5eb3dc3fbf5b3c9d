"""What stands above and below tables: what the numbers and marks mean, and what is left out."""

from __future__ import annotations

from handful.benchmark.exam import BASE_TO_NEW
from handful.benchmark.grouping import shots_in_words
from handful.benchmark.render.words import Interval, listed
from handful.benchmark.significance import LEVEL, PairedTest
from handful.benchmark.summary import Summary, Table

__all__ = ["about", "footnotes", "legend"]


def about(table: Table, summary: Summary, interval: Interval) -> str:
    """Return facts on the source, and what its numbers are."""
    facts = ""
    source = summary.sources.get(table.sources[0])
    if source and len(table.sources) == 1:
        tests = sorted({row["test_images"] for row in table.rows})
        span = f"{tests[0]:,}" if len(tests) == 1 else f"{tests[0]:,} to {tests[-1]:,}"
        facts = (
            f"Encoder: {source['encoder'] or 'unknown'}. {len(source['class_names']):,} classes,"
            f" {span} test images. "
        )
    if len(table.seeds) < 2:
        return f"{facts}Accuracy in %, seed {listed(table.seeds)} alone."
    around = {"sd": "standard deviation", "95": "half the 95% interval (Student's t)"}[interval]
    return f"{facts}Accuracy in %, mean ± {around} over the seeds {listed(table.seeds)}."


def footnotes(table: Table, summary: Summary) -> list[str]:
    """Return what must be known of one table, and only what applies to it."""
    if not table.lines:
        return [f"No cell is complete on all {len(table.sources)} sources.", *_missing(table)]
    found = [_averages(table), *_tests(table, summary)]
    figures = [figure for line in table.lines for figure in line.cells.values()]
    if any(not figure.complete for figure in figures):
        found.append(
            f"n: this cell does not have the seeds {listed(table.seeds)}; it is in no average, rank"
            " or test, and is never the best."
        )
    if any(figure.settings_fixed for figure in figures):
        found.append(
            "‡: not chosen by cv but the documented defaults (fixed), because no image could be"
            " held out, or the method trains inside the encoder."
        )
    found += _elsewhere(table)
    if table.uncounted:
        found.append(
            "Runs of other seeds are not counted, so that all methods stand on the same draws:"
            f" {', '.join(table.uncounted)}."
        )
    found += _missing(table)
    versions = sorted({row.get("versions", {}).get("handful", "unknown") for row in table.rows})
    if len(versions) > 1:
        found.append(f"Made by several versions of handful: {', '.join(versions)}.")
    return found


def legend(summary: Summary) -> list[str]:
    """Return what holds for all tables."""
    found = [
        "Bold or *: the best of its column. †: not significantly different from it, where there are"
        f" draws enough for a test (p ≥ {LEVEL}).",
        "gain: points over the baseline on the same draws. fewer errors: the share of the"
        " baseline's errors that is gone. rank: among the methods with an average, mean over the"
        " cells; 1 is best, ties share.",
        "p: Wilcoxon's signed-rank test on paired draws (same source, shots and seed), two-sided,"
        " exact, Holm-corrected. Draws share test images, and some training images: they are not"
        " independent, so p is a guide and no proof.",
    ]
    beside = {
        line.label: figure.published
        for table in summary.tables
        for line in table.lines
        for figure in line.cells.values()
        if figure.published is not None
    }
    if beside:
        told = dict.fromkeys(text for one in beside.values() for text in one.about)
        codes = [f"{label}: {', '.join(one.code)}" for label, one in beside.items()]
        found.append(f"Published code: {' '.join(told)} What was run: {'; '.join(codes)}.")
    return found


def _elsewhere(table: Table) -> list[str]:
    tests = [(row["method"], test) for row in table.rows for test in row.get("tests", ())]
    found = []
    if tests and table.protocol == BASE_TO_NEW:
        found.append(
            "Columns of shots, average and what follows from them: the first half of the classes"
            " (base), among themselves. new: the other half, among themselves. harmonic mean: of"
            " the two means."
        )
    elif tests:
        found.append(
            "Columns of shots, average and what follows from them: images of the source itself."
        )
    if any(test["by"] != method for method, test in tests):
        found.append(
            "§: the method has nothing for classes that it did not see; their zero-shot rows"
            " answered."
        )
    return found


def _averages(table: Table) -> str:
    without = [line.label for line in table.lines if line.average is None]
    text = f"average: over {_shots(table.averaged)}"
    if without:
        text += f"; none where one of these cells is missing or incomplete ({', '.join(without)})"
    if any(line.average and line.average.gain is not None for line in table.lines):
        return f"{text}. gain: over {table.baseline}."
    return f"{text}. gain: none, for want of {table.baseline} or of another method with an average."


def _tests(table: Table, summary: Summary) -> list[str]:
    named = summary.baseline_named
    averages = [line.average for line in table.lines if line.average]
    tests = [t for f in averages if (t := f.to_baseline if named else f.to_best)]
    found = []
    if tests and tests[0].p is None:
        found.append(f"p: none, {_too_few(tests[0])}.")
    elif tests:
        one = tests[0]
        many = "comparison" if one.comparisons == 1 else "comparisons"
        found.append(
            f"p: against {one.against}{'' if named else ', the best'}; {one.pairs} draws,"
            f" {one.comparisons} {many}."
        )
    of_cells = [f.to_best for line in table.lines for f in line.cells.values() if f.to_best]
    if of_cells and all(test.p is None for test in of_cells):
        found.append(f"†: not in columns of shots, {_too_few(of_cells[0])}.")
    return found


def _too_few(test: PairedTest) -> str:
    many = "draw is" if test.pairs == 1 else "draws are"
    return f"where {test.pairs} {many} too few for a test ({test.needed} are needed)"


def _missing(table: Table) -> list[str]:
    shots_of: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for one in table.missing:
        shots_of.setdefault((one.label, one.sources), []).append(one.shots)
    left = [
        f"{label} at {_shots(tuple(shots))} (not complete on {', '.join(sources)})"
        for (label, sources), shots in shots_of.items()
    ]
    return [f"Left out of the average over sources: {'; '.join(left)}."] if left else []


def _shots(numbers: tuple[int, ...]) -> str:
    return shots_in_words(1) if numbers == (1,) else f"{listed(numbers)} shots"
