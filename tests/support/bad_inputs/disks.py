"""Places that cannot be written."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from bad_inputs.place import Place, bad

from handful.features.store import FeatureStore


@bad("an `--out` that exists")
def exists(place: Place) -> None:
    assert (place / "things").is_dir()


@bad("a folder of something else, and `--force`")
def foreign(place: Place) -> None:
    place.write("thesis/chapter-1.txt", "precious")


@bad("a file in the way of `--out`")
def file_in_the_way(place: Place) -> None:
    place.write("notes", "precious")


@bad("an `--out` in a folder that you may not write")
def forbidden(place: Place) -> None:
    (place / "theirs").mkdir()
    place.forbid("theirs", 0o555)


@bad("an `--out` on a full disk")
def full(place: Place) -> None:
    place.full_disk("disk")


@bad("an `--out` beyond the size that files may have")
def limited(place: Place) -> None:
    place.files_end_at(40_000)


@bad("a cache folder that cannot be made")
def no_cache(place: Place) -> None:
    place.write("notes", "precious")


@bad("a cache folder that you may not write")
def forbidden_cache(place: Place) -> None:
    (place / "cache").mkdir()
    place.forbid("cache", 0o555)


@bad("a cache folder on a full disk")
def full_cache(place: Place) -> None:
    place.full_disk("disk")


@bad("a cache folder whose files cannot grow")
def small_cache(place: Place) -> None:
    place.files_end_at(20_000)


@bad("a feature store on a disk that fills up")
def filled_store(place: Place) -> None:
    def store() -> None:
        kept = FeatureStore(place / "disk/features.sqlite3")
        kept.add_texts("lite", {"a photo of a dam.": np.zeros(8)})
        kept.close()

    place.full_disk("disk", size="256k", first=store)


@bad("a feature store that is damaged")
def damaged_store(place: Place) -> None:
    place.write("cache/features.sqlite3", b"SQLite format 3\0" + b"\xff" * 4096)


@bad("a feature store of another program")
def foreign_store(place: Place) -> None:
    (place / "cache").mkdir()
    with sqlite3.connect(place / "cache/features.sqlite3") as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()


@bad("a full disk behind standard output")
def full_output(place: Place) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
