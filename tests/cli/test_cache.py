"""``handful cache``: what is kept, and gone after ``clear``."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_nothing_is_kept(handful, cache: Path) -> None:
    found = handful("cache", "info", "--json").document()
    assert found["bytes"] == 0
    assert all(part["entries"] == 0 for part in found["parts"])
    assert not cache.exists()  # looking makes nothing
    assert handful("cache", "clear", "--json").document() == {"freed": 0}
    assert not cache.exists()


def test_what_is_kept_is_counted_and_cleared(
    handful, learnt: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "f.safetensors"
    first = handful("embed", learnt, "--out", out, "--json").document()
    (cache / "converted").mkdir()
    (cache / "converted" / "x.safetensors").write_bytes(bytes(1_000_000))
    (cache / "somebody's own").write_text("stays")
    found = handful("cache", "info", "--json").document()
    parts = {Path(part["path"]).name: part for part in found["parts"]}
    # One vector for each image and each of the three class names.
    assert parts["features.sqlite3"]["entries"] == first["encoded"] + 3
    assert parts["converted"]["bytes"] == 1_000_000
    assert found["bytes"] == sum(part["bytes"] for part in found["parts"])
    said = handful("cache", "info").done()
    assert f"features: {first['encoded']} image views, 3 texts" in said

    assert handful("cache", "clear", "--json").document()["freed"] > 1_000_000
    after = handful("cache", "info", "--json").document()
    assert all(part["entries"] == 0 for part in after["parts"])
    assert (cache / "somebody's own").read_text() == "stays"
    again = handful("embed", learnt, "--out", out, "--force", "--json").document()
    assert again["encoded"] == first["encoded"]


def test_half_a_features_file(handful, learnt: Path, tmp_path: Path) -> None:
    sizes = {}
    for flag in ("", "--half"):
        out = tmp_path / f"f{flag}.safetensors"
        handful("embed", learnt, "--out", out, *([flag] if flag else [])).done()
        sizes[flag] = out.stat().st_size
    assert sizes["--half"] < 0.55 * sizes[""]
    fitted = handful("fit", tmp_path / "f--half.safetensors", "--out", tmp_path / "m", "--json")
    assert fitted.document()["classes"] == ["dam", "fish", "windmill"]
