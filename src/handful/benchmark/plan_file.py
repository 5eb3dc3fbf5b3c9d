"""A plan as a TOML file: its keys are the names of the flags."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from handful.benchmark.plan import Plan
from handful.errors import InputError, did_you_mean

__all__ = ["plan_keys", "read_plan"]

TEXT, TEXTS, NUMBERS = "a text", "a list of texts", "a list of whole numbers"
TABLES = "tables, such as [settings.all]"
LISTS = "tables of lists, such as [variants.clip-adapter] with blend = [0.2, 0.4]"
KINDS = {
    "features": TEXTS,
    "images": TEXTS,
    "encoder": TEXT,
    "correction": TEXT,
    "templates": TEXTS,
    "prompts": TEXT,
    "test_on": TEXTS,
    "methods": TEXTS,
    "shots": NUMBERS,
    "seeds": NUMBERS,
    "protocol": TEXT,
    "select": TEXT,
    "settings": TABLES,
    "variants": LISTS,
    "measure": TEXTS,
}


def read_plan(path: Path, **flags: Any) -> Plan:
    """Read a plan from a TOML file; flags that are not None replace what it says.

    Paths in the file start from its folder.

    Raises:
        InputError: the file is damaged, or has a key that is none.
    """
    table = plan_keys(path)
    for key, value in table.items():
        if isinstance(value, list):
            table[key] = tuple(value)
    for key, start in (
        ("features", _features_from),
        ("images", _from),
        ("test_on", _features_from),
    ):
        table[key] = tuple(start(path.parent, one) for one in table.get(key, ()))
    for key in ("prompts", "correction"):
        if key in table:
            table[key] = str(path.parent / table[key])
    return Plan(**(table | {key: value for key, value in flags.items() if value is not None}))


def plan_keys(path: Path) -> dict[str, Any]:
    """Return what a plan's file says, as it stands there.

    Raises:
        InputError: as :func:`read_plan`.
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
    return table


def _is(value: Any, kind: str) -> bool:
    if kind == TEXT:
        return isinstance(value, str)
    if kind == TABLES:
        return isinstance(value, dict) and all(isinstance(one, dict) for one in value.values())
    if kind == LISTS:
        return _is(value, TABLES) and all(
            isinstance(one, list) and one for table in value.values() for one in table.values()
        )
    # True and False are integers to Python.
    wanted = str if kind == TEXTS else int
    return isinstance(value, list) and all(type(one) is wanted for one in value)


def _features_from(folder: Path, name: str) -> str:
    whole = _from(folder, name)
    if Path(whole).exists():
        return whole
    return "+".join(_from(folder, part) for part in name.split("+"))


def _from(folder: Path, name: str) -> str:
    # Forms such as coop:SPLIT.json@ROOT start from where the command runs.
    return name if ":" in name else str(folder / name)
