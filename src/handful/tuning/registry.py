"""The list of tuning methods. Adding one is a new file and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handful.methods.registry import find

if TYPE_CHECKING:
    from handful.tuning.tuning import Tuning

__all__ = ["get", "names"]

_METHODS: dict[str, str] = {
    "coop": "coop:CoOp",
    "clip-lora": "clip_lora:ClipLora",
    "clip-adapter-inner": "adapters:ClipAdapterInner",
    "parallel": "adapters:Parallel",
    "houlsby": "adapters:Houlsby",
    "fine-tune": "fine_tune:FineTune",
    "wise-ft-tower": "fine_tune:WiseFTTower",
}


def names() -> list[str]:
    """Return the names of all tuning methods, those that train least first."""
    return list(_METHODS)


def get(name: str) -> type[Tuning]:
    """Return the class of the tuning method called ``name``.

    Raises:
        InputError: there is no such method; the nearest name is suggested.
    """
    found: type[Tuning] = find(name, _METHODS, "handful.tuning", "tuning method")
    return found
