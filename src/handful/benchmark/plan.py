"""What is to be run: from flags, or from a TOML file with the same names."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handful.benchmark.one_run import Run
from handful.benchmark.protocols import PROTOCOLS
from handful.benchmark.sources import Source, features_source, images_source
from handful.errors import InputError, did_you_mean
from handful.methods import registry
from handful.selection.select import POLICIES, check_request

__all__ = ["Plan", "numbers", "read_plan", "words"]

LARGEST = 2**32 - 1  # seed of numpy's old generator
TEXT, TEXTS, NUMBERS = "a text", "a list of texts", "a list of whole numbers"
TABLES = "tables, such as [settings.all]"
KINDS = {
    "features": TEXTS,
    "images": TEXTS,
    "encoder": TEXT,
    "templates": TEXTS,
    "methods": TEXTS,
    "shots": NUMBERS,
    "seeds": NUMBERS,
    "protocol": TEXT,
    "select": TEXT,
    "settings": TABLES,
}


@dataclass(frozen=True)
class Plan:
    """Methods × sources × shots × seeds, under one protocol and one selection policy.

    Attributes:
        features: features files.
        images: image folders, tables, and whatever else ``handful fit`` takes.
        encoder: of the images; None is the default.
        templates: of the class names of the images; None is the encoder's own.
        methods: names; all there are if left out.
        shots, seeds: numbers.
        protocol, select: one name each.
        settings: by method, or for every method that has them under ``all``.
    """

    features: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    encoder: str | None = None
    templates: tuple[str, ...] | None = None
    methods: tuple[str, ...] = field(default_factory=lambda: tuple(registry.names()))
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    seeds: tuple[int, ...] = (1, 2, 3)
    protocol: str = "coop"
    select: str = "val"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.features and not self.images:
            raise InputError(
                "there is nothing to run on: give --features FILE.safetensors, or --images FOLDER."
            )
        for what, value, known in (
            ("protocol", self.protocol, tuple(PROTOCOLS)),
            ("selection policy", self.select, POLICIES),
        ):
            if value not in known:
                raise InputError(
                    f"there is no {what} '{value}'.{did_you_mean(value, known)} Use one of"
                    f" {', '.join(known)}."
                )
        for what, numbers in (("shots", self.shots), ("seeds", self.seeds)):
            least = 1 if what == "shots" else 0
            if not numbers or min(numbers) < least or max(numbers) > LARGEST:
                raise InputError(
                    f"{what} are {list(numbers)}: expected numbers from {least} to {LARGEST}."
                )
        if not self.methods:
            raise InputError(f"there is no method to run: name some of {registry.names()}.")
        known_settings = {n for method in self.methods for n in registry.get(method)().settings()}
        for name in self.settings.get("all", {}):
            if name not in known_settings:
                raise InputError(
                    f"no method of this plan has the setting '{name}'."
                    f"{did_you_mean(name, known_settings)}"
                )
        for method in dict.fromkeys((*self.methods, *self.settings)):
            if method != "all":
                check_request(method, self.select, self._given(method))

    def sources(self) -> list[Source]:
        """Read the features files, and encode the images.

        Raises:
            InputError: one cannot be read, or two have one name.
        """
        found = [features_source(Path(path)) for path in self.features]
        if self.images:
            from handful.encoders.default import default_encoder
            from handful.encoders.spec import load_encoder

            encoder = load_encoder(self.encoder or default_encoder().spec)
            found += [images_source(images, encoder, self.templates) for images in self.images]
        by_name: dict[str, Source] = {}
        by_digest: dict[str, Source] = {}
        for source in found:
            if by_name.setdefault(source.name, source) is not source:
                raise InputError(
                    f"two sources are called '{source.name}': rename one of the files."
                )
            if (same := by_digest.setdefault(source.digest, source)) is not source:
                raise InputError(
                    f"{source.name} is the same as {same.name}: leave one of them out."
                )
        return found

    def runs(self, source: Source) -> dict[tuple[int, int], list[Run]]:
        """Return the runs on one source, by shots and seed: all methods see the same draw."""
        return {
            (k, seed): [
                Run(source.digest, self.protocol, self.select, k, seed, method, self._pairs(method))
                for method in self.methods
            ]
            for k in self.shots
            for seed in self.seeds
        }

    def _pairs(self, method: str) -> tuple[tuple[str, Any], ...]:
        return tuple(sorted(self._given(method).items()))

    def _given(self, method: str) -> dict[str, Any]:
        """Return the settings for a method: its own, and those of all that it has."""
        has = registry.get(method)().settings()
        for_all = self.settings.get("all", {})
        own: Mapping[str, Any] = self.settings.get(method, {})
        return {**{n: v for n, v in for_all.items() if n in has}, **own}


def read_plan(path: Path, **flags: Any) -> Plan:
    """Read a plan from a TOML file; flags that are not None replace what it says.

    Paths in the file start from its folder.

    Raises:
        InputError: the file is damaged, or has a key that is none.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the plan {path} cannot be read ({error}).") from error
    for key, value in table.items():
        if key not in KINDS:
            raise InputError(
                f"the plan {path} has the key '{key}': expected {', '.join(KINDS)}."
                f"{did_you_mean(key, KINDS)}"
            )
        if not _is(value, KINDS[key]):
            raise InputError(f"{key} in the plan {path} is {value!r}: expected {KINDS[key]}.")
        if isinstance(value, list):
            table[key] = tuple(value)
    for key in ("features", "images"):
        table[key] = tuple(_from(path.parent, one) for one in table.get(key, ()))
    return Plan(**(table | {key: value for key, value in flags.items() if value is not None}))


def _is(value: Any, kind: str) -> bool:
    if kind == TEXT:
        return isinstance(value, str)
    if kind == TABLES:
        return isinstance(value, dict) and all(isinstance(one, dict) for one in value.values())
    # True and False are integers to Python.
    wanted = str if kind == TEXTS else int
    return isinstance(value, list) and all(type(one) is wanted for one in value)


def _from(folder: Path, name: str) -> str:
    # Forms such as coop:SPLIT.json@ROOT start from where the command runs.
    return name if ":" in name else str(folder / name)


def numbers(text: str, what: str) -> tuple[int, ...]:
    """Read ``1,2,4`` or ``1-3``.

    Raises:
        InputError: something else.
    """
    found: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            found += range(int(first), int(last) + 1) if dash else [int(first)]
    except ValueError:
        found = []
    if not found:
        raise InputError(f"--{what} is '{text}': expected numbers such as 1,2,4 or 1-3.")
    return tuple(dict.fromkeys(found))


def words(values: Sequence[str]) -> tuple[str, ...]:
    """Read a repeatable flag whose values may hold several words, parted by commas."""
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())
