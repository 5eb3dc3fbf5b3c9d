"""The settings of a correction's training: which there are, and what they may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from handful.errors import InputError, did_you_mean
from handful.tuning.adapters import chosen_layers
from handful.tuning.correction import FORMS
from handful.tuning.generic_classifier import READS

__all__ = ["checked_settings"]

# Of all trainings of a correction; where none is given, the least is 0.
LEAST = {"width": 1, "batch": 1}
MOST = {"dropout": 0.99, "width": 2**16}
CHOICES = {"head_input": READS}


def checked_settings(
    given: Mapping[str, Any],
    form: str,
    defaults: Mapping[str, Mapping[str, Any]],
    objective: str,
    *,
    least: Mapping[str, float] | None = None,
    most: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return all settings of a training, the defaults where none are given.

    The type of a setting is that of its default. ``layers`` may be numbers too, and comes back as
    text.

    Args:
        given: some settings.
        form: ``blocks`` or ``projection``.
        defaults: of each form.
        objective: its name, for the message.
        least, most: of settings that the objective has for itself.

    Raises:
        InputError: an unknown form or setting, or a value that it cannot have.
    """
    if form not in defaults:
        raise InputError(
            f"the form of a correction is {form!r}: expected {' or '.join(FORMS)}."
            f"{did_you_mean(str(form), FORMS)}"
        )
    known = defaults[form]
    for name in given:
        if name not in known:
            raise InputError(
                f"setting '{name}' is none of a correction of the form '{form}' (objective"
                f" {objective}): it has {', '.join(known)}.{did_you_mean(name, known)}"
            )
    settings = {**known, **given}
    if isinstance(settings.get("layers"), (list, tuple)):
        settings["layers"] = ",".join(map(str, settings["layers"]))
    lower, upper = {**LEAST, **(least or {})}, {**MOST, **(most or {})}
    for name, value in settings.items():
        limits = lower.get(name, 0), upper.get(name, math.inf)
        if expected := _expected(name, value, known[name], *limits):
            raise InputError(f"setting '{name}' of a correction is {value!r}: expected {expected}.")
    # Plain numbers, which JSON can hold.
    return {name: type(known[name])(value) for name, value in settings.items()}


def _expected(name: str, value: Any, default: Any, least: float, most: float) -> str:
    """Return what was expected; empty where the value is right."""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if name == "layers":
        return _layers_expected(value)
    if isinstance(default, str):
        return "" if value in CHOICES[name] else " or ".join(CHOICES[name])
    whole = isinstance(default, int)
    right = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if right and least <= value <= most and math.isfinite(value):
        return ""
    upper = f" to {most:g}" if math.isfinite(most) else ""
    return f"a {'whole ' if whole else ''}number from {least:g}{upper}"


def _layers_expected(value: Any) -> str:
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return "a text"
    try:
        chosen_layers(str(value))
    except ValueError as error:
        return str(error)
    return ""
