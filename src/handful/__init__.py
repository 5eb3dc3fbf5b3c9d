"""handful teaches a vision-language model new classes from a handful of labelled images.

>>> import handful
>>> "tip-adapter" in handful.methods.names()
True

Everything here is imported when it is first used: ``import handful`` itself takes no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handful import methods, tuning
    from handful.classifier import FewShotClassifier
    from handful.encoders.spec import load_encoder
    from handful.errors import HandfulError, InputError
    from handful.features.file import Features, load_features, save_features
    from handful.selection import select
    from handful.task import FewShotTask

__version__ = "0.1.0"

__all__ = [
    "Features",
    "FewShotClassifier",
    "FewShotTask",
    "HandfulError",
    "InputError",
    "load_encoder",
    "load_features",
    "methods",
    "save_features",
    "select",
    "tuning",
]

_HOMES = {
    "Features": "handful.features.file",
    "FewShotClassifier": "handful.classifier",
    "FewShotTask": "handful.task",
    "HandfulError": "handful.errors",
    "InputError": "handful.errors",
    "load_encoder": "handful.encoders.spec",
    "load_features": "handful.features.file",
    "save_features": "handful.features.file",
    "select": "handful.selection",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in ("methods", "tuning"):
        return import_module(f"handful.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'handful' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
