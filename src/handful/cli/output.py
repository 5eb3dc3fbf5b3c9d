"""How verbs print: tables and sentences for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["print_json", "print_table", "say", "warn_skipped"]


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, wrap: int = -1) -> None:
    """Print a table on standard output, as wide as the terminal or its text.

    Args:
        header: names of the columns.
        rows: cells.
        wrap: position of a column of long text, which wraps where the terminal is narrow.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for position, name in enumerate(header):
        number = bool(rows) and all(row[position][:1].isdigit() for row in rows)
        table.add_column(name, justify="right" if number else "left", no_wrap=position != wrap)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=max(console.width, 120))
    console.print(table)


def say(text: str = "") -> None:
    """Print a line for people on standard output."""
    print(text)


def warn_skipped(skipped: Sequence[tuple[Path, str]], *, most: int = 3) -> None:
    """Tell on standard error which images were left out."""
    if not skipped:
        return
    print(f"handful: warning: {len(skipped)} image(s) were left out:", file=sys.stderr)
    for _, reason in skipped[:most]:
        print(f"  {reason}", file=sys.stderr)
    if len(skipped) > most:
        print(f"  and {len(skipped) - most} more", file=sys.stderr)
