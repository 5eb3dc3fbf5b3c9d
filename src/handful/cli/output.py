"""How verbs print: tables and sentences for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from handful.errors import InputError

if TYPE_CHECKING:
    from handful.classifier import FewShotClassifier

__all__ = ["flush", "print_json", "print_table", "say", "warn_skipped", "warn_unverified"]


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    plain = (sys.stdout.encoding or "").lower() != "utf-8"
    say(json.dumps(document, ensure_ascii=plain, indent=2, allow_nan=False))


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
        justify: Literal["left", "right"] = "right" if number else "left"
        # A word too long for its column is broken, not cut.
        table.add_column(name, justify=justify, no_wrap=position not in wrap, overflow="fold")
    for row in rows:
        table.add_row(*(" ".join(cell.split()) for cell in row))  # names may have line breaks
    console = Console(markup=False, highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    console = Console(markup=False, highlight=False, width=1000)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip())


def say(text: str = "") -> None:
    """Print a line for people on standard output.

    Raises:
        InputError: the disk behind it is full, or takes nothing for another reason.
        BrokenPipeError: nobody reads it any more.
    """
    with _writing():
        print(text)


def flush() -> None:
    """Write what was said; until then some of it may wait in memory.

    Raises:
        InputError: as ``say``.
    """
    with _writing():
        sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"standard output cannot be written: {error.strerror}.") from error


def warn_skipped(skipped: Sequence[tuple[Path, str]], *, most: int = 3) -> None:
    """Tell on standard error which images were left out."""
    if not skipped:
        return
    print(f"handful: warning: {len(skipped)} image(s) were left out:", file=sys.stderr)
    for _, reason in skipped[:most]:
        print(f"  {' '.join(reason.split())}", file=sys.stderr)
    if len(skipped) > most:
        print(f"  and {len(skipped) - most} more", file=sys.stderr)


def warn_unverified(classifier: FewShotClassifier) -> None:
    """Tell on standard error that nothing shows that classifier and features belong together."""
    if classifier.verified:
        return
    identity = classifier.encoder_
    if identity is not None and (identity.spec or identity.fingerprint):
        what, who = "the features file", str(identity)
    else:
        what = "the classifier was fitted on a features file that"
        who = f"'{classifier.encoder}'" if classifier.encoder else "the one of these features"
    print(
        f"handful: warning: unverified: {what} does not tell its encoder; nothing shows that it "
        f"was {who}.",
        file=sys.stderr,
    )
