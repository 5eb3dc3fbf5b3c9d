"""``handful encoders``: what images and class names can be encoded with."""

from __future__ import annotations

from handful.cli.options import JsonOption
from handful.cli.output import print_json, print_table

__all__ = ["encoders"]


def encoders(as_json: JsonOption = False) -> None:
    """List the kinds of encoders."""
    from handful.encoders.spec import encoder_kinds

    kinds = encoder_kinds()
    if as_json:
        print_json([kind._asdict() for kind in kinds])
    else:
        print_table(
            ["encoder", "what", "here"],
            [[k.pattern, k.what, "yes" if k.available else "no"] for k in kinds],
            wrap=(1,),
        )
