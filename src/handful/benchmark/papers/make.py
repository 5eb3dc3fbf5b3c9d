"""The runs of a table or figure: which are there, and making those that are not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from handful.benchmark.grouping import refuse_incomplete
from handful.benchmark.papers.paper import Item, Paper
from handful.benchmark.papers.wanted import Wanted, Where, wanted
from handful.benchmark.plan import Plan
from handful.benchmark.results import Results, ResultsFile
from handful.benchmark.runner import run_plan
from handful.benchmark.text_table import TextTable
from handful.classifier.tuned import head_kind
from handful.datasets.catalogue import entry_named
from handful.encoders.default import default_encoder
from handful.encoders.spec import load_encoder
from handful.encoders.unprojected import UnprojectedEncoder
from handful.errors import InputError

__all__ = ["Made", "make", "needs_table"]


@dataclass(frozen=True)
class Made:
    """What there is for a table or figure.

    Attributes:
        needed: its runs, without data sets that are not under the root.
        results: everything in the results file.
        made: how many runs were made now.
        told: sentences about what is not there.
    """

    needed: tuple[Wanted, ...]
    results: Results
    made: int
    told: tuple[str, ...]


def make(item: Item, where: Where, out: Path, jobs: int = 1) -> Made:
    """Make the runs that are not in the results file, as far as there are data for them.

    Args:
        item: a table or figure.
        where: the data are; without any, nothing is made.
        out: results file, appended to.
        jobs: processes.

    Raises:
        InputError: there are neither data nor runs, or something cannot be read or run.
    """
    needed, told = _present(wanted(item, where), where)
    file = ResultsFile(out)
    runs = file.read().runs
    refuse_incomplete(runs)
    before = len(runs)
    if where.known:
        for place, one in enumerate(needed):
            if one.count > _there(one, file.read()):
                plan, lacking = _servable(one)
                told += lacking
                if plan is not None:
                    # Data may have been called otherwise when its runs were made.
                    (digest,) = run_plan(plan, out, jobs).sources
                    needed[place] = replace(one, digest=digest)
    results = file.read()
    there, count = sum(_there(one, results) for one in needed), sum(one.count for one in needed)
    if not there:
        raise InputError(
            f"{item.name} needs {count} runs, and {out} has none of them: give --data ROOT, the"
            " folder of the data sets, or --plan PLAN.toml with images or features of your own;"
            " --needs lists them."
        )
    if there < count:
        more = "" if where.known else " Give --data or --plan to make them."
        told.append(f"{count - there} of {count} runs are not there; --needs lists them.{more}")
    return Made(tuple(needed), results, len(results.runs) - before, tuple(dict.fromkeys(told)))


def needs_table(paper: Paper, item: Item, where: Where, out: Path) -> TextTable:
    """Return which runs a table or figure needs, and how many of them are there.

    Raises:
        InputError: as :func:`make`, but for runs that are missing.
    """
    results = ResultsFile(out).read()
    refuse_incomplete(results.runs)
    rows = []
    needed = wanted(item, where)
    for one in needed:
        plan = one.plan
        prompts = ", ".join(plan.templates or ())
        for (method, given), found in zip(plan.arms, one.found(results), strict=True):
            told = ", ".join(f"{name}={value}" for name, value in given.items())
            label = f"{method} ({told})" if told else method
            count = len(plan.shots) * len(plan.seeds)
            shots, seeds = (",".join(map(str, some)) for some in (plan.shots, plan.seeds))
            there = f"{len(found)} of {count}"
            rows.append((one.dataset, one.encoder, prompts, label, shots, seeds, there))
    plan = needed[0].plan
    note = f"Protocol {plan.protocol}, selection {plan.select}; runs are kept in {out}."
    if plan.test_on:
        note += f" Tested on {', '.join(plan.test_on)}, too."
    header = ("data", "encoder", "prompts", "method", "shots", "seeds", "runs there")
    return TextTable(f"{paper.name}, {item.name}: {item.title}", note, header, tuple(rows))


def _there(one: Wanted, results: Results) -> int:
    return sum(len(rows) for rows in one.found(results))


def _present(needed: Sequence[Wanted], where: Where) -> tuple[list[Wanted], list[str]]:
    """Leave out data sets that are not under the root, unless none is."""
    if where.root is None:
        return list(needed), []
    homes = {one.dataset: where.root / entry_named(one.dataset).folder for one in needed}
    missing = [dataset for dataset, home in homes.items() if not home.is_dir()]
    if len(missing) == len(homes):
        return list(needed), []  # whose reader says what is missing
    kept = [one for one in needed if one.dataset not in missing]
    return kept, [f"Left out: {name}, as {homes[name]} does not exist." for name in missing]


def _servable(one: Wanted) -> tuple[Plan | None, list[str]]:
    """Return the plan without methods that data of the user's own cannot serve, and why not."""
    plan = one.plan
    if one.of_paper:
        return plan, []
    told = _before_projection(plan)
    kept = _without(plan, told)
    if kept is not None:
        sources = kept.sources()
        for method in kept.methods:
            alone = _without(kept, [other for other in kept.methods if other != method])
            assert alone is not None
            try:
                alone.check(sources)
            except InputError as error:
                told[method] = str(error)
        kept = _without(kept, told)
    return kept, [f"{method} is left out: {why}" for method, why in told.items()]


def _before_projection(plan: Plan) -> dict[str, str]:
    """Return methods for which the encoder of images lacks a projection, and the sentence."""
    wanting = [method for method in plan.methods if head_kind(method).before_projection]
    if not plan.images or not wanting:
        return {}
    try:
        UnprojectedEncoder(load_encoder(plan.encoder or default_encoder().spec))
    except InputError as error:
        return dict.fromkeys(wanting, str(error))
    return {}


def _without(plan: Plan, methods: Collection[str]) -> Plan | None:
    """Return a plan without some methods; None where none is left."""
    kept = tuple(method for method in plan.methods if method not in methods)
    settings = {key: of for key, of in plan.settings.items() if key not in methods}
    variants = {key: of for key, of in plan.variants.items() if key not in methods}
    if not kept:
        return None
    return replace(plan, methods=kept, settings=settings, variants=variants)
