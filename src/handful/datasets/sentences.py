"""Sentences that describe classes: which belong to which class, and what is remembered of them.

A language model that is asked what a class looks like gives sentences that can be read besides or
instead of templates: Pratt et al., "What does a platypus look like? Generating customized prompts
for zero-shot image classification" (CuPL), ICCV 2023, arXiv 2209.03320.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from handful.datasets.names import readable
from handful.datasets.sentences_file import check_sentences, read_sentences
from handful.errors import InputError, did_you_mean

__all__ = ["ClassSentences", "SentenceRecord", "Sentences", "class_sentences"]

Sentences = str | Path | Mapping[str, str | Sequence[str]]
"""A file, or what such a file holds."""


@dataclass(frozen=True)
class SentenceRecord:
    """What is remembered of sentences when their embeddings are all that is needed.

    Attributes:
        file: name of the file, without its folder; None where they were given in Python.
        sha256: of the sentences used: the JSON list of each class's list, in ASCII without blanks.
        counts: how many sentences each class has, C numbers.
    """

    file: str | None
    sha256: str
    counts: tuple[int, ...]

    @property
    def most(self) -> int:
        """The largest number of sentences of a class."""
        return max(self.counts, default=0)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what ``dataclasses.asdict`` and JSON made of a record.

        Raises:
            ValueError: something else.
        """
        match value:
            case {"file": str() | None as file, "sha256": str(sha256), "counts": [*counts]} if all(
                type(count) is int and count >= 0 for count in counts
            ):
                return cls(file, sha256, tuple(counts))
        raise ValueError("its sentences are not a file name, a SHA-256 and a number for each class")

    def __str__(self) -> str:
        """Return ``8 to 12 sentences per class from birds.json``."""
        least = min(self.counts)
        many = f"{least} to {self.most}" if least < self.most else str(least)
        noun = "sentence" if self.most == 1 else "sentences"
        return f"{many} {noun} per class from {self.file or 'Python'}"


@dataclass(frozen=True)
class ClassSentences:
    """The sentences of each class, in the order of the classes; a class may have none.

    Attributes:
        of_class: C lists.
        file: see :class:`SentenceRecord`.
    """

    of_class: tuple[tuple[str, ...], ...]
    file: str | None = None

    def record(self) -> SentenceRecord:
        """Return what is to be remembered of them."""
        content = json.dumps(self.of_class, separators=(",", ":"))
        digest = hashlib.sha256(content.encode()).hexdigest()
        return SentenceRecord(self.file, digest, tuple(len(some) for some in self.of_class))


def class_sentences(
    given: Sentences, class_names: Sequence[str], *, needed: bool = True
) -> ClassSentences:
    """Find the sentences of each class.

    A key belongs to the class of exactly that name, else to the class that reads the same: as
    words (see :func:`~handful.datasets.names.readable`), in upper or lower case. Keys of no class
    are reported in one warning; so are classes without sentences where they may have none.

    Args:
        given: a JSON file, or its content.
        class_names: the labels of the images.
        needed: whether every class must have sentences, because nothing else is read of it.

    Raises:
        InputError: the file cannot be used, two keys belong to one class or one key to two, a class
            has none where ``needed``, or all have none.
    """
    if isinstance(given, Mapping):
        name, file, content = "prompts", None, check_sentences(given, "prompts")
    else:
        name, file, content = str(given), Path(given).name, read_sentences(Path(given))
    found, strangers = _match(content, class_names, name)
    lacking = [label for label in class_names if label not in found]
    without = f"{name} has no sentences for {_some(lacking, class_names, 'class', 'classes')}"
    if lacking and (needed or not found):
        also = ", or give a template, too" if found else ""
        raise InputError(f"{without}: add them{also}.{did_you_mean(lacking[0], strangers)}")
    if lacking:
        warnings.warn(f"{without}: there only templates are read.", stacklevel=2)
    if strangers:
        verb = "is" if len(strangers) == 1 else "are"
        warnings.warn(
            f"{_some(strangers, content, 'key', 'keys')} of {name} {verb} no class of the "
            "images: what stands there is not used.",
            stacklevel=2,
        )
    return ClassSentences(tuple(found.get(label, ()) for label in class_names), file)


def _match(
    content: Mapping[str, tuple[str, ...]], class_names: Sequence[str], name: str
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return the sentences by class, and the keys that are no class."""
    labels = set(class_names)
    by_words: dict[str, list[str]] = {}
    for key in content:
        if key not in labels:
            by_words.setdefault(_words(key), []).append(key)
    found: dict[str, tuple[str, ...]] = {}
    taken: dict[str, str] = {}
    for label in class_names:
        alike = by_words.get(_words(label), [])
        keys = [label, *alike] if label in content else alike
        if len(keys) > 1:
            raise InputError(
                f"{name} has two keys, '{keys[0]}' and '{keys[1]}', for the class '{label}': put "
                "all sentences of a class in one list."
            )
        if keys and (other := taken.setdefault(keys[0], label)) != label:
            raise InputError(
                f"{name} has one key, '{keys[0]}', for the classes '{other}' and '{label}': give "
                "each a key of exactly its name."
            )
        if keys:
            found[label] = content[keys[0]]
    return found, [key for keys in by_words.values() for key in keys if key not in taken]


def _words(label: str) -> str:
    # File systems may take letters with accents apart.
    return unicodedata.normalize("NFC", readable(label)).casefold()


def _some(names: Sequence[str], among: Collection[str], one: str, many: str) -> str:
    """Return ``the class 'dam'``, or ``3 of 9 classes ('dam', 'fish', …)``."""
    if len(names) == 1:
        return f"the {one} '{names[0]}'"
    listed = ", ".join(f"'{name}'" for name in names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} of {len(among)} {many} ({listed})"
