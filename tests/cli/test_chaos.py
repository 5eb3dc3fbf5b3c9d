"""Nothing is lost: ``embed`` killed at random moments, and several at once on one store.

``HANDFUL_KILLS`` is the number of kills: 20, and 100 in ``make chaos``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful import load_features

KILLS = int(os.environ.get("HANDFUL_KILLS", "20"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def satellite(shared: Path) -> Path:
    return shared / "data" / "whu-rs19" / "images"


def embed(images: Path, out: Path, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "handful.cli.main",
            "embed",
            str(images),
            "--out",
            str(out),
            "--json",
        ],
        env={**os.environ, "HANDFUL_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    document: dict[str, Any] = json.loads(out)
    return document


def kept(cache: Path) -> int:
    """How many image vectors a store holds; it must be whole."""
    path = cache / "features.sqlite3"
    if not path.exists():
        return 0
    with sqlite3.connect(path, timeout=30) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'images'").fetchone():
            return 0
        count: int = connection.execute("SELECT count(*) FROM images").fetchone()[0]
        return count


@pytest.fixture(scope="module")
def undisturbed(satellite: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    folder = tmp_path_factory.mktemp("undisturbed")
    ended(embed(satellite, folder / "features.safetensors", folder / "cache"))
    return load_features(folder / "features.safetensors").image_features


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_at_random_moments(satellite: Path, undisturbed: np.ndarray, tmp_path: Path) -> None:
    out, cache = tmp_path / "features.safetensors", tmp_path / "cache"
    generator = random.Random(KILLS)
    before, in_the_middle = 0, 0
    for _ in range(KILLS):
        process = embed(satellite, out, cache)
        # Half of the kills wait until the run has begun to encode, which takes some seconds;
        # the others hit whatever it does before.
        if generator.random() < 0.5:
            end = time.monotonic() + 60
            while kept(cache) == before < len(undisturbed) and process.poll() is None:
                assert time.monotonic() < end
                time.sleep(0.05)
            time.sleep(generator.uniform(0, 0.5))
        else:
            time.sleep(generator.uniform(0, 4))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        after = kept(cache)
        assert after >= before
        in_the_middle += before < after < len(undisturbed)
        before = after
        if out.exists():  # whole, or not there
            assert len(load_features(out).image_features) == len(undisturbed)
            out.unlink()
    assert in_the_middle >= 3
    last = ended(embed(satellite, out, cache))
    assert last["encoded"] + last["reused"] == len(undisturbed)
    assert last["reused"] >= before
    # Other batches than in the undisturbed run: sums in another order.
    np.testing.assert_allclose(load_features(out).image_features, undisturbed, rtol=1e-4, atol=1e-4)
    again = ended(embed(satellite, tmp_path / "again.safetensors", cache))
    assert (again["encoded"], again["reused"]) == (0, len(undisturbed))
    leftovers = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert len(leftovers) <= KILLS


@pytest.mark.parametrize("count", [2, 4])
def test_several_at_once(
    satellite: Path, undisturbed: np.ndarray, tmp_path: Path, count: int
) -> None:
    cache = tmp_path / "cache"
    outs = [tmp_path / f"{n}.safetensors" for n in range(count)]
    documents = [ended(p) for p in [embed(satellite, out, cache) for out in outs]]
    # Identical images are one; each is encoded by exactly one of the processes.
    assert sum(document["encoded"] for document in documents) == kept(cache)
    assert kept(cache) <= len(undisturbed)
    for out in outs:
        np.testing.assert_allclose(
            load_features(out).image_features, undisturbed, rtol=1e-4, atol=1e-4
        )
