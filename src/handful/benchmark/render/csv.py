"""Tables as CSV: one line for each number, with every statistic."""

from __future__ import annotations

import csv
import io
from typing import Any

from handful.benchmark.render.records import records
from handful.benchmark.render.words import Interval
from handful.benchmark.summary import Summary

__all__ = ["render"]


def render(summary: Summary, interval: Interval) -> str:
    """Return all tables below one header.

    Accuracies and their differences are fractions; ``shots`` is empty for averages over shots;
    what there are several of is parted by semicolons. Both the standard deviation and the interval
    are there, whatever ``interval`` is.
    """
    found = [record for table in summary.tables for record in records(table)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(value) for name, value in record.items()} for record in found)
    return out.getvalue()


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return ";".join(map(str, value))
    if isinstance(value, dict):
        return ";".join(f"{name}={_text(one)}" for name, one in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.8g}" if isinstance(value, float) else value
