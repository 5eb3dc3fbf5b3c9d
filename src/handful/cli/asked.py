"""Words of the command line about priors and thresholds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handful.errors import InputError

__all__ = ["parse_prior", "parse_thresholds"]

_LIMIT = 16 * 2**20  # a larger file holds no shares of classes


def parse_thresholds(texts: Sequence[str]) -> float | dict[str, float] | None:
    """Return one probability for all labels, or one for each that is named.

    Args:
        texts: ``P``, once, or ``LABEL=P``, which may stand beside it and goes before it.

    Raises:
        InputError: another form.
    """
    if not texts:
        return None
    found: dict[str, float] = {}
    for text in texts:
        # A label may hold an equals sign; a probability does not.
        label, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1 or label in found:
            raise InputError(
                f"--threshold is '{text}': expected a probability from 0 to 1 for all labels, once,"
                " or LABEL=P for one."
            )
        found[label] = number
    return found[""] if list(found) == [""] else found


def parse_prior(text: str | None, classes: Sequence[str]) -> dict[str, float] | None:
    """Return the share of each class.

    Args:
        text: ``uniform`` or a JSON file.
        classes: labels.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    if text is None:
        return None
    if text == "uniform":
        return dict.fromkeys(classes, 1.0)
    path = Path(text)
    try:
        if path.stat().st_size > _LIMIT:
            raise ValueError("it is far too large")
        told: Any = json.loads(path.read_text("utf-8"))
        if not isinstance(told, dict):
            raise ValueError("it holds no object in braces")
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in told.values()):
            raise ValueError("a share is no number")
        return {label: float(value) for label, value in told.items()}
    except OSError as error:
        raise InputError(
            f"--prior is '{text}', which cannot be read ({error.strerror}): expected 'uniform' or "
            'a JSON file {"label": share, …}.'
        ) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise InputError(
            f'--prior is {text}, which is not a JSON file {{"label": share, …}} ({error}).'
        ) from error
