"""Encoders that are not there or not whole."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from typing import Any

import torch
from bad_inputs.place import Place, bad
from safetensors.torch import load_file, save_file

WEIGHTS = "clip/model.safetensors"


def _clip(place: Place) -> None:
    """Copy a tiny checkpoint to ``clip``."""
    shutil.copytree(place.tiny("clip"), place / "clip")


def _tensors(place: Place, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    _clip(place)
    tensors = load_file(place / WEIGHTS)
    change(tensors)
    save_file(tensors, place / WEIGHTS)


def _json(place: Place, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    _clip(place)
    content = json.loads((place / name).read_text("utf-8"))
    change(content)
    place.write(name, json.dumps(content))


@bad("an unknown encoder")
@bad("an option that `lite` does not take")
@bad("an unknown option")
@bad("a wrong value of an option")
@bad("no folder at the place of the encoder")
@bad("several encoders for a method that takes one")
@bad("one encoder named twice")
@bad("several encoders for a features file")
def nothing(place: Place) -> None:
    assert not (place / "nowhere").exists()


@bad("a checkpoint without tokenizer")
def no_tokenizer(place: Place) -> None:
    _clip(place)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (place / "clip" / name).unlink()


@bad("a checkpoint with a damaged tokenizer")
def bad_tokenizer(place: Place) -> None:
    _clip(place)
    place.write("clip/vocab.json", "{")


@bad("a checkpoint without `config.json`")
def no_config(place: Place) -> None:
    _clip(place)
    (place / "clip/config.json").unlink()


@bad("a checkpoint with a damaged `config.json`")
def bad_config(place: Place) -> None:
    _clip(place)
    place.write("clip/config.json", '{"model_type": "clip"')


@bad("a checkpoint without `preprocessor_config.json`")
def no_preprocessor(place: Place) -> None:
    _clip(place)
    (place / "clip/preprocessor_config.json").unlink()


@bad("a checkpoint without weights")
def no_weights(place: Place) -> None:
    _clip(place)
    (place / WEIGHTS).unlink()


@bad("a checkpoint whose weights are cut short")
def half_weights(place: Place) -> None:
    _clip(place)
    place.write(WEIGHTS, (place / WEIGHTS).read_bytes()[:-100])


@bad("a checkpoint that lacks a tensor")
def lacks_tensor(place: Place) -> None:
    _tensors(place, lambda tensors: tensors.pop("visual_projection.weight"))


@bad("a checkpoint with a tensor under another name")
def other_name(place: Place) -> None:
    _tensors(place, lambda tensors: tensors.update({"visual.proj": torch.zeros(24, 32)}))


@bad("a checkpoint with a tensor of another shape")
def other_shape(place: Place) -> None:
    _tensors(
        place, lambda tensors: tensors.update({"visual_projection.weight": torch.zeros(24, 16)})
    )


@bad("a checkpoint of an unknown kind of model")
def unknown_model(place: Place) -> None:
    _json(place, "clip/config.json", lambda config: config.update(model_type="clop"))


@bad("a checkpoint that brings its own program")
def own_program(place: Place) -> None:
    _json(place, "clip/config.json", lambda config: config.update(auto_map={"AutoModel": "m.M"}))


@bad("a language model instead of an encoder")
def language_model(place: Place) -> None:
    _clip(place)
    place.write("clip/config.json", json.dumps({"model_type": "gpt2"}))


@bad("a `pytorch_model.bin` that could run a program")
def dangerous(place: Place) -> None:
    _clip(place)
    (place / WEIGHTS).unlink()

    class Program:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, ("run",))

    place.write("clip/pytorch_model.bin", pickle.dumps(Program()))


@bad("a checkpoint with `pytorch_model.bin` only")
def pickled(place: Place) -> None:
    _clip(place)
    torch.save(load_file(place / WEIGHTS), place / "clip/pytorch_model.bin")
    (place / WEIGHTS).unlink()


@bad("a vision-only model for the class names alone")
@bad("an encoder without a projection, where one is needed")
def vision_only(place: Place) -> None:
    shutil.copytree(place.tiny("dinov2"), place / "dino")


@bad("a configuration file that is damaged")
def bad_configuration(place: Place) -> None:
    place.write("config.toml", "encoder = lite")


@bad("a configuration file with an unknown key")
def unknown_key(place: Place) -> None:
    place.write("config.toml", 'encodr = "lite"')
