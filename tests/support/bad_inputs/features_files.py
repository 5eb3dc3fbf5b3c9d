"""Features files whose parts do not fit, or that are damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from bad_inputs.place import Place, bad
from safetensors import safe_open
from safetensors.numpy import save_file

FILE = "photos.safetensors"


def _changed(place: Place, change: Callable[[dict[str, Any], dict[str, str]], object]) -> None:
    """Write the features file with its tensors or its metadata changed."""
    path = place / FILE
    with safe_open(path, framework="np") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    change(tensors, metadata)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, metadata)


@bad("a text file named `.safetensors`")
def text(place: Place) -> None:
    place.write(FILE, "no features")


@bad("a features file that is cut short")
def truncated(place: Place) -> None:
    content = (place / FILE).read_bytes()
    place.write(FILE, content[: len(content) // 2])


@bad("a features file without `image_features`")
def no_images(place: Place) -> None:
    _changed(place, lambda tensors, _: tensors.pop("image_features"))


@bad("a features file with fewer labels than images")
def fewer_labels(place: Place) -> None:
    _changed(place, lambda tensors, _: tensors.update(labels=tensors["labels"][:-1]))


@bad("a features file with images and texts of different widths")
def widths(place: Place) -> None:
    _changed(
        place, lambda tensors, _: tensors.update(image_features=tensors["image_features"][:, :64])
    )


@bad("a features file with a flat tensor")
def flat(place: Place) -> None:
    _changed(
        place, lambda tensors, _: tensors.update(image_features=tensors["image_features"].ravel())
    )


@bad("a features file with NaN")
def nan(place: Place) -> None:
    _changed(place, lambda tensors, _: tensors["image_features"].__setitem__((4, 7), np.nan))


@bad("a features file with a label beyond its classes")
def label_beyond(place: Place) -> None:
    _changed(place, lambda tensors, _: tensors["labels"].__setitem__(2, 3))


@bad("a features file whose labels are fractions")
def label_fractions(place: Place) -> None:
    _changed(place, lambda tensors, _: tensors.update(labels=tensors["labels"].astype(np.float32)))


@bad("a features file with an unknown split")
def unknown_split(place: Place) -> None:
    _changed(place, lambda tensors, _: tensors["split"].__setitem__(0, 7))


@bad("a features file without labels")
def no_labels(place: Place) -> None:
    _changed(place, lambda tensors, _: tensors.pop("labels"))


@bad("a features file with too few class names")
def few_names(place: Place) -> None:
    _changed(place, lambda _, metadata: metadata.update(class_names=json.dumps(["dam", "fish"])))


@bad("a features file whose class names are no list")
def no_list(place: Place) -> None:
    _changed(place, lambda _, metadata: metadata.update(class_names="dam, fish, windmill"))


@bad("a features file with a class name twice")
def name_twice(place: Place) -> None:
    names = json.dumps(["dam", "fish", "dam"])
    _changed(place, lambda _, metadata: metadata.update(class_names=names))


@bad("a features file of one class")
def one_class(place: Place) -> None:
    _changed(place, lambda tensors, _: tensors.update(labels=np.zeros_like(tensors["labels"])))


@bad("a features file with a wrong logit scale")
def logit_scale(place: Place) -> None:
    _changed(place, lambda _, metadata: metadata.update(logit_scale="-1"))


@bad("a features file of another encoder")
def other_encoder(place: Place) -> None:
    _changed(place, lambda _, metadata: metadata.update(encoder="RN50", fingerprint="f" * 64))


@bad("a features file without metadata")
def no_metadata(place: Place) -> None:
    _changed(place, lambda _, metadata: metadata.clear())


@bad("a features file that you may not read")
def forbidden(place: Place) -> None:
    place.forbid(FILE)


@bad("no such features file")
def missing(place: Place) -> None:
    (place / FILE).unlink()


@bad("a features file without features before the projection")
def no_pooled(place: Place) -> None:
    assert (place / FILE).is_file()


@bad("a features file with a projection and no features before it")
def no_pooled_but_projection(place: Place) -> None:
    _changed(place, lambda tensors, _: tensors.update(projection=np.eye(1280, dtype=np.float32)))


@bad("a features file where images are needed")
def features_for_images(place: Place) -> None:
    assert (place / FILE).is_file()
