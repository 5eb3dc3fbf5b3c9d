"""JSON files that somebody else wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from handful.datasets.missing import file_size
from handful.errors import InputError

__all__ = ["read_json"]


def read_json(path: Path, what: str, form: str, most: int) -> Any:
    """Return what a JSON file holds.

    Args:
        path: the file.
        what: what was expected there, for the sentence, such as ``a split file``.
        form: what it looks like, in one line.
        most: bytes that it may have.

    Raises:
        InputError: missing, no file, too large, not to be read, or not JSON.
    """
    file_size(path, f"{what} {form}", most)
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): expected {form}.") from error
