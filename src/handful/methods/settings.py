"""Settings: the hyper-parameters of a method, and what they may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from handful.errors import InputError

__all__ = ["Settings"]


class Settings(BaseEstimator):  # type: ignore[misc]
    """Base of what is given settings by its constructor, as scikit-learn asks.

    The type of a setting is that of its default. A subclass declares:
        least, most: of numeric settings; the least is 0 where not given.
        choices: of settings that are words.
        parsers: of settings that are free text, such as ``layers="0,2,4"``: functions from the
            text to what it means, which raise ValueError with the words for what was expected. A
            whole number counts as its digits: ``--set layers=3`` gives one.
        from_task: parameters of the constructor that are no settings.
    """

    name: ClassVar[str]
    least: ClassVar[Mapping[str, float]] = {}
    most: ClassVar[Mapping[str, float]] = {}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    parsers: ClassVar[Mapping[str, Callable[[str], Any]]] = {}
    from_task: ClassVar[tuple[str, ...]] = ()

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters, without what comes from the task."""
        given = self.get_params(deep=False)
        return {name: value for name, value in given.items() if name not in self.from_task}

    def parsed(self, setting: str) -> Any:
        """Return what a setting that is free text means.

        Raises:
            ValueError: nothing; it says what was expected.
        """
        return self.parsers[setting](str(getattr(self, setting)))

    def check_settings(self) -> None:
        """Refuse settings of the wrong type, out of range, or none of the choices.

        Raises:
            InputError: naming the setting, its value and what was expected.
        """
        defaults = type(self)().settings()
        for name, value in self.settings().items():
            default = defaults[name]
            if isinstance(default, bool):
                right, expected = isinstance(value, bool), "true or false"
            elif name in self.parsers:
                right, expected = self._parses(name)
            elif isinstance(default, str):
                right, expected = value in self.choices[name], " or ".join(self.choices[name])
            else:
                least, most = self.least.get(name, 0), self.most.get(name, np.inf)
                whole = isinstance(default, int)
                kind = Integral if whole else Real
                right = isinstance(value, kind) and not isinstance(value, bool)
                right = right and least <= value <= most and np.isfinite(value)
                expected = f"a {'whole ' if whole else ''}number from {least:g}"
                expected += f" to {most:g}" if np.isfinite(most) else ""
            if not right:
                raise InputError(
                    f"setting '{name}' of method '{self.name}' is {value!r}: expected {expected}."
                )

    def _parses(self, setting: str) -> tuple[bool, str]:
        """Return whether a setting that is free text means anything, and what was expected."""
        value = getattr(self, setting)
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            return False, "a text"
        try:
            self.parsed(setting)
        except ValueError as error:
            return False, str(error)
        return True, ""
