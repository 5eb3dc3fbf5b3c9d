"""Flags that hold several numbers or words."""

from __future__ import annotations

from collections.abc import Sequence

from handful.errors import InputError

__all__ = ["numbers", "words"]

LONGEST = 10_000  # numbers that a range such as 1-3 may stand for


def numbers(text: str, what: str) -> tuple[int, ...]:
    """Read ``1,2,4`` or ``1-3``.

    Raises:
        InputError: something else, or a range of more than 10,000 numbers.
    """
    ranges: list[range] = []
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            ranges.append(range(int(first), int(last if dash else first) + 1))
    except ValueError:
        ranges = []
    for one in ranges:
        if one.stop - one.start > LONGEST:
            raise InputError(
                f"--{what} has the range {one.start}-{one.stop - 1}: expected {LONGEST:,} numbers"
                " at most."
            )
    found = [number for one in ranges for number in one]
    if not found:
        raise InputError(f"--{what} is '{text}': expected numbers such as 1,2,4 or 1-3.")
    return tuple(dict.fromkeys(found))


def words(values: Sequence[str]) -> tuple[str, ...]:
    """Read a repeatable flag whose values may hold several words, parted by commas."""
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())
