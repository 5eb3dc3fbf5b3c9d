"""``handful methods``: what can be fitted."""

from __future__ import annotations

from typing import Any

from handful.cli.options import JsonOption
from handful.cli.output import print_json, print_table

__all__ = ["methods"]


def methods(as_json: JsonOption = False) -> None:
    """List the methods."""
    from handful.methods import registry as heads
    from handful.tuning import registry as tunings

    found: list[Any] = [heads.get(name) for name in heads.names()]
    found += [tunings.get(name) for name in tunings.names()]
    inside = set(tunings.names())
    if as_json:
        print_json(
            [
                {
                    "name": method.name,
                    "summary": method.summary,
                    "paper": method.paper,
                    "inside": method.name in inside,
                    "settings": method().settings(),
                    "searched": list(method.search.settings()),
                }
                for method in found
            ]
        )
    else:
        print_table(
            ["method", "what it does", "paper", "searched"],
            [[m.name, m.summary, m.paper, ", ".join(m.search.settings())] for m in found],
            wrap=(1, 2, 3),
        )
