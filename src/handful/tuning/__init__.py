"""Methods that reach inside the encoder: they train a part of a tower, or what it reads.

>>> from handful import tuning
>>> tuning.names()[0]
'coop'
"""

from handful.tuning.registry import get, names

__all__ = ["get", "names"]
