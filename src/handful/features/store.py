"""Where encoded features are kept between runs: one SQLite file, addressed by content.

An image vector is found under (encoder fingerprint, view, SHA-256 of the image's bytes), a text
vector under (encoder fingerprint, prompt). Nothing is ever out of date: an edited picture, another
model or another way of preparing pictures is another key. Vectors are kept as the model gives
them, not normalised: float32, or float16 where that loses nothing (a model in half precision).

SQLite locks the file, so threads and processes of one machine may share it. Its write-ahead log
needs a local disk: machines that share a network folder should each set ``HANDFUL_CACHE``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.errors import InputError
from handful.features import claims
from handful.paths import cache_folder

__all__ = ["FeatureStore", "StoreInfo"]

FORMAT = (0x68616E64, 1)  # application_id ("hand") and user_version, marks inside the SQLite file
WAIT_S = 30.0  # how long to wait for another process that is writing
KEYS_PER_QUERY = 500  # older SQLite takes at most 999 parameters in one statement
MEMORY_PAGES = 262_144  # 1 GiB of 4 KiB pages: the stand-in for a broken store stays bounded

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS images (encoder TEXT NOT NULL, view TEXT NOT NULL, "
    "digest TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (encoder, view, digest))",
    "CREATE TABLE IF NOT EXISTS texts (encoder TEXT NOT NULL, prompt TEXT NOT NULL, "
    "vector BLOB NOT NULL, PRIMARY KEY (encoder, prompt))",
    f"PRAGMA application_id = {FORMAT[0]}",
    f"PRAGMA user_version = {FORMAT[1]}",
)
# What is there already is equal and stays, unless its length shows that it was damaged.
_REPAIR = " DO UPDATE SET vector = excluded.vector WHERE length(vector) <> length(excluded.vector)"

# Bytes of a number to its format.
_NUMBERS: dict[float, str] = {2: "<f2", 4: "<f4"}

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds: number of image vectors and text vectors, and its size on disk."""

    path: Path
    images: int
    texts: int
    bytes: int


