"""Which runs a table or figure of a paper needs: plans, one for each data set and backbone.

``Where`` says where the data are, and what is to differ from the paper. Without either there are
still plans, which can be compared with results, but not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handful.benchmark.exam import OF_OTHERS
from handful.benchmark.grouping import Row
from handful.benchmark.papers.named import named_sources
from handful.benchmark.papers.paper import Item, Part
from handful.benchmark.plan import Plan
from handful.benchmark.plan_file import plan_keys, read_plan
from handful.benchmark.results import Results
from handful.benchmark.sources import feature_paths
from handful.classifier.tuned import check_method, is_tuning
from handful.datasets.catalogue import entry_named
from handful.datasets.source import short_name
from handful.errors import InputError
from handful.methods import registry as heads
from handful.tuning import registry as tunings

__all__ = ["Wanted", "Where", "wanted"]

NOWHERE = "ROOT"


@dataclass(frozen=True)
class Where:
    """Where the data are, and what is to differ from the paper.

    Attributes:
        root: the folder that holds the data sets of the catalogue.
        plan: a plan whose keys replace those of the paper; the images or features in it, if there
            are some, its data sets.
        encoders: in place of the paper's backbones, in their order.
        shots, seeds: in place of the paper's.
    """

    root: Path | None = None
    plan: Path | None = None
    encoders: tuple[str, ...] = ()
    shots: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()

    @property
    def known(self) -> bool:
        """Whether there are data to run on."""
        return self.root is not None or any(self.others)

    @property
    def others(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Features files and images in place of the paper's data sets."""
        if self.plan is None:
            return (), ()
        keys = plan_keys(self.plan)
        if not {"features", "images"} & keys.keys():
            return (), ()
        # Whatever is tested elsewhere is a matter of the paper's protocol.
        found = read_plan(self.plan, protocol="coop", test_on=())
        return found.features, found.images


@dataclass(frozen=True, eq=False)
class Wanted:
    """Runs on one data set with one backbone.

    Attributes:
        dataset: in the catalogue, or what another source is called.
        of_paper: whether the paper has this data set.
        encoder: spec; empty where a features file tells it.
        paper_encoder: spec of the paper's that it stands for.
        part: of the rows of the table.
        plan: has nothing but these runs.
        digest: of the source, where it is known; empty where the source is known by its name.
    """

    dataset: str
    of_paper: bool
    encoder: str
    paper_encoder: str
    part: Part
    plan: Plan
    digest: str = ""

    @property
    def count(self) -> int:
        """How many runs there should be."""
        return len(self.plan.arms) * len(self.plan.shots) * len(self.plan.seeds)

    def found(self, results: Results) -> list[list[Row]]:
        """Return the runs that are there, for each method with its settings, in the plan's order.

        Raises:
            InputError: they are on two sources that are called the same.
        """
        own = {self.digest} if self.digest else named_sources(self.plan, results)
        rows = [row for row in results.runs.values() if row["source"] in own and self._has(row)]
        if len({row["source"] for row in rows}) > 1:
            raise InputError(
                f"these results have runs on two different versions of {self.dataset}: keep those"
                " of one in a file of their own."
            )
        return [
            [row for row in rows if (row["method"], row["given"]) == (method, given)]
            for method, given in self.plan.arms
        ]

    def _has(self, row: Row) -> bool:
        plan = self.plan
        return (
            (row["protocol"], row["select"]) == (plan.protocol, plan.select)
            and row["shots"] in plan.shots
            and row["seed"] in plan.seeds
            and len(row.get("tests", ())) == len(plan.test_on)
        )


