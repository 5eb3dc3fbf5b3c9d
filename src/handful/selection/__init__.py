"""How settings are chosen without the test set: ``val``, ``cv`` or ``fixed``."""

from handful.selection.select import select

__all__ = ["select"]
