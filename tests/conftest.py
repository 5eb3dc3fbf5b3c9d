"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared development data, which is not part of the project."""
    folder = Path(os.environ.get("HANDFUL_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}: set HANDFUL_SHARED to run this test")
    return folder


@pytest.fixture(scope="session")
def photos() -> Path:
    """The photographs that come with the package: nine class folders."""
    return ROOT / "src" / "handful" / "examples" / "photos"


@pytest.fixture(scope="session", autouse=True)
def isolated_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep the tests out of the user's cache; what one test encodes, the others reuse."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["HANDFUL_CACHE"] = str(folder)
    return folder
