"""The 1,000 classes of ImageNet, and which of them a shifted test set has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from handful.errors import InputError

__all__ = ["class_mask", "imagenet_classes"]


@cache
def imagenet_classes() -> dict[str, str]:
    """Return WordNet id and name of the 1,000 classes, in index order.

    Two names, missile and sunglasses, stand for two classes each. The second ends in an underscore
    here, which prompts do not show: so a name is a class, and prompts are those of the papers.
    """
    text = resources.files("handful.encoders").joinpath("data/imagenet-classnames.txt")
    names: dict[str, str] = {}
    for line in text.read_text("utf-8").splitlines():
        wordnet, name = line.split(" ", 1)
        names[wordnet] = f"{name}_" if name in names.values() else name
    return names


def class_mask(class_names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the columns of some classes among the 1,000, ``(C,)``.

    A test set of 200 classes is scored by ``logits[:, class_mask(names)]``, in which column c is
    its label c; never by an arg-max over all 1,000.

    Args:
        class_names: of a source of the catalogue, in which each name stands for one WordNet id.

    Raises:
        InputError: a name is none of these classes.
    """
    column = {name: number for number, name in enumerate(imagenet_classes().values())}
    if unknown := [name for name in class_names if name not in column]:
        raise InputError(
            f"'{unknown[0]}' is no class of ImageNet: expected class names of data:imagenet or one"
            " of its shifted test sets."
        )
    return np.array([column[name] for name in class_names], dtype=np.int64)
