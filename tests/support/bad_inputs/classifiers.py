"""Saved classifiers that are damaged, or of another version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from bad_inputs.place import Place, bad
from safetensors.numpy import load, save

CONFIG, WEIGHTS = "things/config.json", "things/model.safetensors"
TRUST = "things/trust.safetensors"


def _config(place: Place, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((place / CONFIG).read_text("utf-8"))
    change(config)
    place.write(CONFIG, json.dumps(config))


def _weights(
    place: Place,
    change: Callable[[dict[str, Any]], object],
    file: str = WEIGHTS,
    digest: str = "weights_sha256",
) -> None:
    """Change the arrays and the digest of them: only what is in them can show it."""
    arrays = load((place / file).read_bytes())
    change(arrays)
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    place.write(file, content)
    found = hashlib.sha256(content).hexdigest()
    _config(place, lambda config: config.update({digest: found}))


@bad("no such classifier")
def missing(place: Place) -> None:
    assert not (place / "thing").exists()


@bad("a folder that is no classifier")
def none(place: Place) -> None:
    assert (place / "photos").is_dir()


@bad("a file instead of a classifier")
def file(place: Place) -> None:
    assert (place / CONFIG).is_file()


@bad("a classifier without `config.json`")
def no_config(place: Place) -> None:
    (place / CONFIG).unlink()


@bad("a classifier without `model.safetensors`")
def no_weights(place: Place) -> None:
    (place / WEIGHTS).unlink()


@bad("a classifier whose `config.json` is cut short")
def half_config(place: Place) -> None:
    place.write(CONFIG, (place / CONFIG).read_bytes()[:100])


@bad("a classifier whose `config.json` lacks a field")
def lacks_field(place: Place) -> None:
    _config(place, lambda config: config.pop("classes"))


@bad("a model of another program")
def other_program(place: Place) -> None:
    place.write(CONFIG, json.dumps({"model_type": "clip"}))


@bad("a classifier of a newer version")
def newer(place: Place) -> None:
    _config(place, lambda config: config.update(format_version=2))


@bad("a classifier of a method of a newer version")
def newer_method(place: Place) -> None:
    _config(place, lambda config: config.update(method="next"))


@bad("a classifier whose `model.safetensors` is cut short")
def half_weights(place: Place) -> None:
    place.write(WEIGHTS, (place / WEIGHTS).read_bytes()[:-100])


@bad("a classifier whose `model.safetensors` lacks an array")
def lacks_array(place: Place) -> None:
    _weights(place, lambda arrays: arrays.pop("keys_"))


@bad("a classifier with an array of another shape")
def other_shape(place: Place) -> None:
    _weights(place, lambda arrays: arrays.update(text_=arrays["text_"][:, :64]))


@bad("a classifier with arrays that do not fit one another")
def no_fit(place: Place) -> None:
    _weights(place, lambda arrays: arrays.update(keys_=arrays["keys_"][:, :64]))


@bad("a classifier with NaN")
def nan(place: Place) -> None:
    _weights(place, lambda arrays: arrays["text_"].__setitem__((0, 0), np.nan))


@bad("a classifier without `trust.safetensors`")
def no_trust(place: Place) -> None:
    (place / TRUST).unlink()


@bad("a classifier whose `trust.safetensors` is cut short")
def half_trust(place: Place) -> None:
    place.write(TRUST, (place / TRUST).read_bytes()[:-100])


@bad("a classifier with support images of another encoder")
def other_support(place: Place) -> None:
    def narrower(arrays: dict[str, Any]) -> None:
        arrays["evidence.features"] = arrays["evidence.features"][:, :64]

    _weights(place, narrower, TRUST, "trust_sha256")


@bad("a classifier saved before there were sets")
def of_before(place: Place) -> None:
    _config(place, lambda config: (config.pop("trust"), config.pop("trust_sha256")))
    (place / TRUST).unlink()


@bad("a classifier with fewer names than classes")
def fewer_names(place: Place) -> None:
    _config(place, lambda config: config["classes"].pop())


@bad("another encoder than the classifier's")
def other_encoder(place: Place) -> None:
    assert (place / CONFIG).is_file()


@bad("a classifier whose encoder has moved")
def moved(place: Place) -> None:
    _config(place, lambda config: config["encoder"].update(spec="dir:/models/my-clip"))


@bad("a classifier whose encoder has changed")
def changed(place: Place) -> None:
    _config(place, lambda config: config["encoder"].update(fingerprint="0" * 64))


@bad("a classifier that you may not read")
def forbidden(place: Place) -> None:
    place.forbid(CONFIG)


@bad("a classifier of features that do not tell their encoder")
def anonymous(place: Place) -> None:
    _config(place, lambda config: config["encoder"].update(spec="", fingerprint=None))
