"""The errors that a user sees: one sentence each, never a traceback on the command line.

A message names the thing, the value that was given, what was expected and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["HandfulError", "InputError", "did_you_mean"]


class HandfulError(Exception):
    """Something that handful refuses to do; ``str(error)`` is one sentence for the user."""


class InputError(HandfulError, ValueError):
    """What was given cannot be used. The command line ends with exit status 2."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest choice, or an empty string.

    >>> did_you_mean("tip-adaptor", ["tip-adapter", "zero-shot"])
    " Did you mean 'tip-adapter'?"
    """
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
