"""Checkpoints that are damaged, incomplete, dangerous or no encoders: one sentence each."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from handful import load_encoder
from handful.encoders.checkpoint.files import read_weights
from handful.errors import InputError

WEIGHTS = "model.safetensors"


@pytest.fixture
def checkpoint(tiny: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a copy of a tiny checkpoint that a test may spoil."""

    def copy(name: str = "clip") -> Path:
        return shutil.copytree(tiny(name), tmp_path / name)

    return copy


def refusal(folder: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        load_encoder(f"dir:{folder}")
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 600
    return sentence


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize("path", ["", "/no/such/folder"])
def test_no_folder(path: str) -> None:
    assert "names no folder" in refusal(path)


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "no config.json" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff", "[" * 100_000])
def test_a_damaged_configuration(checkpoint, content: str) -> None:
    folder = checkpoint()
    (folder / "config.json").write_text(content, "latin-1")
    assert "config.json is damaged" in refusal(folder)


def test_a_configuration_of_strange_values(checkpoint) -> None:
    folder = checkpoint()
    change_config(folder, vision_config={"hidden_size": "many"})
    assert "config.json" in refusal(folder)


def test_no_weights(checkpoint) -> None:
    folder = checkpoint()
    (folder / WEIGHTS).unlink()
    assert "has no weights: expected model.safetensors or pytorch_model.bin" in refusal(folder)


@pytest.mark.parametrize("left", [0, 4, 1000, -1])
def test_a_file_cut_short(checkpoint, left: int) -> None:
    folder = checkpoint()
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:left])
    assert "is damaged or cut short" in refusal(folder)


@pytest.mark.parametrize("left", [0, 4, 1000, -100])
def test_a_pickled_file_cut_short(checkpoint, left: int) -> None:
    folder = checkpoint()
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    content = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(content[:left])
    assert "is damaged or cut short" in refusal(folder)


class Malice:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("save", ["torch", "pickle"])
def test_a_pickle_that_would_run_code(checkpoint, save: str, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    folder = checkpoint()
    (folder / WEIGHTS).unlink()
    content = {"weight": torch.zeros(2), "x": Malice()}
    if save == "torch":
        torch.save(content, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content))
    assert "could run code, so it is refused" in refusal(folder)
    assert not (tmp_path / "pwned").exists()


def test_a_pickle_of_something_else(checkpoint) -> None:
    folder = checkpoint()
    (folder / WEIGHTS).unlink()
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, folder / "pytorch_model.bin")
    assert "not a table of named tensors" in refusal(folder)


