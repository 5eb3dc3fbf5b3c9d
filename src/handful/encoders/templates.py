"""Prompt templates: how a class name becomes the sentences that the text tower reads."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from handful.errors import InputError, did_you_mean

__all__ = ["prompts", "resolve_templates", "template_sets"]


@cache
def template_sets() -> dict[str, tuple[str, ...]]:
    """Return the named sets, name to templates; each template holds exactly one ``{}``."""
    text = resources.files("handful.encoders").joinpath("data/templates.toml").read_text("utf-8")
    return {name: tuple(templates) for name, templates in tomllib.loads(text).items()}


def resolve_templates(value: str | Sequence[str] | None, default: Sequence[str]) -> tuple[str, ...]:
    """Return the templates that the user means.

    Args:
        value: a set name (``imagenet-7``), a template (``"a blurry photo of a {}."``), or several
            of either; None means ``default``.
        default: templates of the encoder, ``Encoder.default_templates``.

    Raises:
        InputError: an unknown set, a template without exactly one ``{}``, or nothing at all.
    """
    if value is None:
        return tuple(default)
    words = [value] if isinstance(value, str) else list(value)
    if not words:
        raise InputError(
            "the list of templates is empty: give at least one, such as 'a photo of a {}.'."
        )
    return tuple(template for word in words for template in _resolve(word))


def _resolve(word: str) -> tuple[str, ...]:
    sets = template_sets()
    if word in sets:
        return sets[word]
    if word.count("{}") != 1:
        raise InputError(
            f"the template {word!r} is neither a text with exactly one {{}} for the class name nor"
            f" the name of a set ({', '.join(sets)}).{did_you_mean(word, sets)}"
        )
    return (word,)


def prompts(class_names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return every class name in every template, class by class: C × T texts.

    Underscores in class names are read as spaces.

    >>> prompts(["solar_panel", "dam"], ["{}", "a photo of a {}."])
    ['solar panel', 'a photo of a solar panel.', 'dam', 'a photo of a dam.']
    """
    names = [name.replace("_", " ") for name in class_names]
    return [template.replace("{}", name) for name in names for template in templates]
