"""Which towers a method trains: the setting ``tower``."""

from __future__ import annotations

from typing import Any

from handful.errors import InputError
from handful.tuning.towers import Towers

__all__ = ["TOWERS", "sides"]

TOWERS = ("image", "text", "both")


def sides(towers: Towers, tower: str, *, blocks: bool = True) -> dict[str, Any]:
    """Return the opened towers that ``image``, ``text`` or ``both`` means, by name.

    Args:
        towers: of an encoder.
        tower: the setting.
        blocks: the method changes transformer blocks; else it trains whole towers.

    Raises:
        InputError: one of them cannot be opened, or has no blocks.
    """
    found: dict[str, Any] = {"image": towers.image, "text": towers.text}
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
    if blocks and "image" in found and not len(found["image"].blocks):
        raise InputError(
            f"setting 'tower' is '{tower}', but the image tower of the encoder {towers.spec} is a"
            " ResNet, without the transformer blocks that this method changes: set tower=text, use"
            " fine-tune, which trains it whole, or a CLIP with a vision transformer."
        )
    return found
