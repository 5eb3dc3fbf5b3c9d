"""Files of prompts that a language model wrote, or that somebody edited."""

from __future__ import annotations

import json
from typing import Any

from bad_inputs.place import CLASSES, Place, bad


def _write(place: Place, **changes: Any) -> None:
    """Write a sound file, but for these changes; None removes a class."""
    whole = {name: [f"a photo of a {name}.", f"a {name} far away."] for name in CLASSES} | changes
    content = {name: value for name, value in whole.items() if value is not None}
    place.write("prompts.json", json.dumps(content))


@bad("no such file of prompts")
@bad("prompts for a features file")
def sound(place: Place) -> None:
    _write(place)


@bad("a file of prompts that is not JSON")
def not_json(place: Place) -> None:
    place.write("prompts.json", "dam: a wall of concrete")


@bad("a file of prompts in Latin-1")
def latin(place: Place) -> None:
    content = {name: ["fünf"] for name in CLASSES}
    place.write("prompts.json", json.dumps(content, ensure_ascii=False, indent=1).encode("latin-1"))


@bad("a file of prompts that is a list")
def a_list(place: Place) -> None:
    place.write("prompts.json", '["a photo of a dam."]')


@bad("a file of prompts without sentences")
def nothing(place: Place) -> None:
    place.write("prompts.json", "{}")


@bad("a file of prompts with a class twice")
def twice(place: Place) -> None:
    place.write("prompts.json", '{"dam": ["x"], "fish": ["x"], "windmill": ["x"], "dam": ["y"]}')


@bad("a class with a number instead of sentences")
def number(place: Place) -> None:
    _write(place, fish=5)


@bad("a class with an empty list of sentences")
def empty_list(place: Place) -> None:
    _write(place, fish=[])


@bad("an empty sentence")
def empty(place: Place) -> None:
    _write(place, fish=["a fish.", ""])


@bad("a sentence of 5,000 letters")
def long(place: Place) -> None:
    _write(place, fish=["fish " * 1000])


@bad("a class with 5,000 sentences")
def many(place: Place) -> None:
    _write(place, fish=["a fish."] * 5000)


@bad("a class without sentences")
def lacking(place: Place) -> None:
    _write(place, windmill=None, windmil=["x"])


@bad("two keys for one class")
def two_keys(place: Place) -> None:
    _write(place, Windmill=["x"])


@bad("prompts for other classes")
def others(place: Place) -> None:
    place.write("prompts.json", '{"airport": ["x"], "beach": ["x"]}')


@bad("prompts for further classes")
def further(place: Place) -> None:
    _write(place, tench=["x"], shark=["x"])
