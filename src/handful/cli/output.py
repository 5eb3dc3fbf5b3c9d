"""How verbs print: tables and sentences for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handful.classifier import FewShotClassifier

__all__ = ["print_json", "print_table", "say", "warn_skipped", "warn_unverified"]


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    plain = (sys.stdout.encoding or "").lower() != "utf-8"
    print(json.dumps(document, ensure_ascii=plain, indent=2, allow_nan=False))


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, wrap: Sequence[int] = ()
) -> None:
    """Print a table on standard output; in a pipe, each row is one line.

    Args:
        header: names of the columns.
        rows: cells.
        wrap: positions of columns of long text, which wrap where the terminal is narrow.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for position, name in enumerate(header):
        number = bool(rows) and all(row[position][:1].isdigit() for row in rows)
        table.add_column(name, justify="right" if number else "left", no_wrap=position not in wrap)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    console = Console(markup=False, highlight=False, width=1000)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


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


def warn_unverified(classifier: FewShotClassifier) -> None:
    """Tell on standard error that nothing shows which encoder a classifier belongs to."""
    if not classifier.verified:
        print(
            "handful: warning: unverified: the classifier was fitted on a features file that does "
            f"not tell its encoder; nothing shows that it was '{classifier.encoder}'.",
            file=sys.stderr,
        )
