"""The file of sentences that a language model wrote: ``{"class": ["sentence", …], …}``.

Published files of CuPL, APE, CaFo and Cluster-Adapter have this form.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handful.datasets.missing import refuse_missing
from handful.errors import InputError

__all__ = ["check_sentence", "check_sentences", "read_sentences"]

FORM = '{"class": ["sentence", …], …}'
MAX_BYTES = 64 * 2**20  # ten times CuPL's file for the 1,000 classes of ImageNet
MAX_SENTENCES = 1000  # of a class; published files have 10 to 60
MAX_LETTERS = 2000  # of a sentence; text towers read 64 to 128 tokens


def read_sentences(path: Path) -> dict[str, tuple[str, ...]]:
    """Read the sentences of each key.

    Raises:
        InputError: missing, too large, not UTF-8, not JSON, a key twice, or refused by
            :func:`check_sentences`.
    """
    refuse_missing(path, f"a file of prompts {FORM}")
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise InputError(f"{path} is {what}: expected a file of prompts {FORM}.")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(
                f"{path} has {size / 2**20:,.0f} MiB: a file of prompts may have "
                f"{MAX_BYTES // 2**20} MiB."
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    twice: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice.extend(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        return dict(pairs)

    try:
        content = json.loads(data.decode("utf-8-sig"), object_pairs_hook=members)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}, is not UTF-8: save it again as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): expected {FORM}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a file of prompts: expected {FORM}.")
    if twice:
        raise InputError(
            f"{path} has the key '{twice[0]}' twice: put all sentences of a class in one list."
        )
    return check_sentences(content, str(path))


def check_sentences(content: Mapping[Any, Any], name: str) -> dict[str, tuple[str, ...]]:
    """Return the sentences of each key; a text alone stands for a list of one.

    Args:
        content: what the file holds.
        name: of the file, for messages.

    Raises:
        InputError: nothing is there, a value is no list of texts that are not empty, or there is
            too much of it.
    """
    if not content:
        raise InputError(f"{name} has no sentences: expected {FORM}.")
    return {key: _sentences(key, value, name) for key, value in content.items()}


def _sentences(key: Any, value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(key, str):
        raise InputError(f"{name} has the key {key!r:.80}: expected the name of a class, a text.")
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence):
        raise InputError(f"{name}, '{key}', is {value!r:.80}: expected a list of sentences.")
    if not value:
        raise InputError(f"{name}, '{key}', is an empty list: add sentences, or remove the key.")
    if len(value) > MAX_SENTENCES:
        raise InputError(
            f"{name}, '{key}', has {len(value):,} sentences: a class may have {MAX_SENTENCES:,}."
        )
    for number, sentence in enumerate(value, start=1):
        check_sentence(sentence, f"{name}, sentence {number} of '{key}',")
    return tuple(value)


def check_sentence(sentence: Any, where: str) -> None:
    """Refuse what no text tower can read.

    Args:
        sentence: anything that stands where a sentence is expected.
        where: the place, to begin the message with.

    Raises:
        InputError: no text, empty, too long, or not to be written in UTF-8.
    """
    if not isinstance(sentence, str) or not sentence.strip():
        raise InputError(f"{where} is {sentence!r:.80}: expected a text that is not empty.")
    if len(sentence) > MAX_LETTERS:
        raise InputError(
            f"{where} has {len(sentence):,} letters: a sentence may have {MAX_LETTERS:,}, and "
            "of those no text tower reads all; cut it into several."
        )
    try:
        sentence.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where} is not readable text ({sentence[error.start]!r}): write it again."
        ) from error
