"""Several processes on one store share the work: claims."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from handful.features import claims
from handful.features.extract import encode_images
from handful.features.store import FeatureStore

A, B, C = (("centre", name) for name in "abc")
ONE = np.ones(6, np.float32)


@pytest.fixture
def two(tmp_path: Path):
    stores = [FeatureStore(tmp_path / "features.sqlite3") for _ in range(2)]
    yield stores
    for store in stores:
        store.close()


def test_what_one_claims_the_other_does_not_get(two) -> None:
    first, second = two
    assert first.claim("model", [A, B], 6) == {A, B}
    assert first.claim("model", [A], 6) == {A}  # again by the same
    assert second.claim("model", [B, C], 6) == {C}
    assert second.claim("other", [A], 6) == {A}  # of another encoder


def test_a_claim_ends_with_the_features(two) -> None:
    first, second = two
    first.claim("model", [A, B], 6)
    first.add_images("model", {A: ONE})
    assert second.claim("model", [A, B], 6) == set()  # one is there, the other is on its way
    rows = second._connection().execute("SELECT digest FROM claims").fetchall()
    assert rows == [("b",)]


def test_a_claim_is_given_up(two) -> None:
    first, second = two
    first.claim("model", [A, B], 6)
    first.release("model", [A])
    assert second.claim("model", [A, B], 6) == {A}


def test_a_damaged_vector_may_be_claimed(two) -> None:
    first, second = two
    first.add_images("model", {A: ONE})
    assert second.claim("model", [A], 6) == set()
    assert second.claim("model", [A], 7) == {A}


def test_an_old_claim_does_not_count(two, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two
    first.claim("model", [A], 6)
    now = time.time()
    for shift, granted in ((claims.VALID_S - 5, set()), (claims.VALID_S + 5, {A}), (-60, {A})):
        monkeypatch.setattr(time, "time", lambda shift=shift: now + shift)
        assert second.claim("model", [A], 6) == granted
        second.release("model", granted)
        first.claim("model", [A], 6)
        second._connection().execute("UPDATE claims SET since = ?", (now,))
        second._connection().commit()


@pytest.mark.skipif(os.name != "posix", reason="elsewhere only the age of a claim tells")
def test_the_claim_of_a_dead_process_does_not_count(two) -> None:
    store = two[0]
    script = (
        "import sys, os; from pathlib import Path; from handful.features.store import FeatureStore;"
        "FeatureStore(Path(sys.argv[1])).claim('model', [('centre', 'a')], 6);"
        "print('claimed', flush=True); sys.stdin.read(); os._exit(9)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(store.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "claimed\n"
    assert store.claim("model", [A], 6) == set()
    other.communicate("")
    assert store.claim("model", [A], 6) == {A}


def test_a_store_that_cannot_be_written_grants_everything(two) -> None:
    first, second = two
    first.claim("model", [A], 6)
    second._connection().execute("PRAGMA query_only = ON")
    assert second.claim("model", [A, B], 6) == {A, B}


class SlowEncoder:
    """Encodes a picture to its mean colour, and counts; waits for a signal first."""

    def __init__(self, encoder, gate: threading.Event) -> None:
        self.encoder, self.gate, self.calls = encoder, gate, 0

    def __getattr__(self, name: str):
        return getattr(self.encoder, name)

    def encode_images(self, pixels):
        self.calls += 1
        assert self.gate.wait(30)
        return self.encoder.encode_images(pixels)


def test_features_of_another_process_are_waited_for(encoder, pictures, two) -> None:
    paths = pictures(9)
    gates = [threading.Event(), threading.Event()]
    slow = [SlowEncoder(encoder, gate) for gate in gates]
    results = {}

    def work(n: int) -> None:
        results[n] = encode_images(slow[n], paths, store=two[n], batch_size=2, workers=1)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]

    def wait_for(calls: int, n: int) -> None:
        end = time.monotonic() + 30
        while slow[n].calls < calls:
            assert time.monotonic() < end
            time.sleep(0.01)

    threads[0].start()
    wait_for(1, 0)  # it holds the first two pictures, and is held up
    gates[1].set()
    threads[1].start()
    wait_for(4, 1)  # the other has done all the others, and waits for these two
    threads[1].join(0.2)
    assert threads[1].is_alive()
    gates[0].set()
    for thread in threads:
        thread.join(60)
    assert (results[0].encoded, results[1].encoded) == (2, 7)
    np.testing.assert_array_equal(results[0].features, results[1].features)
    assert all(r.encoded + r.reused == len(paths) for r in results.values())


def test_what_another_gives_up_is_encoded_here(encoder, pictures, two) -> None:
    paths = pictures(9)
    digests = encode_images(encoder, paths).digests
    keys = [("centre", digest) for digest in digests]
    two[0].claim(encoder.fingerprint, keys, encoder.dim)
    timer = threading.Timer(0.3, two[0].release, (encoder.fingerprint, keys))
    timer.start()
    found = encode_images(encoder, paths, store=two[1], batch_size=2)
    timer.join()
    assert found.encoded == len(set(digests))


def test_an_encoder_that_fails_gives_its_claims_up(encoder, pictures, two, monkeypatch) -> None:
    paths = pictures(9)

    def fail(pixels):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as broken:
        broken.setattr(encoder, "encode_images", fail)
        with pytest.raises(RuntimeError):
            encode_images(encoder, paths, store=two[0])
    assert two[1].info().images == 0
    found = encode_images(encoder, paths, store=two[1])
    assert found.encoded == len(set(found.digests))
