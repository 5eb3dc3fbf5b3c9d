"""``handful cache``: what is kept between runs, and how to clear it."""

from __future__ import annotations

import typer

from handful.cli.options import JsonOption
from handful.cli.output import print_json, print_table, say

__all__ = ["cache"]

cache = typer.Typer(no_args_is_help=True)


@cache.callback()
def _cache() -> None:
    """Show or clear what is kept between runs."""


@cache.command()
def info(as_json: JsonOption = False) -> None:
    """Say what is kept, where, and how large it is."""
    from handful.features.cache import cache_parts
    from handful.paths import cache_folder

    parts = cache_parts()
    if as_json:
        print_json(
            {
                "folder": str(cache_folder()),
                "bytes": sum(part.bytes for part in parts),
                "parts": [
                    {"what": p.what, "path": str(p.path), "entries": p.entries, "bytes": p.bytes}
                    for p in parts
                ],
            }
        )
        return
    say(f"{cache_folder()} (HANDFUL_CACHE moves it)")
    say()
    print_table(
        ["what", "entries", "size"],
        [[p.what, f"{p.entries:,}", _megabytes(p.bytes)] for p in parts],
        wrap=(0,),
    )


@cache.command()
def clear(as_json: JsonOption = False) -> None:
    """Remove all of it; nothing is lost but the time to make it again."""
    from handful.features.cache import clear_cache

    freed = clear_cache()
    if as_json:
        print_json({"freed": freed})
    else:
        say(f"{_megabytes(freed)} freed.")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
