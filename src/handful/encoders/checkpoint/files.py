"""The files of a checkpoint: which of them are the weights, and how they become tensors."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from handful.errors import InputError
from handful.paths import cache_folder, new_file
from handful.progress import notice

__all__ = ["read_json", "read_weights"]

SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
LIMIT = 64 << 20  # bytes of a JSON file: an index of shards has a few MB

Tensors = dict[str, torch.Tensor]


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        InputError: it cannot be read, is too large, or holds something else.
    """
    try:
        if path.stat().st_size > LIMIT:
            raise InputError(f"{path} is larger than {LIMIT >> 20} MB: that is no configuration.")
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): get the file anew.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged (no object in braces): get the file anew.")
    return value


def read_weights(folder: Path) -> Tensors:
    """Return the tensors of a checkpoint, in the number format of its files.

    safetensors where there are any. A ``pytorch_model.bin`` is a pickle: it is read with
    ``weights_only=True``, so that it can hold nothing but tensors, and kept as safetensors in the
    cache folder.

    Raises:
        InputError: no weights, or damaged ones.
    """
    for name, read in ((SAFE, _read_safe), (PICKLED, _read_pickled)):
        parts = _parts(folder, name)
        if parts:
            tensors: Tensors = {}
            for part in parts:
                tensors |= read(part)
            return tensors
    raise InputError(
        f"{folder} has no weights: expected {SAFE} or {PICKLED}, or their shards, as"
        " save_pretrained writes them."
    )


def _parts(folder: Path, name: str) -> list[Path]:
    if (folder / name).exists():
        return [folder / name]
    index = folder / f"{name}.index.json"
    if not index.exists():
        return []
    table = read_json(index).get("weight_map")
    shards = sorted(set(table.values())) if isinstance(table, dict) else []
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise InputError(f"{index} names the shard {shard!r}: that is no file beside it.")
        if not (folder / shard).exists():
            raise InputError(f"{folder} lacks {shard}, a part of its weights: copy it there.")
    return [folder / shard for shard in shards]


def _read_safe(path: Path) -> Tensors:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def _read_pickled(path: Path) -> Tensors:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _damaged(path, error) from error
    kept = cache_folder() / "converted" / f"{digest}.safetensors"
    if kept.exists():
        try:
            return _read_safe(kept)
        except InputError:
            kept.unlink(missing_ok=True)
    tensors = _unpickle(path)
    try:
        with new_file(kept, overwrite=True) as temporary:
            save_file(tensors, temporary)
        notice(f"{path.name} was converted to safetensors once, in {kept.parent}")
    except (InputError, OSError, SafetensorError):
        notice(f"{path.name} is converted at every start: {kept.parent} cannot be written")
    return tensors


def _unpickle(path: Path) -> Tensors:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on how the pickle was written: not the user's doing
            content = torch.load(path, weights_only=True, map_location="cpu")
    # torch raises what its readers of archives happen to raise.
    except Exception as error:
        refused = type(error).__name__ == "UnpicklingError"
        if refused and re.search("weights_only|unsupported", str(error), re.IGNORECASE):
            raise InputError(
                f"the weight file {path} holds more than tensors and could run code, so it is"
                " refused: get the model as safetensors."
            ) from error
        raise _damaged(path, error) from error
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        raise InputError(
            f"the weight file {path} is not a table of named tensors: expected what"
            " save_pretrained writes."
        )
    # Tensors that share memory cannot be saved as they are.
    return {key: value.contiguous().clone() for key, value in content.items()}


def _damaged(path: Path, error: Exception) -> InputError:
    reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
    return InputError(
        f"the weight file {path} is damaged or cut short ({reason}): delete it and get it anew."
    )
