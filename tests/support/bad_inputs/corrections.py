"""Corrections that are none, damaged, or of another encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from bad_inputs.place import Place, bad
from safetensors import safe_open
from safetensors.numpy import save_file
from small_corrections import small_correction

from handful.tuning.correction import Correction

FILE = "c.safetensors"


def _of_things(place: Place, **more: object) -> Correction:
    """Return a correction of the encoder that ``things`` was fitted with."""
    encoder = json.loads((place / "things" / "config.json").read_text("utf-8"))["encoder"]
    given = {"fingerprint": encoder["fingerprint"], "encoder": encoder["spec"]} | more
    return small_correction(encoder["dim"], **given)  # type: ignore[arg-type]


def _saved(place: Place, **more: object) -> Path:
    _of_things(place, **more).save(place / FILE)
    return place / FILE


@bad("no such correction")
def missing(place: Place) -> None:
    _saved(place).rename(place / "corr.safetensors")


@bad("a text file instead of a correction")
def text(place: Place) -> None:
    place.write(FILE, "no correction")


@bad("a features file instead of a correction")
def features(place: Place) -> None:
    place.write(FILE, (place / "photos.safetensors").read_bytes())


@bad("a correction that is cut short")
def truncated(place: Place) -> None:
    content = _saved(place).read_bytes()
    place.write(FILE, content[: len(content) // 2])


@bad("a correction with other numbers than were written")
def changed(place: Place) -> None:
    path = _saved(place)
    with safe_open(path, framework="np") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    arrays["adapter.up.weight"] = arrays["adapter.up.weight"] + np.float32(1)
    save_file(arrays, path, metadata)


@bad("a correction of a later version")
def later(place: Place) -> None:
    path = _saved(place)
    with safe_open(path, framework="np") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        told = json.loads(file.metadata()["handful"])
    save_file(arrays, path, {"handful": json.dumps(told | {"format": 99})})


@bad("a folder instead of a correction")
def folder(place: Place) -> None:
    (place / FILE).mkdir()


@bad("a correction of another encoder")
def other(place: Place) -> None:
    _saved(place, fingerprint="0123456789ab" + 52 * "0", encoder="hf:somebody/clip")


@bad("a correction for a method that compares no images")
def useless(place: Place) -> None:
    _saved(place)


@bad("a method of the corrected space without a correction")
def none(place: Place) -> None:
    pass


@bad("a correction of the form `blocks` for a features file")
def blocks(place: Place) -> None:
    made = _of_things(place)
    arrays = {f"0-mlp.{name}": array for name, array in made.arrays.items()}
    replace(made, form="blocks", arrays=arrays).save(place / FILE)


@bad("a correction trained on nothing that has classes")
def flat(place: Place) -> None:
    for path in place.photographs("fish"):
        place.write(f"flat/{path.name}", path.read_bytes())
