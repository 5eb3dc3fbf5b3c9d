"""The file of a correction: one safetensors file, what is told of it as JSON in the header.

Tensors: ``adapter.…``, float32, and ``digests`` uint8 ``(n, 32)``. The encoder is not in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handful.datasets.missing import refuse_missing
from handful.errors import InputError
from handful.paths import new_file

if TYPE_CHECKING:
    from handful.tuning.correction import Correction

__all__ = ["LARGEST", "read_correction", "write_correction"]

LARGEST = 2**30
"""Bytes of a file that is read: adapters of all towers that are known take less than a tenth."""

_FORMAT = 1
_ENDING = ".safetensors"
_ADAPTER = "adapter."
_TOLD: dict[str, type | tuple[type, ...]] = {
    "form": str,
    "objective": str,
    "settings": dict,
    "encoder": str,
    "encoder_fingerprint": (str, type(None)),
    "dim": int,
    "class_names": list,
    "record": dict,
}


def write_correction(correction: Correction, path: Path, *, overwrite: bool) -> None:
    """Write a correction, whole or not at all.

    Raises:
        InputError: another ending, the file exists and ``overwrite`` is false, or it cannot be
            written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    if path.suffix != _ENDING:
        raise InputError(f"{path} has another ending than {_ENDING}: give the file that name.")
    told = {name: getattr(correction, name) for name in _TOLD}
    told |= {"format": _FORMAT, "fingerprint": correction.fingerprint}
    arrays = {_ADAPTER + name: np.ascontiguousarray(a) for name, a in correction.arrays.items()}
    arrays["digests"] = np.ascontiguousarray(correction.digests)
    with new_file(path, overwrite=overwrite) as temporary:
        try:
            save_file(arrays, temporary, {"handful": json.dumps(told, default=dict)})
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} cannot be written: {error}.") from error


def read_correction(path: Path) -> Correction:
    """Read a correction.

    Raises:
        InputError: no such file, a foreign or a damaged one.
    """
    from safetensors import SafetensorError, safe_open

    refuse_missing(path, "a correction (.safetensors)")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no file"
        raise InputError(f"{path} {what}: give a correction (.safetensors).")
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST >> 20} MB")
        path.open("rb").close()  # of a file that may not be read, safetensors says it is not there
        with safe_open(path, "np") as file:
            told = json.loads((file.metadata() or {}).get("handful", "null"))
            names = [n for n in file.keys() if n == "digests" or n.startswith(_ADAPTER)]  # noqa: SIM118
            return _made(told, {name: file.get_tensor(name) for name in names})
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, TypeError, RecursionError, SafetensorError) as error:
        raise InputError(
            f"{path} is no correction, or it is damaged ({error}): give a file that 'handful"
            " correct train' has written."
        ) from error


def _made(told: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Correction:
    from handful.tuning.correction import Correction

    if not isinstance(told, dict) or "format" not in told:
        raise ValueError("its header does not tell of one")
    if told["format"] != _FORMAT:
        raise ValueError(f"its format is {told['format']!r}, and this handful reads {_FORMAT}")
    for name, kind in _TOLD.items():
        if name not in told or not isinstance(told[name], kind) or told[name] is True:
            raise ValueError(f"its {name} is missing or of the wrong type")
    if not all(isinstance(name, str) for name in told["class_names"]):
        raise ValueError("its class_names are no texts")
    if "digests" not in arrays:
        raise ValueError("it has no digests")
    given = {name: told[name] for name in _TOLD} | {"class_names": tuple(told["class_names"])}
    digests = arrays.pop("digests")
    adapter = {name.removeprefix(_ADAPTER): array for name, array in arrays.items()}
    correction = Correction(**given, digests=digests, arrays=adapter)
    if correction.fingerprint != told.get("fingerprint"):
        raise ValueError("its content is not what was written")
    return correction
