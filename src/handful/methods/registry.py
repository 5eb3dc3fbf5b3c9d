"""The list of methods. Adding one is a new file and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from handful.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from handful.methods.head import Head

__all__ = ["DEFAULT_METHOD", "get", "names"]

# What people get who name no method: at 1 to 16 shots on real photographs it is at or near the top
# with every encoder tried (see the tables in the README).
DEFAULT_METHOD = "clip-adapter"

_METHODS = {
    "zero-shot": "zero_shot:ZeroShot",
    "linear-probe": "linear_probe:LinearProbe",
    "clip-adapter": "clip_adapter:ClipAdapter",
    "tip-adapter": "tip_adapter:TipAdapter",
    "tip-adapter-f": "tip_adapter:TipAdapterF",
}


def names() -> list[str]:
    """Return the names of all methods, the simplest first."""
    return list(_METHODS)


def get(name: str) -> type[Head]:
    """Return the class of the method called ``name``.

    Raises:
        InputError: there is no such method; the nearest name is suggested.
    """
    if name not in _METHODS:
        raise InputError(
            f"there is no method '{name}'.{did_you_mean(name, _METHODS)} "
            f"The methods are {', '.join(_METHODS)}."
        )
    module, _, attribute = _METHODS[name].partition(":")
    found: type[Head] = getattr(import_module(f"handful.methods.{module}"), attribute)
    return found
