"""What lies in handful's cache folder, and how to get rid of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from handful.errors import InputError
from handful.features.store import FeatureStore
from handful.paths import cache_folder

__all__ = ["CachePart", "cache_parts", "clear_cache"]

# Folder in the cache to what it holds. All of it can be made anew.
FOLDERS = {
    "lite": "weights of lite",
    "converted": "weights converted to safetensors",
    "hub": "notes on checkpoints of the hub",
    "images": "images of Hugging Face data sets",
    "training": "runs inside an encoder, to go on with",
    "corrections": "runs of 'handful correct train', to go on with",
}


@dataclass(frozen=True)
class CachePart:
    """One kind of content.

    Attributes:
        what: in words.
        path: file or folder.
        entries: image views and texts, or files.
        bytes: on the disk.
    """

    what: str
    path: Path
    entries: int
    bytes: int


def cache_parts() -> list[CachePart]:
    """Return what is there, features first; parts that are not there have no entries."""
    store = FeatureStore()
    parts = []
    if store.path.is_file():
        held = store.info()
        what = f"features: {held.images} image views, {held.texts} texts"
        parts.append(CachePart(what, store.path, held.images + held.texts, held.bytes))
        store.close()
    else:
        parts.append(CachePart("features", store.path, 0, 0))
    for name, what in FOLDERS.items():
        folder = cache_folder() / name
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        parts.append(CachePart(what, folder, len(sizes), sum(sizes)))
    return parts


def clear_cache() -> int:
    """Remove everything that handful keeps, and return how many bytes that was.

    The models in the Hugging Face cache belong to other programs too, and stay.

    Raises:
        InputError: a process is writing to the store, or something cannot be removed.
    """
    freed = sum(part.bytes for part in cache_parts())
    store = FeatureStore()
    if store.path.is_file():
        store.clear()
        store.close()
        freed -= store.path.stat().st_size
    for name in FOLDERS:
        folder = cache_folder() / name
        try:
            if folder.is_dir():
                shutil.rmtree(folder)
        except OSError as error:
            raise InputError(f"{folder} cannot be removed: {error.strerror or error}.") from error
    return freed
