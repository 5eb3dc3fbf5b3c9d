"""Who is encoding what right now: several processes on one store share the work.

A claim is a row in the store: this image, in this view, by this owner, since then. It is taken just
before the model runs and goes when the features are kept, so it lives for one batch. The claim of a
process that died counts no longer.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Collection, Sequence

__all__ = ["Key", "drop", "new_owner", "still_holds", "take"]

Key = tuple[str, str]
"""View identity and digest of an image."""

# Longer than any batch takes: after it even a claim of another machine, or of a process whose
# number was given to another one, counts no longer.
VALID_S = 600.0

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS claims (encoder TEXT NOT NULL, view TEXT NOT NULL, "
    "digest TEXT NOT NULL, owner TEXT NOT NULL, since REAL NOT NULL, "
    "PRIMARY KEY (encoder, view, digest))"
)
_HERE = " WHERE encoder = ? AND view = ? AND digest = ?"


def new_owner() -> str:
    """Return a name for one store object in this process."""
    return f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"


def take(
    connection: sqlite3.Connection, encoder: str, keys: Sequence[Key], dim: int, owner: str
) -> set[Key]:
    """Claim what nobody is encoding and nobody has encoded meanwhile, in one transaction.

    Args:
        connection: of the store.
        encoder: fingerprint.
        keys: what this owner is about to encode.
        dim: numbers of a vector; one of another length is damaged, and made again.
        owner: see :func:`new_owner`.

    Returns:
        The keys that are now this owner's. The others are there already, or will be soon.

    Raises:
        sqlite3.Error: the store cannot be written.
    """
    granted: set[Key] = set()
    connection.execute(SCHEMA)
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        now = time.time()
        for key in keys:
            place = (encoder, *key)
            kept = "SELECT 1 FROM images" + _HERE + " AND length(vector) IN (?, ?)"
            if connection.execute(kept, (*place, 2 * dim, 4 * dim)).fetchone():
                continue
            row = connection.execute("SELECT owner, since FROM claims" + _HERE, place).fetchone()
            if row and row[0] != owner and still_holds(row[0], now - row[1]):
                continue
            connection.execute(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)", (*place, owner, now)
            )
            granted.add(key)
    return granted


def drop(connection: sqlite3.Connection, encoder: str, keys: Collection[Key]) -> None:
    """Give up claims; the caller commits.

    Raises:
        sqlite3.Error: the store cannot be written.
    """
    connection.execute(SCHEMA)
    connection.executemany("DELETE FROM claims" + _HERE, [(encoder, *key) for key in keys])


def still_holds(owner: str, age: float) -> bool:
    """Whether a claim still counts: not too old, and of a process that is alive for all we know."""
    if not 0 <= age < VALID_S:
        return False
    host, process, _ = owner.rsplit(" ", 2)
    if host != socket.gethostname() or os.name != "posix":
        return True
    try:
        os.kill(int(process), 0)  # signal 0 does nothing but ask
    except ProcessLookupError:
        return False
    except (OSError, ValueError):  # somebody else's process: it is alive
        return True
    return True
