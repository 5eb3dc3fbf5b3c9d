"""A correction beside an encoder: which methods take one, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handful.classifier.tuned import is_tuning
from handful.errors import InputError
from handful.methods import registry as heads
from handful.tuning.correction import Correction

__all__ = ["GivenCorrection", "comparing", "open_correction", "settings_with", "told_of",
           "uses_correction"]  # fmt: skip

GivenCorrection = str | Path | Correction


def open_correction(given: GivenCorrection | None) -> Correction | None:
    """Return the correction that is given, or that lies in the file that is named.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    return given if given is None or isinstance(given, Correction) else Correction.load(given)


def comparing() -> list[str]:
    """Return the methods that compare images with images."""
    return [name for name in heads.names() if heads.get(name).compares_images()]


def uses_correction(method: str, settings: Mapping[str, Any]) -> bool:
    """Return whether a method with these settings compares images in a corrected space."""
    return not is_tuning(method) and heads.get(method)(**settings).similarity == "corrected"


def settings_with(
    method: str, settings: Mapping[str, Any], correction: Correction | None
) -> dict[str, Any]:
    """Return settings with which a method uses the correction that is given, and no other.

    Raises:
        InputError: there is one and the method compares no images, or is told not to use it; there
            is none and it needs one.
    """
    if correction is None:
        if uses_correction(method, settings):
            raise InputError(lacking(method))
        return dict(settings)
    if is_tuning(method) or not heads.get(method).compares_images():
        raise InputError(
            f"method '{method}' compares no images with images, so a correction is of no use to it:"
            f" leave it out, or use one of {', '.join(comparing())}."
        )
    if settings.get("similarity", "corrected") != "corrected":
        raise InputError(
            f"setting 'similarity' is '{settings['similarity']}', which leaves the correction "
            "unused: leave one of them out."
        )
    # Methods of the corrected space alone have no such setting.
    own = {"similarity": "corrected"} if "similarity" in heads.get(method)().settings() else {}
    return {**settings, **own}


def lacking(method: str) -> str:
    """Say that a method needs a correction, and where to get one."""
    return (
        f"method '{method}' compares images in a corrected space and there is no correction: train"
        " one with 'handful correct train' and give it with --correction (correction=…)."
    )


def told_of(correction: Correction | None) -> dict[str, Any] | None:
    """Return what results and saved classifiers keep of a correction, beside its file."""
    if correction is None:
        return None
    return {
        "fingerprint": correction.fingerprint,
        "form": correction.form,
        "objective": correction.objective,
        "images": len(correction.digests),
        "classes": list(correction.class_names),
    }
