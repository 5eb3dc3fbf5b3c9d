"""How tables of texts are printed or written; for the verbs that make some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from handful.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from handful.benchmark.text_table import TextTable

__all__ = ["show", "write"]


def show(tables: Sequence[TextTable], out: Path | None, force: bool, as_json: bool) -> None:
    """Print tables, or write them in Markdown."""
    from dataclasses import asdict

    if out is not None:
        write(tables, out, force)
    if as_json:
        print_json({"tables": [asdict(one) for one in tables], "out": str(out) if out else None})
    elif out is not None:
        say(f"{len(tables)} table{'s' if len(tables) > 1 else ''} in {out}.")
    else:
        for one in tables:
            say(one.title)
            say()
            print_table(one.header, one.rows)
            say()
            say(one.note)
            say()


def write(tables: Sequence[TextTable], out: Path, force: bool) -> None:
    """Write tables in Markdown."""
    from handful.benchmark.text_table import markdown
    from handful.paths import new_file

    with new_file(out, overwrite=force) as path:
        path.write_text(markdown(tables), "utf-8")