class FeatureStore:
    """Feature vectors that outlive the run; safe with several threads and processes.

    A store that cannot be used (damaged, foreign, of a newer format, read-only or full disk)
    never stops the work: one warning names the file and the reason, and features are kept in
    memory, or no longer kept, instead.

    Args:
        path: the SQLite file, made when it is not there; by default ``features.sqlite3`` in
            the cache folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path if path is not None else cache_folder() / "features.sqlite3"
        self._lock = threading.RLock()
        # By process: a connection that was carried through a fork must not be used.
        self._connections: dict[int, sqlite3.Connection] = {}
        self._writing = True
        self._warned = False
        self._owner = claims.new_owner()

    def images(
        self, fingerprint: str, view: str, digests: Sequence[str], dim: int
    ) -> dict[str, Vector]:
        """Return the vectors ``(dim,)`` that are known, by digest; absent ones are left out."""
        query = "SELECT digest, vector FROM images WHERE encoder = ? AND view = ? AND digest IN"
        return self._find(query, (fingerprint, view), digests, dim)

    def texts(self, fingerprint: str, prompts: Sequence[str], dim: int) -> dict[str, Vector]:
        """Return the vectors ``(dim,)`` that are known, by prompt; absent ones are left out."""
        query = "SELECT prompt, vector FROM texts WHERE encoder = ? AND prompt IN"
        return self._find(query, (fingerprint,), prompts, dim)

    def add_images(
        self, fingerprint: str, vectors: Mapping[tuple[str, str], npt.NDArray[Any]]
    ) -> None:
        """Keep one batch, ``{(view, digest): vector (D,)}``, in one transaction.

        The claims on it end with it.
        """
        self._add(
            "INSERT INTO images VALUES (?, ?, ?, ?) ON CONFLICT (encoder, view, digest)" + _REPAIR,
            [(fingerprint, *key, _blob(vector)) for key, vector in vectors.items()],
            lambda connection: claims.drop(connection, fingerprint, vectors),
        )

    def claim(self, fingerprint: str, keys: Sequence[claims.Key], dim: int) -> set[claims.Key]:
        """Say what this process is about to encode, ``(view, digest)``; return what it should.

        What is left out is there by now, or another process is encoding it: look again later.
        Whoever claims must ``add_images`` or ``release``. Where the store cannot be written,
        everything is granted.
        """
        with self._lock:
            connection = self._connection()
            if self._writing:
                with suppress(sqlite3.Error):
                    return claims.take(connection, fingerprint, keys, dim, self._owner)
        return set(keys)

    def release(self, fingerprint: str, keys: Collection[claims.Key]) -> None:
        """Give up claims, where encoding failed."""
        with self._lock, suppress(sqlite3.Error), self._connection() as connection:
            claims.drop(connection, fingerprint, keys)

    def add_texts(self, fingerprint: str, vectors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep one batch, ``{prompt: vector (D,)}``, in one transaction."""
        self._add(
            "INSERT INTO texts VALUES (?, ?, ?) ON CONFLICT (encoder, prompt)" + _REPAIR,
            [(fingerprint, prompt, _blob(vector)) for prompt, vector in vectors.items()],
        )

    def info(self) -> StoreInfo:
        """Count what is kept."""
        counts = self._read(
            "SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM texts)", ()
        )
        images, texts = counts[0] if counts else (0, 0)
        files = [self.path, self.path.with_name(self.path.name + "-wal")]
        size = sum(file.stat().st_size for file in files if file.is_file())
        return StoreInfo(self.path, images, texts, size)

    def clear(self) -> None:
        """Forget everything and give the disk space back.

        Raises:
            InputError: the file cannot be written, or another process is writing to it.
        """
        with self._lock:
            connection = self._connection()
            try:
                with connection:
                    connection.execute("DELETE FROM images")
                    connection.execute("DELETE FROM texts")
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                raise InputError(
                    f"the feature store {self.path} cannot be emptied ({error}): "
                    "end other runs that use it, or delete the file."
                ) from error

    def close(self) -> None:
        """Close this process's connection; the next call opens it again."""
        with self._lock:
            connection = self._connections.pop(os.getpid(), None)
            if connection is not None:
                connection.close()

    def _find(
        self, query: str, scope: tuple[str, ...], keys: Sequence[str], dim: int
    ) -> dict[str, Vector]:
        found: dict[str, Vector] = {}
        for start in range(0, len(keys), KEYS_PER_QUERY):
            some = keys[start : start + KEYS_PER_QUERY]
            marks = ", ".join("?" * len(some))
            for key, blob in self._read(f"{query} ({marks})", (*scope, *some)):
                kind = _NUMBERS.get(len(blob) / dim) if isinstance(blob, bytes) else None
                if kind is not None:
                    found[key] = np.frombuffer(blob, dtype=kind).astype(np.float32)
        return found

    def _read(self, query: str, values: Iterable[str]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connection().execute(query, tuple(values)).fetchall()
            except sqlite3.Error as error:
                self._use_memory(error)
                return []

    def _add(
        self,
        statement: str,
        rows: list[tuple[Any, ...]],
        also: Callable[[sqlite3.Connection], None] | None = None,
    ) -> None:
        with self._lock:
            connection = self._connection()
            if not self._writing:
                return
            try:
                with connection:
                    connection.executemany(statement, rows)
                    if also is not None:
                        also(connection)
            except sqlite3.Error as error:
                # What is there can still be read: only writing ends.
                self._writing = False
                self._warn(error, "nothing more is kept in it")

    def _connection(self) -> sqlite3.Connection:
        connection = self._connections.get(os.getpid())
        if connection is None:
            try:
                connection = self._open()
            except (sqlite3.Error, OSError) as error:
                return self._use_memory(error)
            self._connections[os.getpid()] = connection
        return connection

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=WAIT_S, check_same_thread=False)
        try:
            if _marks(connection) != FORMAT:
                connection.execute("BEGIN IMMEDIATE")
                # Asked again under the lock: another process may just have made the tables.
                if _marks(connection) != FORMAT:
                    if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                        raise sqlite3.DatabaseError("it is of another format or program")
                    for statement in _SCHEMA:
                        connection.execute(statement)
                connection.commit()
            # Refused while another process opens the file, or read-only: it works without, too.
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_memory(self, error: Exception) -> sqlite3.Connection:
        self.close()
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        connection.execute(f"PRAGMA max_page_count = {MEMORY_PAGES}")
        for statement in _SCHEMA:
            connection.execute(statement)
        self._connections[os.getpid()] = connection
        self._warn(error, "features are kept in memory for this run only")
        return connection

    def _warn(self, error: Exception, consequence: str) -> None:
        if not self._warned:
            self._warned = True
            reason = getattr(error, "strerror", None) or error
            warnings.warn(
                f"the feature store {self.path} cannot be used ({reason}), so {consequence}: "
                "delete that file, make its disk writable, or set HANDFUL_CACHE to another folder.",
                RuntimeWarning,
                stacklevel=2,
            )


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    return application, connection.execute("PRAGMA user_version").fetchone()[0]


def _blob(vector: npt.NDArray[Any]) -> bytes:
    whole = np.ascontiguousarray(vector, dtype="<f4")
    with np.errstate(over="ignore"):
        half = whole.astype("<f2")
    return (half if np.array_equal(half, whole) else whole).tobytes()
