"""What is to be run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from handful.benchmark.exam import OF_OTHERS, TRANSFER, Exam
from handful.benchmark.new_classes import reaches_new_classes
from handful.benchmark.one_run import Run
from handful.benchmark.opened import open_exams, open_sources
from handful.benchmark.protocols import PROTOCOLS
from handful.benchmark.source import Source
from handful.benchmark.sources import feature_paths
from handful.benchmark.trust import MEASURES
from handful.classifier.correction import uses_correction
from handful.classifier.tuned import check_method, is_tuning
from handful.errors import InputError, did_you_mean
from handful.methods import registry as heads
from handful.methods.settings import Settings
from handful.selection.select import POLICIES
from handful.tuning import registry as tunings
from handful.tuning.tuned_encoder import open_tuned

__all__ = ["Plan"]

LARGEST = 2**32 - 1  # seed of numpy's old generator
SHOWN = 10  # numbers in a message


@dataclass(frozen=True)
class Plan:
    """Methods × sources × shots × seeds, under one protocol and one selection policy.

    Attributes:
        features: features files; ``A+B``: of the same images by two encoders, side by side.
        images: image folders, tables, and whatever else ``handful fit`` takes.
        encoder: of the images; None is the default.
        correction: of the encoder, a file that ``handful correct train`` wrote: for methods of the
            corrected space, and others whose setting ``similarity`` asks for it.
        templates: of the class names of the images; None is the encoder's own.
        prompts: a file of sentences about the classes of the images.
        test_on: of the protocols shift and transfer: features files (.safetensors), or images, that
            are tested on by every source of the same encoder.
        methods: names; if left out all that do not train inside the encoder.
        shots, seeds: numbers.
        protocol, select: one name each.
        settings: by method, or for every method that has them under ``all``.
        variants: by method, several values of a setting: it runs once with each of them, and of
            several settings with each combination.
        measure: what to measure beside accuracy: ``trust``, ``strangers``.
    """

    features: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    encoder: str | None = None
    correction: str | None = None
    templates: tuple[str, ...] | None = None
    prompts: str | None = None
    test_on: tuple[str, ...] = ()
    methods: tuple[str, ...] = field(default_factory=lambda: tuple(heads.names()))
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    seeds: tuple[int, ...] = (1, 2, 3)
    protocol: str = "coop"
    select: str = "val"
    settings: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    measure: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.features and not self.images:
            raise InputError(
                "there is nothing to run on: give --features FILE.safetensors, or --images FOLDER."
            )
        if self.prompts is not None and not self.images:
            raise InputError(
                f"{self.prompts} is given without --images: a features file has its texts already."
            )
        for what, value, known in (
            ("protocol", self.protocol, tuple(PROTOCOLS)),
            ("selection policy", self.select, POLICIES),
            *(("measure", one, MEASURES) for one in self.measure),
        ):
            if value not in known:
                raise InputError(
                    f"there is no {what} '{value}'.{did_you_mean(value, known)} Use one of"
                    f" {', '.join(known)}."
                )
        if bool(self.test_on) != (self.protocol in OF_OTHERS):
            raise InputError(
                f"the protocol {self.protocol} tests on the source itself: leave --test-on"
                f" {self.test_on[0]} out, or use --protocol {' or '.join(OF_OTHERS)}."
                if self.test_on
                else f"the protocol {self.protocol} tests on other sources: name them with"
                " --test-on FILE.safetensors."
            )
        if not self.images and any(not one.endswith(".safetensors") for one in self.test_on):
            raise InputError(
                "images are to be tested on, but none are learnt from: give features files with"
                " --test-on, or images with --images."
            )
        for what, numbers in (("shots", self.shots), ("seeds", self.seeds)):
            least = 1 if what == "shots" else 0
            if not numbers or min(numbers) < least or max(numbers) > LARGEST:
                more = ", …" if len(numbers) > SHOWN else ""
                shown = f"[{', '.join(map(str, numbers[:SHOWN]))}{more}]"
                raise InputError(f"{what} are {shown}: expected numbers from {least} to {LARGEST}.")
        if not self.methods:
            raise InputError(f"there is no method to run: name some of {heads.names()}.")
        known_settings = {n for method in self.methods for n in _kind(method)().settings()}
        for name in self.settings.get("all", {}):
            if name not in known_settings:
                raise InputError(
                    f"no method of this plan has the setting '{name}'."
                    f"{did_you_mean(name, known_settings)}"
                )
        own = [method for method in self.settings if method != "all"]
        for method in dict.fromkeys((*self.methods, *own, *self.variants)):
            for given in self._given(method):
                check_method(method, self._policy(method), given, ())
            if is_tuning(method) and self.measure:
                raise InputError(
                    f"method '{method}' trains inside the encoder, where nothing more than "
                    f"accuracy is measured: leave --measure {','.join(self.measure)} out."
                )
        for one in self.features:
            for method in self.methods:
                check_method(method, self._policy(method), {}, feature_paths(one))

    def sources(self) -> list[Source]:
        """Read the features files, and encode the images.

        Raises:
            InputError: one cannot be read, or two have one name.
        """
        return open_sources(self)

    def exams(self) -> list[Exam]:
        """Open the sources, and those that are tested on.

        Raises:
            InputError: one cannot be read, two have one name, or one fits no other.
        """
        return open_exams(self)

    def check(self, sources: Sequence[Source]) -> None:
        """Refuse a method that a source cannot serve; where all are run, say what is left out.

        Raises:
            InputError: a method of the plan cannot run on a source, or its settings do not fit the
                encoder.
        """
        for method in self.methods:
            told = [
                next(filter(None, (self._lacks(s, method, g) for g in self._given(method))), "")
                for s in sources
            ]
            lacking = [why for why in told if why]
            if lacking and not self.all_methods:
                raise InputError(lacking[0])
            if self.correction is None and uses_correction(method, {}):
                continue  # of all methods, nobody asked for those of a corrected space
            if self._about_other_classes(method, {}):
                continue
            if lacking:
                warnings.warn(
                    f"'{method}' is left out on {len(lacking)} of {len(sources)} sources: "
                    f"{lacking[0]}",
                    RuntimeWarning,
                    stacklevel=3,
                )
            for source in sources if is_tuning(method) else ():
                assert source.pictures is not None
                for given in self._given(method):
                    tuning = tunings.get(method)(**given)
                    open_tuned(tuning, source.pictures.encoder, source.pictures.prompts, seed=0)

    @property
    def all_methods(self) -> bool:
        """Whether no method is left out, so that one that cannot run somewhere may be."""
        return self.methods == tuple(heads.names())

    def _lacks(self, source: Source, method: str, given: Mapping[str, Any]) -> str:
        """Return why a method cannot run on a source under the protocol; nothing if it can."""
        if self._about_other_classes(method, given):
            return (
                f"what method '{method}' learns is about the classes that it has seen, and the"
                " protocol transfer tests on others: use clip-adapter, or a method that trains"
                " inside the encoder."
            )
        return source.lacks(method, given)

    def _about_other_classes(self, method: str, given: Mapping[str, Any]) -> bool:
        return self.protocol == TRANSFER and not reaches_new_classes(method, given)

    def runs(self, source: Source, *others: Source) -> dict[tuple[int, int], list[Run]]:
        """Return the runs on one source, by shots and seed: all methods see the same draw.

        Args:
            source: learnt from.
            *others: tested on.
        """
        test_on = tuple(other.digest for other in others)
        # However they were named: the same measures are the same run.
        measures = tuple(one for one in MEASURES if one in self.measure)
        return {
            (k, seed): [
                Run(
                    source.digest,
                    self.protocol,
                    self.select,
                    k,
                    seed,
                    method,
                    pairs,
                    measures,
                    test_on,
                )
                for method in self.methods
                for pairs in dict.fromkeys(tuple(sorted(g.items())) for g in self._given(method))
                if not any(self._lacks(s, method, dict(pairs)) for s in (source, *others))
            ]
            for k in self.shots
            for seed in self.seeds
        }

    @property
    def arms(self) -> list[tuple[str, dict[str, Any]]]:
        """Methods with the settings that each is given, in the order of the runs."""
        return [(method, given) for method in self.methods for given in self._given(method)]

    def _policy(self, method: str) -> str:
        """Return how settings of a method are chosen; nothing is cross-validated in an encoder."""
        return "fixed" if is_tuning(method) and self.select == "cv" else self.select

    def _given(self, method: str) -> list[dict[str, Any]]:
        """Return the settings for each variant of a method: its own, and those that all have."""
        has = _kind(method)().settings()
        for_all = {n: v for n, v in self.settings.get("all", {}).items() if n in has}
        own: Mapping[str, Any] = self.settings.get(method, {})
        axes: Mapping[str, Sequence[Any]] = self.variants.get(method, {})
        return [
            {**for_all, **own, **dict(zip(axes, values, strict=True))}
            for values in product(*axes.values())
        ]


def _kind(method: str) -> type[Settings]:
    check_method(method, None, {}, ())  # it may not exist
    return tunings.get(method) if is_tuning(method) else heads.get(method)
