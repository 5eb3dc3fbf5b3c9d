"""Which source of a results file a plan means, by what it is called."""

from __future__ import annotations

from pathlib import Path

from handful.benchmark.plan import Plan
from handful.benchmark.results import Results
from handful.encoders.options import split_options

__all__ = ["named_sources"]

FOLDER = "dir:"


def named_sources(plan: Plan, results: Results) -> set[str]:
    """Return the digests of sources that were named as a plan names its own."""
    return {d for d, told in results.sources.items() if _is_of(told.get("flags", []), plan)}


def _is_of(flags: list[str], plan: Plan) -> bool:
    """Return whether a source of a results file is the one that a plan names."""
    there: dict[str, list[str]] = {}
    for name, value in zip(flags[::2], flags[1::2], strict=False):
        there.setdefault(name, []).append(value)
    expected = {
        "--features": list(plan.features),
        "--images": list(plan.images),
        "--template": list(plan.templates or ()) if plan.images else [],
        "--prompts": [plan.prompts] if plan.prompts else [],
        "--correction": [plan.correction] if plan.correction else [],
    }
    for name, values in expected.items():
        if [_place(one) for one in there.get(name, [])] != [_place(one) for one in values]:
            return False
    if plan.encoder is None:
        return True
    return [_same_encoder(one, plan.encoder) for one in there.get("--encoder", [])] == [True]


def _place(name: str) -> str:
    """Return a name that is the same however a path is written; of a data set without its root."""
    if name.startswith("data:"):
        return name.partition("@")[0]
    return name if "{}" in name else str(Path(name).resolve())


def _same_encoder(there: str, asked: str) -> bool:
    """Return whether an encoder of a results file is the one that was asked for.

    It tells the commit of a model of the hub, and the whole path of a folder.
    """
    (name, options), (own, wanted_options) = split_options(there), split_options(asked)
    if options != wanted_options:
        return False
    if own.startswith(FOLDER):
        return name.startswith(FOLDER) and _folder(name) == _folder(own)
    return name == own or ("@" not in own and name.partition("@")[0] == own)


def _folder(spec: str) -> Path:
    return Path(spec.removeprefix(FOLDER)).expanduser().resolve()