def test_a_pickle_is_converted_once(checkpoint, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    folder = checkpoint()
    expected = load_encoder(f"dir:{folder}")
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    # Tensors that share memory are common in pickles, and safetensors refuses them.
    tensors["shared"] = tensors["visual_projection.weight"].T
    torch.save({k: v for k, v in tensors.items() if k != "shared"}, folder / "pytorch_model.bin")
    assert load_encoder(f"dir:{folder}").fingerprint == expected.fingerprint
    said = capsys.readouterr().err
    assert said.count("was converted to safetensors once") == 1
    kept = list((tmp_path / "cache" / "converted").iterdir())
    assert [path.suffix for path in kept] == [".safetensors"]

    monkeypatch.setattr(torch, "load", None)  # not read again
    assert load_encoder(f"dir:{folder}").fingerprint == expected.fingerprint
    assert "converted" not in capsys.readouterr().err


def test_a_damaged_conversion_is_made_anew(checkpoint, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    folder = checkpoint()
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    read_weights(folder)
    [kept] = (tmp_path / "cache" / "converted").iterdir()
    kept.write_bytes(kept.read_bytes()[:-7])
    again = read_weights(folder)
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    assert load_file(kept).keys() == tensors.keys()


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": whole, "b": whole.T, "c": whole[0]}, tmp_path / "pytorch_model.bin")
    found = read_weights(tmp_path)
    assert torch.equal(found["b"], whole.T)
    assert torch.equal(found["c"], whole[0])


def test_missing_weights(checkpoint) -> None:
    folder = checkpoint()
    change_weights(folder, lambda t: [t.pop(k) for k in list(t) if "layers.1.mlp.fc1" in k])
    sentence = refusal(folder)
    assert "lacks" in sentence
    assert "layers.1.mlp.fc1" in sentence


def test_left_over_weights(checkpoint) -> None:
    folder = checkpoint()
    change_weights(folder, lambda t: t.update({"adapter.weight": torch.zeros(3)}))
    assert "adapter.weight" in refusal(folder)


def test_weights_of_another_shape(checkpoint) -> None:
    folder = checkpoint()
    change_config(folder, projection_dim=20)
    assert "in another shape than its config.json says" in refusal(folder)


def test_vision_only_may_carry_a_head_but_nothing_else(checkpoint) -> None:
    folder = checkpoint("dinov2")
    expected = load_encoder(f"dir:{folder}").fingerprint
    change_weights(folder, lambda t: t.update({"classifier.weight": torch.zeros(5, 32)}))
    assert load_encoder(f"dir:{folder}").fingerprint == expected
    change_weights(folder, lambda t: t.update({"neck.weight": torch.zeros(5, 32)}))
    assert "neck.weight" in refusal(folder)


def test_a_shard_is_missing_or_elsewhere(checkpoint) -> None:
    folder = checkpoint()
    (folder / WEIGHTS).rename(folder / "part.safetensors")
    index = folder / f"{WEIGHTS}.index.json"
    for shard, words in (
        ("other.safetensors", "lacks other.safetensors"),
        ("../part.safetensors", "no file beside it"),
        (7, "no file beside it"),
    ):
        index.write_text(json.dumps({"weight_map": {"a": shard}}))
        assert words in refusal(folder)
    index.write_text(json.dumps({"weight_map": None}))
    assert "has no weights" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "bert"}, "'bert'.*does not encode images"),
        ({"model_type": "align"}, "'align'.*dual encoder that handful does not know.*clip"),
        ({"model_type": "clip_of_2031"}, "unknown to transformers .*upgrade"),
        ({"model_type": None}, "model type None .*unknown"),
        ({"model_type": ["clip"]}, "config.json"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "program code of its own"),
    ],
)
def test_models_that_are_no_encoders(checkpoint, changes: dict[str, Any], words: str) -> None:
    import re

    folder = checkpoint()
    change_config(folder, **changes)
    assert re.search(words, refusal(folder))


def test_no_tokenizer(checkpoint) -> None:
    folder = checkpoint()
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    assert "has no tokenizer" in refusal(folder)


def test_a_damaged_tokenizer(checkpoint) -> None:
    folder = checkpoint("altclip")
    (folder / "tokenizer.json").write_text("{")
    assert "tokenizer files in" in refusal(folder)


def test_pixels_that_do_not_fit_the_model(checkpoint) -> None:
    folder = checkpoint()
    (folder / "preprocessor_config.json").write_text('{"size": 48, "crop_size": 48}')
    assert "refuses pictures of 48 × 48 pixels" in refusal(folder)


def test_a_device_that_is_not_there(tiny, monkeypatch) -> None:
    for device in ("warp", "cuda:17"):
        monkeypatch.setenv("HANDFUL_DEVICE", device)
        with pytest.raises(InputError, match=f"HANDFUL_DEVICE is '{device}'.*cpu"):
            load_encoder(f"dir:{tiny('clip')}")
    monkeypatch.setenv("HANDFUL_DEVICE", "cpu")
    assert load_encoder(f"dir:{tiny('clip')}").device == torch.device("cpu")


def test_loading_is_silent_and_leaves_randomness_alone(tiny, capfd) -> None:
    folders = [tiny(name) for name in ("clip", "siglip", "vit-classifier")]
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    capfd.readouterr()
    for folder in folders:
        load_encoder(f"dir:{folder}")
    assert torch.equal(torch.rand(3), expected)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_pixels_of_the_wrong_kind(tiny) -> None:
    encoder = load_encoder(f"dir:{tiny('clip')}")
    with pytest.raises(InputError, match=r"float32 .*expects uint8 \(N, 32, 32, 3\)"):
        encoder.encode_images(np.zeros((2, 32, 32, 3), np.float32))