def wanted(item: Item, where: Where) -> list[Wanted]:
    """Return what a table or figure needs, data set by data set.

    Raises:
        InputError: the plan cannot be read or lacks what the paper's protocol needs, or the number
            of encoders is not that of the paper's.
    """
    encoders = where.encoders or item.encoders
    if len(encoders) != len(item.encoders) and len(item.encoders) > 1:
        raise InputError(
            f"{item.name} has {len(item.encoders)} backbones ({', '.join(item.encoders)}), but"
            f" --encoder was given {len(encoders)} times: give one in place of each."
        )
    if len(encoders) > 1 and len(item.encoders) == 1:
        raise InputError(f"{item.name} has one backbone: give --encoder once.")
    features, images = where.others
    if where.root is not None and (features or images):
        raise InputError(
            f"{where.plan} names images or features of its own: leave --data {where.root} out, or"
            " them."
        )
    if features or images:
        _refuse_twice([*map(_called, features), *map(short_name, images)])
        return list(_of_plan(item, where))
    found = []
    for dataset in item.datasets:
        for encoder, own in zip(encoders, item.encoders, strict=True):
            found += [_of_paper(item, part, where, dataset, encoder, own) for part in item.parts]
    return found


def _of_paper(item: Item, part: Part, where: Where, dataset: str, encoder: str, own: str) -> Wanted:
    root = where.root or NOWHERE
    plan = _plan(
        item,
        part,
        where,
        images=(f"data:{dataset}@{root}",),
        encoder=encoder,
        templates=(part.templates or entry_named(dataset).templates,),
        test_on=tuple(f"data:{one}@{root}" for one in item.test_on),
    )
    return Wanted(dataset, True, encoder, own, part, plan)


def _called(features: str) -> str:
    return "+".join(Path(one).stem for one in feature_paths(features))


def _refuse_twice(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two sources are called '{name}': rename one of them.")


def _of_plan(item: Item, where: Where) -> Iterator[Wanted]:
    """Yield what is wanted of the sources that the plan names, source by source."""
    features, images = where.others
    encoder = where.encoders[0] if where.encoders else None
    keys = plan_keys(where.plan) if where.plan is not None else {}
    if keys.get("protocol", item.protocol) in OF_OTHERS and "test_on" not in keys:
        raise InputError(
            f"{item.name} is tested on other sources, too: name them in {where.plan} with test_on."
        )
    if features and any(part.templates for part in item.parts):
        raise InputError(
            f"{item.name} has rows with other prompts, and {features[0]} holds the texts of one"
            " set: give images."
        )
    for path in features:
        plans = [_plan(item, part, where, features=(path,), images=()) for part in item.parts]
        # A file that is there is known by what it holds, wherever it lies.
        there = all(Path(one).is_file() for one in feature_paths(path))
        digest = plans[0].sources()[0].digest if there else ""
        for part, plan in zip(item.parts, plans, strict=True):
            yield Wanted(_called(path), False, "", "", part, plan, digest)
    for one in images:
        for part in item.parts:
            texts = {"templates": (part.templates,)} if part.templates else {}
            plan = _plan(item, part, where, images=(one,), features=(), encoder=encoder, **texts)
            yield Wanted(short_name(one), False, plan.encoder or "", "", part, plan)


def _plan(item: Item, part: Part, where: Where, **own: Any) -> Plan:
    """Return a plan: the paper's, with what the user's file and flags replace."""
    keys = plan_keys(where.plan) if where.plan is not None else {}
    defaults = {
        key: getattr(item, key)
        for key in ("shots", "seeds", "protocol", "select")
        if key not in keys
    }
    flags = {k: v for k, v in (("shots", where.shots), ("seeds", where.seeds)) if v}
    told = {
        **defaults,
        **flags,
        **own,
        "methods": part.methods,
        "variants": part.variants,
        "settings": _merged(keys.get("settings", {}), part),
    }
    if where.plan is None:
        return Plan(**told)
    return read_plan(where.plan, **told)


def _merged(given: Mapping[str, Mapping[str, Any]], part: Part) -> dict[str, dict[str, Any]]:
    """Return settings of the user's file, and over them those of the paper, of these methods.

    One file serves many tables: what none of these methods has is left out.
    """
    for method, own in given.items():
        if method != "all":
            check_method(method, None, own, ())
    found = {}
    for method in part.methods:
        kind = tunings.get(method) if is_tuning(method) else heads.get(method)
        for_all = {n: v for n, v in given.get("all", {}).items() if n in kind().settings()}
        own = {**for_all, **given.get(method, {}), **part.settings.get(method, {})}
        axes = part.variants.get(method, {})
        found[method] = {name: value for name, value in own.items() if name not in axes}
    return {method: own for method, own in found.items() if own}
