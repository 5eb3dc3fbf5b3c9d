"""The saved form of a correction: one file, checked when it is read."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from shaken_correction import shaken

from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.tuning import correction_file
from handful.tuning.correction import FORMS, Correction

forms = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def saved(clip: Encoder, tmp_path: Path) -> Path:
    path = tmp_path / "correction.safetensors"
    shaken(clip, "blocks").save(path)
    return path


def changed(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """Write the file once more, with what ``change`` does to its tensors and what it tells."""
    tensors, told = dict(load_file(path)), header(path)
    change(tensors, told)
    save_file(tensors, path, {"handful": json.dumps(told)})
    return path


def header(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["handful"])


@forms
def test_saved_and_loaded(clip: Encoder, tmp_path: Path, form: str) -> None:
    correction = shaken(clip, form, layers="last-1")
    path = tmp_path / "new" / "c.safetensors"
    correction.save(path)
    found = Correction.load(str(path))
    assert found.arrays.keys() == correction.arrays.keys()
    for name, array in correction.arrays.items():
        assert np.array_equal(found.arrays[name], array)
    for name in ("form", "objective", "encoder", "encoder_fingerprint", "dim", "class_names"):
        assert getattr(found, name) == getattr(correction, name)
    assert found.settings == correction.settings
    assert found.record == correction.record
    assert np.array_equal(found.digests, correction.digests)
    assert found.fingerprint == correction.fingerprint
    assert found.layers == ((1,) if form == "blocks" else ())
    assert (found.width, found.scale) == (5, 0.7)
    assert list(path.parent.iterdir()) == [path]  # one file, nothing beside it


def test_the_encoder_is_not_in_the_file(saved: Path, clip: Encoder) -> None:
    names = set(load_file(saved))
    parts = ("down.weight", "down.bias", "up.weight", "up.bias")
    blocks = {f"adapter.{layer}-mlp.{part}" for layer in (0, 1) for part in parts}
    assert names == {"digests"} | blocks


def test_a_file_is_not_overwritten_unasked(clip: Encoder, saved: Path) -> None:
    before = saved.read_bytes()
    other = shaken(clip, "projection")
    with pytest.raises(InputError, match="exists already"):
        other.save(saved)
    assert saved.read_bytes() == before
    other.save(saved, overwrite=True)
    assert Correction.load(saved).form == "projection"
    with pytest.raises(InputError, match=r"another ending than \.safetensors"):
        other.save(saved.with_suffix(".pt"))


def test_the_fingerprint_says_what_matters(clip: Encoder) -> None:
    one = shaken(clip, "blocks")
    assert shaken(clip, "blocks").fingerprint == one.fingerprint
    same = replace(one, settings={**one.settings, "dropout": 0.0, "lr": 3}, record={})
    assert same.fingerprint == one.fingerprint
    array = {**one.arrays, "1-mlp.up.bias": one.arrays["1-mlp.up.bias"] + np.float32(1e-3)}
    for other in (
        replace(one, settings={**one.settings, "scale": 0.1}),
        replace(one, encoder_fingerprint="0" * 64),
        replace(one, arrays=array),
        shaken(clip, "projection"),
    ):
        assert other.fingerprint != one.fingerprint


@forms
def test_the_number_of_trained_numbers(clip: Encoder, form: str) -> None:
    r, d, blocks = 5, clip.dim, 2
    wide = 32  # of the vision tower of the tiny checkpoint
    expected = 2 * d * r + r + d if form == "projection" else blocks * (2 * wide * r + r + wide)
    assert shaken(clip, form).trained_parameters() == expected


def test_another_encoder_is_refused(clip: Encoder) -> None:
    one = shaken(clip, "blocks")
    one.check(clip.fingerprint, clip.spec)
    one.check(None, "features.safetensors")  # it does not tell
    with pytest.raises(InputError, match=r"belongs to the encoder .* and lite is 000000000000"):
        one.check("0" * 64, "lite")
    replace(one, encoder_fingerprint=None).check("0" * 64, "lite")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2000] ^= 1
    path.write_bytes(bytes(content))


def no_safetensors(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 something else altogether")


def foreign(path: Path) -> None:
    save_file({"weight": np.zeros(3, np.float32)}, path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def nested(path: Path) -> None:
    save_file({"digests": np.zeros((1, 32), np.uint8)}, path, {"handful": "[" * 200_000})


@pytest.mark.parametrize("damage", [cut_short, flipped, no_safetensors, foreign, empty, nested])
def test_damaged_and_foreign_files(saved: Path, damage: Callable[[Path], None]) -> None:
    damage(saved)
    with pytest.raises(InputError, match=r"is no correction, or it is damaged \(.*\): give") as e:
        Correction.load(saved)
    assert "\n" not in str(e.value)


def remove(*names: str) -> Any:
    return lambda tensors, told: [tensors.pop(name, told.pop(name, None)) for name in names]


def put(name: str, value: Any) -> Any:
    return lambda tensors, told: told.update({name: value})


def tensor(name: str, value: Any) -> Any:
    return lambda tensors, told: tensors.update({name: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("format", 2), "its format is 2, and this handful reads 1"),
        (put("dim", "24"), "its dim is missing or of the wrong type"),
        (put("dim", True), "its dim is missing or of the wrong type"),
        (put("record", None), "its record is missing"),
        (put("class_names", [1]), "its class_names are no texts"),
        (put("form", "prompt"), "it is of the form 'prompt'"),
        (put("objective", "gan"), "objective 'gan'"),
        (put("settings", {"scale": float("nan")}), "its scale is nan"),
        (put("settings", {"scale": 10**400}), "its scale is 10"),
        (put("settings", {}), "its scale is None"),
        (put("settings", {"scale": 0.1}), "its content is not what was written"),
        (put("encoder_fingerprint", None), "its content is not what was written"),
        (remove("digests"), "it has no digests"),
        (tensor("digests", np.zeros((2, 31), np.uint8)), r"digests are uint8 \(2, 31\)"),
        (remove("adapter.0-mlp.up.bias"), r"not whole \(0-mlp.up.bias\)"),
        (tensor("adapter.x", np.zeros(1, np.float32)), "x is no part of an adapter"),
        (
            tensor("adapter.0-mlp.up.bias", np.zeros(32, np.float64)),
            r"0-mlp.up.bias is float64 \(32,\): expected float32 \(32,\)",
        ),
        (
            tensor("adapter.1-mlp.down.weight", np.zeros((4, 32), np.float32)),
            r"1-mlp.down.weight is float32 \(4, 32\): expected float32 \(5, 32\)",
        ),
        (
            tensor("adapter.0-mlp.up.bias", np.full(32, np.inf, np.float32)),
            "0-mlp.up.bias holds NaN or infinity",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_content(saved: Path, change: Any, said: str) -> None:
    with pytest.raises(InputError, match=rf"is no correction, or it is damaged \(.*{said}"):
        Correction.load(changed(saved, change))


def test_a_file_that_is_too_large_is_not_read(saved: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(correction_file, "LARGEST", saved.stat().st_size)
    Correction.load(saved)
    monkeypatch.setattr(correction_file, "LARGEST", saved.stat().st_size - 1)
    with pytest.raises(InputError, match="it has more than 0 MB"):
        Correction.load(saved)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        Correction.load(tmp_path / "gone.safetensors")
    with pytest.raises(InputError, match="is a folder: give a correction"):
        Correction.load(tmp_path)
