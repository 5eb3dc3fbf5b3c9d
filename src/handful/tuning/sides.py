"""Which towers a method trains: the setting ``tower``."""

from __future__ import annotations

from typing import Any

from handful.errors import InputError
from handful.tuning.towers import Towers

__all__ = ["TOWERS", "sides"]

TOWERS = ("image", "text", "both")


def sides(towers: Towers, tower: str) -> dict[str, Any]:
    """Return the opened towers that ``image``, ``text`` or ``both`` means, by name.

    Raises:
        InputError: one of them cannot be opened.
    """
    found = {"image": towers.image, "text": towers.text}
    if tower != "both":
        found = {tower: found[tower]}
    if found.get("image", True) is None:
        raise InputError(
            f"setting 'tower' is '{tower}', but the image tower of the encoder {towers.spec} is no"
            " transformer: set tower=text, or use a CLIP or SigLIP model."
        )
    if found.get("text", True) is None:
        raise InputError(
            f"setting 'tower' is '{tower}', but the encoder {towers.spec} has no text tower: set"
            " tower=image, or use a CLIP or SigLIP model."
        )
    return found
