"""Prompt templates are the published ones, and become prompts class by class."""

from __future__ import annotations

from pathlib import Path

import pytest

from handful.encoders.templates import prompts, resolve_templates, template_sets
from handful.errors import InputError


def test_every_template_has_one_place_for_the_name() -> None:
    for name, templates in template_sets().items():
        assert templates, name
        assert len(set(templates)) == len(templates), name
        assert all(template.count("{}") == 1 for template in templates), name
        assert all("{" not in template.replace("{}", "") for template in templates), name


def test_the_eighty_are_the_published_ones(shared: Path) -> None:
    published = (shared / "data" / "imagenet" / "templates-80.txt").read_text("utf-8").splitlines()
    assert list(template_sets()["imagenet-80"]) == published


def test_the_seven_are_among_the_eighty() -> None:
    sets = template_sets()
    assert len(sets["imagenet-7"]) == 7
    assert set(sets["imagenet-7"]) < set(sets["imagenet-80"])


def test_each_standard_dataset_has_its_template() -> None:
    # The single templates of CoOp's dataset configurations.
    expected = {
        "imagenet": "a photo of a {}.",
        "caltech101": "a photo of a {}.",
        "oxford_pets": "a photo of a {}, a type of pet.",
        "stanford_cars": "a photo of a {}.",
        "oxford_flowers": "a photo of a {}, a type of flower.",
        "food101": "a photo of {}, a type of food.",
        "fgvc_aircraft": "a photo of a {}, a type of aircraft.",
        "sun397": "a photo of a {}.",
        "dtd": "{} texture.",
        "eurosat": "a centered satellite photo of {}.",
        "ucf101": "a photo of a person doing {}.",
    }
    assert {name: template_sets()[name] for name in expected} == {
        name: (template,) for name, template in expected.items()
    }


def test_resolve() -> None:
    default = ("a {}",)
    assert resolve_templates(None, default) == default
    assert resolve_templates("name", default) == ("{}",)
    assert resolve_templates("my {} here", default) == ("my {} here",)
    assert resolve_templates(["name", "a {} b"], default) == ("{}", "a {} b")
    assert resolve_templates(["imagenet-7"], default) == template_sets()["imagenet-7"]


@pytest.mark.parametrize("value", ["no place", "{} and {}", "", ["name", "nothing"]])
def test_resolve_refuses(value: str | list[str]) -> None:
    with pytest.raises(InputError, match=r"exactly one \{\}"):
        resolve_templates(value, ("{}",))


def test_resolve_suggests_the_nearest_set() -> None:
    with pytest.raises(InputError, match="Did you mean 'oxford_pets'"):
        resolve_templates("oxford-pets", ("{}",))
    with pytest.raises(InputError, match="list of templates is empty"):
        resolve_templates([], ("{}",))


def test_prompts_are_in_class_major_order() -> None:
    assert prompts(["a_b", "c"], ["{}", "the {}."]) == ["a b", "the a b.", "c", "the c."]


def test_braces_in_names_and_templates_are_only_text() -> None:
    assert prompts(["{x} {}"], ["a {0 {}"]) == ["a {0 {x} {}"]
