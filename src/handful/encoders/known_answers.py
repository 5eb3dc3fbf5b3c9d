"""What public checkpoints are known to give: the answers that ``check`` compares with."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from handful.errors import InputError, did_you_mean

__all__ = ["KnownAnswers", "demand", "known_answers", "name_of_spec", "named"]


@dataclass(frozen=True, eq=False)
class KnownAnswers:
    """The answers of one checkpoint; sources and licences are in ``data/known_answers.toml``.

    Attributes:
        name: public name, the one on the hub where there is one.
        aliases: other names of the same weights.
        logit_scale: the learnt factor on the cosines.
        size: side of the input in pixels.
        mean: of the normalisation, one number per channel, on the scale 0 to 1.
        std: the same.
        tokens: text to token ids, start and end included.
        prompts: texts whose features are known.
        text_features: float32 ``(P, D)``, unit rows, one per prompt; None where not known.
        pooled_image: three numbers that others publish, never re-checked here; None where there
            are none. So are ``pooled_text`` and ``noise_mean``.
    """

    name: str
    aliases: tuple[str, ...]
    logit_scale: float
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tokens: Mapping[str, tuple[int, ...]]
    prompts: tuple[str, ...]
    text_features: npt.NDArray[np.float32] | None
    pooled_image: tuple[float, ...] | None
    pooled_text: tuple[float, ...] | None
    noise_mean: float | None


@cache
def known_answers() -> tuple[KnownAnswers, ...]:
    """Return the answers of every known checkpoint."""
    from safetensors.numpy import load

    data = resources.files("handful.encoders").joinpath("data")
    table = tomllib.loads(data.joinpath("known_answers.toml").read_text("utf-8"))
    features = load(data.joinpath("known_answers.safetensors").read_bytes())
    openai = table["openai"]
    return tuple(
        KnownAnswers(
            name=model["name"],
            aliases=tuple(model["aliases"]),
            logit_scale=openai["logit_scale"],
            size=openai["size"],
            mean=tuple(openai["mean"]),
            std=tuple(openai["std"]),
            tokens=MappingProxyType({text: tuple(ids) for text, ids in openai["tokens"].items()}),
            prompts=tuple(openai["prompts"]),
            text_features=_unit(features[model["name"]]) if model["text_features"] else None,
            pooled_image=_three(model.get("pooled_image")),
            pooled_text=_three(model.get("pooled_text")),
            noise_mean=model.get("noise_mean"),
        )
        for model in table["model"]
    )


def _unit(rows: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    # Half precision has left their lengths off by up to a thousandth, as much as is allowed to the
    # cosines.
    wide = rows.astype(np.float32)
    unit: npt.NDArray[np.float32] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit


def _three(numbers: list[float] | None) -> tuple[float, ...] | None:
    return None if numbers is None else tuple(numbers)


def name_of_spec(spec: str) -> str:
    """Return the public name in a spec: without ``hf:``, revision and options.

    >>> name_of_spec("hf:openai/clip-vit-base-patch32@3d74acf?crop=floor")
    'openai/clip-vit-base-patch32'
    >>> name_of_spec("open_clip:RN50/openai")
    'open_clip:RN50/openai'
    """
    return spec.partition("?")[0].partition("@")[0].removeprefix("hf:")


def named(name: str) -> KnownAnswers | None:
    """Return the answers of the checkpoint of this name, alias or spec; None where unknown.

    A folder's name says nothing of what is in it, so ``dir:`` specs are unknown.
    """
    wanted = name_of_spec(name)
    for answers in known_answers():
        if wanted in (answers.name, *answers.aliases):
            return answers
    return None


def demand(name: str) -> KnownAnswers:
    """Return the answers of the checkpoint that the user names.

    Raises:
        InputError: nothing is known under this name.
    """
    if answers := named(name):
        return answers
    names = [known.name for known in known_answers()]
    every = [word for known in known_answers() for word in (known.name, *known.aliases)]
    raise InputError(
        f"no answers are known for the checkpoint {name!r}: name one of {', '.join(names)}."
        f"{did_you_mean(name_of_spec(name), every)}"
    )
