"""The store keeps what it is given, for several writers at once, and never stops the work."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from handful.errors import InputError
from handful.features.store import FORMAT, FeatureStore

DIM = 6


def vector(number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal(DIM).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    store = FeatureStore(tmp_path / "cache" / "features.sqlite3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield store
    store.close()


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_gives_back_the_same_bits(store: FeatureStore) -> None:
    values = {("centre", f"d{i}"): vector(i) for i in range(1200)}  # more than one query
    store.add_images("model", values)
    found = store.images("model", "centre", [f"d{i}" for i in range(1200)] + ["unknown"], DIM)
    assert len(found) == 1200
    for (_, digest), value in values.items():
        assert found[digest].dtype == np.float32
        np.testing.assert_array_equal(found[digest], value)


def test_half_precision_takes_half_the_room_and_loses_nothing(store: FeatureStore) -> None:
    half = vector(0).astype(np.float16)
    rows = {("centre", "half"): half, ("centre", "whole"): np.full(DIM, 1 / 3, np.float32)}
    # Numbers that float16 cannot hold: too large, too small, and those of damaged models.
    rows["centre", "large"] = np.full(DIM, 1e6, np.float32)
    rows["centre", "small"] = np.full(DIM, 1e-9, np.float32)
    store.add_images("model", rows)
    found = store.images("model", "centre", [digest for _, digest in rows], DIM)
    for (_, digest), expected in rows.items():
        np.testing.assert_array_equal(found[digest], expected.astype(np.float32))
        assert found[digest].dtype == np.float32
    lengths = dict(store._connection().execute("SELECT digest, length(vector) FROM images"))
    assert lengths == {"half": 2 * DIM, "whole": 4 * DIM, "large": 4 * DIM, "small": 4 * DIM}
    assert store.claim("model", [("centre", "half"), ("centre", "new")], DIM) == {("centre", "new")}


def test_every_part_of_the_key_counts(store: FeatureStore) -> None:
    store.add_images("model", {("centre", "d"): vector(0)})
    store.add_texts("model", {"a dam": vector(1)})
    assert store.images("model", "centre", ["d"], DIM)
    assert not store.images("other", "centre", ["d"], DIM)
    assert not store.images("model", "crop", ["d"], DIM)
    assert not store.images("model", "centre", ["e"], DIM)
    assert not store.texts("other", ["a dam"], DIM)
    np.testing.assert_array_equal(store.texts("model", ["a dam"], DIM)["a dam"], vector(1))


def test_outlives_the_connection(store: FeatureStore) -> None:
    store.add_images("model", {("centre", "d"): vector(0)})
    store.close()
    assert FeatureStore(store.path).images("model", "centre", ["d"], DIM)
    assert store.images("model", "centre", ["d"], DIM)


def test_lies_in_the_cache_folder(isolated_cache: Path) -> None:
    assert FeatureStore().path == isolated_cache / "features.sqlite3"


def test_a_value_of_another_length_is_absent_until_it_is_replaced(store: FeatureStore) -> None:
    store.add_images("model", {("centre", "d"): vector(0)[:-1]})
    assert not store.images("model", "centre", ["d"], DIM)
    store.add_images("model", {("centre", "d"): vector(0)})
    np.testing.assert_array_equal(store.images("model", "centre", ["d"], DIM)["d"], vector(0))
    store.add_images("model", {("centre", "d"): vector(1)})  # the first whole value stays
    np.testing.assert_array_equal(store.images("model", "centre", ["d"], DIM)["d"], vector(0))


def test_info_and_clear(store: FeatureStore) -> None:
    store.add_images("model", {("centre", f"d{i}"): vector(i) for i in range(3)})
    store.add_texts("model", {"a dam": vector(9)})
    info = store.info()
    assert (info.path, info.images, info.texts) == (store.path, 3, 1)
    assert info.bytes >= 4 * 4 * DIM
    store.clear()
    assert (store.info().images, store.info().texts) == (0, 0)
    assert store.info().bytes < info.bytes
    store.add_images("model", {("centre", "d"): vector(0)})
    assert store.info().images == 1


def test_clear_says_when_it_cannot(store: FeatureStore) -> None:
    store._connection().execute("PRAGMA query_only = ON")
    with pytest.raises(InputError, match="cannot be emptied"):
        store.clear()


WRITER = """
import sys
from pathlib import Path
import numpy as np
from handful.features.store import FeatureStore
store = FeatureStore(Path(sys.argv[1]))
start = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for batch in range(start, start + 300, 10):
    store.add_images("model", {("centre", str(i)): np.full(6, i, np.float32)
                               for i in range(batch, batch + 10)})
    assert len(store.images("model", "centre", [str(i) for i in range(batch, batch + 10)], 6)) == 10
