"""What is read of each class, in the words of the class: names, templates, sentences."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from handful.encoders.templates import prompts as fill_templates

__all__ = ["Prompts"]


@dataclass(frozen=True)
class Prompts:
    """What the text tower reads of C classes.

    Attributes:
        names: C class names, as words.
        templates: each with one ``{}`` for the name; none where sentences are all that is read.
        sentences: of each class, C tuples; empty where there are none.
    """

    names: tuple[str, ...]
    templates: tuple[str, ...] = ("a photo of a {}.",)
    sentences: tuple[tuple[str, ...], ...] = ()

    def of_class(self) -> list[tuple[str, ...]]:
        """Return the texts of each class: its name in every template, then its sentences."""
        filled = [tuple(fill_templates([name], self.templates)) for name in self.names]
        own = self.sentences or ((),) * len(self.names)
        return [texts + more for texts, more in zip(filled, own, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Return what is written into the saved form."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what :meth:`to_json` and JSON made of prompts.

        Raises:
            ValueError: something else.
        """
        match value:
            case {"names": [*names], "templates": [*templates], "sentences": [*sentences]} if all(
                isinstance(text, str) for text in (*names, *templates)
            ) and all(
                isinstance(own, list) and all(isinstance(text, str) for text in own)
                for own in sentences
            ):
                return cls(tuple(names), tuple(templates), tuple(tuple(own) for own in sentences))
        raise ValueError("its prompts are not names, templates and sentences")
