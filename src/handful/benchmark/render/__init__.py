"""Tables in several formats: each is a function from a summary to a text."""

from __future__ import annotations

from collections.abc import Callable

from handful.benchmark.render import csv, html, latex, markdown, terminal
from handful.benchmark.render.words import Interval
from handful.benchmark.summary import Summary

__all__ = ["FORMATS", "SUFFIXES", "Interval"]

FORMATS: dict[str, Callable[[Summary, Interval], str]] = {
    "terminal": terminal.render,
    "markdown": markdown.render,
    "latex": latex.render,
    "csv": csv.render,
    "html": html.render,
}
SUFFIXES = {
    ".txt": "terminal",
    ".md": "markdown",
    ".tex": "latex",
    ".csv": "csv",
    ".html": "html",
}
