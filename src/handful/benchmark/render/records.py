"""One flat record for each number of a table, with every statistic; for CSV and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from handful.benchmark.column import Figure
from handful.benchmark.elsewhere_columns import elsewhere_columns
from handful.benchmark.significance import PairedTest
from handful.benchmark.summary import Table

__all__ = ["records"]


def records(table: Table) -> Iterator[dict[str, Any]]:
    """Yield cells and averages, line by line. Accuracies and differences are fractions."""
    for line in table.lines:
        figures = [(k, (k,), figure) for k, figure in line.cells.items()]
        averages = [(None, table.averaged, line.average)] if line.average else []
        for shots, over, figure in [*figures, *averages]:
            yield {
                "sources": list(table.names),
                "protocol": table.protocol,
                "select": table.select,
                "method": line.label,
                "shots": shots,
                "over_shots": list(over),
                "seeds": list(figure.seeds),
                "complete": figure.complete,
                "settings_fixed": figure.settings_fixed,
                "accuracy": figure.mean,
                "standard_deviation": figure.deviation,
                "half_interval_95": figure.interval,
                "baseline": table.baseline,
                "gain": figure.gain,
                "error_reduction": figure.error_reduction,
                "rank": figure.rank,
                "best": figure.best,
                **_test("best", figure.to_best),
                **_test("baseline", figure.to_baseline),
                "published": figure.published and figure.published.accuracy,
                "above_published": figure.published and figure.mean - figure.published.accuracy,
                "negative_log_likelihood": figure.negative_log_likelihood,
                "calibration_error": figure.calibration_error,
                "fit_seconds": figure.fit_seconds,
                "elsewhere": _elsewhere(figure, table.protocol),
                "runs": [row["key"] for row in figure.rows],
            }


def _elsewhere(figure: Figure, protocol: str) -> dict[str, float]:
    columns = elsewhere_columns({"": figure}, protocol)
    return {name: of[""].mean for name, of in columns.items()}


def _test(name: str, test: PairedTest | None) -> dict[str, Any]:
    return {
        f"test_to_{name}_against": test and test.against,
        f"test_to_{name}_draws": test and test.pairs,
        f"test_to_{name}_p": test and test.p,
        f"test_to_{name}_p_holm": test and test.corrected,
    }
