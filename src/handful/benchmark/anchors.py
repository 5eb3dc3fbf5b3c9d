"""Accuracies of published code, to stand beside ours: read from an anchors file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handful.errors import InputError, did_you_mean

__all__ = ["Anchor", "Published", "read_anchors"]


@dataclass(frozen=True)
class Anchor:
    """What published code of one method reaches on one source.

    Attributes:
        method: what it is called here.
        given: settings that are fixed; a run stands beside it only with the same.
        code: what was run, in words.
        source: name of the source.
        protocol: under which it was measured.
        select: likewise; None where nothing is selected, so that it stands beside every policy.
        accuracy: by shots, 0 to 1.
        about: where the numbers of its file come from.
    """

    method: str
    given: Mapping[str, Any]
    code: str
    source: str
    protocol: str
    select: str | None
    accuracy: Mapping[int, float]
    about: str

    def fits(self, source: str, row: Mapping[str, Any]) -> bool:
        """Return whether it was measured on the same work as a run.

        Args:
            source: name of the run's source.
            row: its line of a results file.
        """
        where = (source, row["protocol"], row["method"])
        if where != (self.source, self.protocol, self.method):
            return False
        if self.select not in (None, row["select"]) or row["shots"] not in self.accuracy:
            return False
        # Documented defaults may be the very settings that were fixed there.
        documented = row["select"] == "fixed" and not row["given"] and bool(self.given)
        same = documented and self.given.items() <= row["settings"].items()
        return same or bool(self.given == row["given"])


@dataclass(frozen=True)
class Published:
    """What stands beside a number of ours.

    Attributes:
        accuracy: mean over the same sources and shots, 0 to 1.
        code, about: of the anchors behind it.
    """

    accuracy: float
    code: tuple[str, ...]
    about: tuple[str, ...]


POLICIES = ("val", "cv", "fixed")  # those of select(), whose module would bring torch


def read_anchors(path: Path) -> list[Anchor]:
    """Read an anchors file, TOML.

    ``about`` is a text, ``protocol`` a name, ``shots`` a list of K, and each ``[[anchor]]`` has
    ``method``, ``code``, where needed ``given`` and ``select``, and a table ``accuracy`` with a
    list in % for each source, as long as ``shots``.

    Raises:
        InputError: it cannot be read, or something of this is missing or of a wrong kind.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the anchors file {path} cannot be read ({error}).") from error
    _check_keys(table, ("about", "protocol", "shots", "anchor"), f"{path}")
    shots = _get(table, "shots", list, f"{path}")
    if not shots or not all(type(k) is int and k > 0 for k in shots):
        raise InputError(f"{path}: shots is {shots}: expected numbers from 1, such as [1, 2, 4].")
    entries = _get(table, "anchor", list, f"{path}")
    if not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: anchor is no list of tables: write [[anchor]].")
    of_file = {
        "protocol": _get(table, "protocol", str, f"{path}"),
        "about": " ".join(_get(table, "about", str, f"{path}").split()),
    }
    return [
        Anchor(**of_file, **one)
        for number, entry in enumerate(entries, 1)
        for one in _anchors(entry, shots, f"{path}, anchor {number}")
    ]


def _anchors(entry: Mapping[str, Any], shots: list[int], where: str) -> Iterator[dict[str, Any]]:
    """Yield the fields of an anchor for each source of an entry."""
    _check_keys(entry, ("method", "code", "given", "select", "accuracy"), where)
    select = _get(entry, "select", str, where) if "select" in entry else None
    if select not in (None, *POLICIES):
        raise InputError(f"{where}: select is '{select}': expected one of {', '.join(POLICIES)}.")
    for source, values in _get(entry, "accuracy", dict, where).items():
        numbers = isinstance(values, list) and all(type(v) in (int, float) for v in values)
        if not numbers or len(values) != len(shots) or not all(0 <= v <= 100 for v in values):
            raise InputError(
                f"{where}: the accuracy on {source} is {values}: expected {len(shots)} numbers in"
                " %, one for each of shots."
            )
        yield {
            "method": _get(entry, "method", str, where),
            "code": _get(entry, "code", str, where),
            "given": _get(entry, "given", dict, where) if "given" in entry else {},
            "select": select,
            "source": source,
            "accuracy": {k: value / 100 for k, value in zip(shots, values, strict=True)},
        }


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    # A mistyped select would put an anchor beside every policy.
    for key in table:
        if key not in known:
            raise InputError(
                f"{where} has '{key}': expected {', '.join(known)}.{did_you_mean(key, known)}"
            )


def _get(table: Mapping[str, Any], key: str, kind: type[Any], where: str) -> Any:
    words: dict[type[Any], str] = {str: "a text", list: "a list", dict: "a table"}
    if key not in table:
        raise InputError(f"{where} lacks '{key}': expected {words[kind]}.")
    if not isinstance(table[key], kind):
        raise InputError(f"{where}: {key} is {table[key]!r}: expected {words[kind]}.")
    return table[key]
