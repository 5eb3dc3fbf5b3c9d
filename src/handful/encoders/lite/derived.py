"""Tensors that are computed once and kept in the cache folder, verified at every reading."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from handful.errors import InputError
from handful.paths import cache_folder, new_file

__all__ = ["derived"]

Tensors = dict[str, torch.Tensor]


def derived(name: str, recipe: str, compute: Callable[[], Tensors]) -> Tensors:
    """Return ``compute()``, or the copy of it that an earlier call kept.

    The file carries the recipe and a digest of its tensors: a damaged one, or one of another
    recipe, is replaced. Where the cache cannot be written, everything is computed each time.

    Args:
        name: of the file, for people who look into the cache folder.
        recipe: hex digest of everything that ``compute`` depends on.
        compute: makes the tensors.
    """
    path = cache_folder() / "lite" / f"{name}-{recipe[:16]}.safetensors"
    kept = _read(path, recipe)
    if kept is not None:
        return kept
    tensors = {key: value.contiguous() for key, value in compute().items()}
    metadata = {"recipe": recipe, "digest": _digest(tensors)}
    with (
        contextlib.suppress(InputError, OSError, SafetensorError),
        new_file(path, overwrite=True) as file,
    ):
        save_file(tensors, file, metadata)
    return tensors


def _read(path: Path, recipe: str) -> Tensors | None:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    whole = metadata.get("recipe") == recipe and metadata.get("digest") == _digest(tensors)
    return tensors if whole else None


def _digest(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()