store.close()
"""


def test_processes_write_at_once_into_a_store_that_neither_has_made(tmp_path: Path) -> None:
    path = tmp_path / "features.sqlite3"
    writers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WRITER, str(path), str(start)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for start in (0, 150, 300)  # overlapping keys
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:  # only now, so that they make the file at the same moment
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.communicate(timeout=60) == ("", "")
        assert writer.returncode == 0
    store = FeatureStore(path)
    found = store.images("model", "centre", [str(i) for i in range(600)], 6)
    assert len(found) == 600
    assert all((value == int(key)).all() for key, value in found.items())
    assert store._connection().execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_threads_share_one_store(store: FeatureStore) -> None:
    failures: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for i in range(start, start + 50):
                store.add_images("model", {("centre", str(i)): vector(i)})
                found = store.images("model", "centre", [str(i)], DIM)
                np.testing.assert_array_equal(found[str(i)], vector(i))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(25 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.info().images == 25 * 5 + 50


FORKER = """
import os, sys
from pathlib import Path
import numpy as np
from handful.features.store import FeatureStore
store = FeatureStore(Path(sys.argv[1]))
one = np.ones(6, np.float32)
store.add_texts("model", {"before": one})
child = os.fork()
for i in range(50):
    store.add_texts("model", {f"{'parent' if child else 'child'} {i}": one})
if child == 0:
    os._exit(0 if store.texts("model", ["before"], 6) else 1)
assert os.waitpid(child, 0)[1] == 0
print(store.info().texts)
store.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_opens_the_file_for_itself(tmp_path: Path) -> None:
    process = run(FORKER, tmp_path / "features.sqlite3")
    assert process.communicate(timeout=60)[0].split() == ["101"]


def test_a_killed_writer_leaves_whole_batches(tmp_path: Path) -> None:
    script = WRITER.replace("store.close()", "import os, signal; os.kill(os.getpid(), 9)")
    command = [sys.executable, "-c", script, str(tmp_path / "f.sqlite3"), "0"]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=60).returncode != 0
    store = FeatureStore(tmp_path / "f.sqlite3")
    assert store.info().images == 300
    store.close()


def damaged(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE images (name TEXT)")


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE vectors (name TEXT)")
        connection.execute(f"PRAGMA application_id = {FORMAT[0]}")
        connection.execute(f"PRAGMA user_version = {FORMAT[1] + 1}")


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("spoil", [damaged, foreign, newer, folder])
def test_an_unusable_file_is_left_alone_with_one_warning(tmp_path: Path, spoil) -> None:
    path = tmp_path / "features.sqlite3"
    spoil(path)
    before = None if path.is_dir() else path.read_bytes()
    works_in_memory(FeatureStore(path))
    assert path.is_dir() if before is None else path.read_bytes() == before


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    works_in_memory(FeatureStore(tmp_path / "file" / "features.sqlite3"))


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        works_in_memory(FeatureStore(folder / "features.sqlite3"))
    finally:
        folder.chmod(0o700)


def works_in_memory(store: FeatureStore) -> None:
    with pytest.warns(RuntimeWarning) as caught:
        store.add_images("model", {("centre", "d"): vector(0)})
        store.add_texts("model", {"a dam": vector(1)})
        found = store.images("model", "centre", ["d"], DIM)
    assert len(caught) == 1
    assert str(store.path) in str(caught[0].message)
    np.testing.assert_array_equal(found["d"], vector(0))
    store.close()


def test_a_file_damaged_in_the_middle(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features.sqlite3")
    keys = [f"{i:064d}" for i in range(400)]
    store.add_images("model", {("centre", key): vector(0) for key in keys})
    store._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    content = bytearray(store.path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # the first page, with the schema, is whole
    store.path.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="features.sqlite3") as caught:
        assert store.images("model", "centre", keys, DIM) == {}
        store.add_images("model", {("centre", "d"): vector(0)})
        assert store.images("model", "centre", ["d"], DIM)
    assert len(caught) == 1
    store.close()


@pytest.mark.parametrize("spoil", ["max_page_count = 1", "query_only = ON"])
def test_a_full_or_read_only_disk_ends_writing_but_not_reading(tmp_path: Path, spoil: str) -> None:
    store = FeatureStore(tmp_path / "features.sqlite3")
    store.add_images("model", {("centre", "first"): vector(0)})
    store._connection().execute(f"PRAGMA {spoil}")  # SQLite's own errors, without a full disk
    with pytest.warns(RuntimeWarning, match="features.sqlite3") as caught:
        for i in range(3):
            store.add_images("model", {("centre", f"{i}-{j}"): vector(j) for j in range(200)})
        assert store.images("model", "centre", ["first"], DIM)
    assert len(caught) == 1
    assert "nothing more is kept" in str(caught[0].message)
    assert not store.images("model", "centre", ["0-0"], DIM)
    store.close()
