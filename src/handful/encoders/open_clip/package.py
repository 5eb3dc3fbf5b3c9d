"""The optional package open_clip: whether it works here, and how it is kept quiet."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from handful.errors import InputError

__all__ = ["import_open_clip", "quiet"]


def import_open_clip() -> Any:
    """Return the package open_clip.

    Raises:
        InputError: it, or the torchvision that it needs, is not installed or does not work.
    """
    for name in ("open_clip", "torchvision", "timm"):
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"the package {name} is not installed, which encoders of open_clip need: run pip"
                ' install "handful[open-clip]".'
            )
    try:
        with quiet():
            return importlib.import_module("open_clip")
    # A torchvision that was built for another torch raises RuntimeError, OSError or ImportError.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:160]
        if "torchvision" in reason:
            raise _other_torchvision(reason) from error
        raise InputError(
            f"the package open_clip cannot be imported ({reason}): run pip install --upgrade"
            ' "handful[open-clip]".'
        ) from error


def _other_torchvision(reason: str) -> InputError:
    """Name the torchvision that belongs to the installed torch, and where it lies."""
    ours, here = metadata.version("torchvision"), metadata.version("torch")
    release, _, build = here.partition("+")
    major, minor = release.split(".")[:2]
    # torch 2.0 came with torchvision 0.15; both have counted in step ever since.
    fitting = f"torchvision==0.{int(minor) + 15}.*" if major == "2" else "torchvision"
    index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
    return InputError(
        f"the installed torchvision {ours} does not fit torch {here} ({reason}): run pip install"
        f' --force-reinstall --no-deps{index} "{fitting}".'
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings, log lines and progress bars of open_clip from the terminal."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    # open_clip logs through the functions of the module logging, which give the root logger a
    # handler for good where it has none.
    stand_in = logging.NullHandler()
    level, had_bars = logging.root.manager.disable, not are_progress_bars_disabled()
    logging.root.addHandler(stand_in)
    logging.disable(logging.CRITICAL)
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        logging.root.removeHandler(stand_in)
        if had_bars:
            enable_progress_bars()
