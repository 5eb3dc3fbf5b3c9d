"""The same training, shared out among processes that torchrun starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from dino_worker import SMALL, views
from safetensors.numpy import load_file
from toy_tuning import coloured

from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.progress import first_process, notice
from handful.tuning import dino_run
from handful.tuning.dino import train_dino
from handful.tuning.processes import Processes, joined

WORKER = Path(__file__).resolve().parent.parent / "support" / "dino_worker.py"
Arrays = dict[str, npt.NDArray[Any]]


class StoppedError(Exception):
    pass


def stop_at(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    real = dino_run.DinoRun._step

    def step(self: Any, number: int, *rest: Any) -> None:
        if number == last:
            raise StoppedError
        real(self, number, *rest)

    monkeypatch.setattr(dino_run.DinoRun, "_step", step)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures."""
    made = tmp_path_factory.mktemp("twelve")
    coloured(made, 4)
    return made


@pytest.mark.slow
def test_two_processes_are_as_good_as_one(
    clip: Encoder,
    folder: Path,
    tiny: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twenty steps of both forms, and seven more of a run that one process began."""
    paths = sorted(folder.iterdir())
    one = {"blocks": train_dino(clip, paths, form="blocks", settings=SMALL, seed=1)}
    one["again"] = train_dino(clip, paths, form="blocks", settings=SMALL, seed=2)
    one["rows"] = train_dino(None, views(), form="projection", settings=SMALL | {"clip": 1.0})
    assert {c.record["steps"] for c in one.values()} == {20}
    monkeypatch.setattr("handful.tuning.resume._COST", float("inf"))  # written after every step
    stop_at(monkeypatch, 13)
    with pytest.raises(StoppedError):
        train_dino(clip, paths, form="blocks", settings=SMALL, seed=2, checkpoint=tmp_path / "run")

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    given = [tiny("clip"), folder, tmp_path / "run", tmp_path]
    ran = subprocess.run(
        [*torchrun, "--nproc_per_node", "2", str(WORKER), *map(str, given)],
        env=os.environ | {"HANDFUL_DEVICE": "cpu", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "process 0 of 2" in ran.stderr and "process 1 of 2" not in ran.stderr
    assert len(list((tmp_path / "run").iterdir())) == 1  # no process began a run of its own
    two: list[Arrays] = [load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1)]
    for name, array in two[0].items():
        assert np.array_equal(array, two[1][name]), name
    for kind, correction in one.items():
        for name, array in correction.arrays.items():
            close(two[0][f"{kind}.{name}"], array)
        assert (
            np.abs(correction.arrays[f"{'' if kind == 'rows' else '1-mlp.'}up.weight"]).max() > 0.01
        )
        close(two[0][f"{kind}.losses"], np.array(correction.record["losses"]))


def close(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_alone_nothing_is_asked_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as alone, joined() as again:
        assert alone == again == Processes(0, 1) and alone.first
        numbers = torch.arange(3.0)
        alone.add([numbers])
        alone.agree(7, "anything")
        assert numbers.tolist() == [0, 1, 2]
        assert alone.share([5, 3, 8]) == [5, 3, 8]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shares_are_a_partition(count: int) -> None:
    items = [9, 4, 7, 1, 2, 8, 3]
    shares = [Processes(rank, count).share(items) for rank in range(count)]
    assert sorted(item for share in shares for item in share) == sorted(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [Processes(rank, count).first for rank in range(count)] == [True] + [False] * (count - 1)


def test_processes_that_do_not_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match=r"the 2 processes of torchrun cannot be joined"), joined():
        pass


def test_more_processes_than_images_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    from handful.tuning import dino

    monkeypatch.setattr(dino, "joined", lambda: nullcontext(Processes(0, 7)))
    with pytest.raises(InputError, match="7 processes would share batches of 6 images"):
        train_dino(None, views(), form="projection", settings=SMALL)


@pytest.mark.parametrize(
    ("rank", "world", "speaks"), [("0", "2", True), ("1", "2", False), ("1", "1", True)]
)
def test_only_the_first_process_speaks(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rank: str,
    world: str,
    speaks: bool,
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    notice("hello")
    assert first_process() is speaks
    assert ("hello" in capsys.readouterr().err) is speaks
