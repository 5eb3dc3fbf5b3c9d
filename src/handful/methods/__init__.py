"""Heads on frozen features: one file per paper, each a scikit-learn classifier.

>>> from handful import methods
>>> methods.names()[0]
'zero-shot'
"""

from handful.methods.registry import get, names

__all__ = ["get", "names"]
