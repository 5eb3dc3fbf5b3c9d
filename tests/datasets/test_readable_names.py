"""Labels made readable for prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful.datasets.imagenet import imagenet_classes
from handful.datasets.names import readable


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("solar_panel", "solar panel"),
        ("AnnualCrop", "Annual Crop"),
        ("HerbaceousVegetation", "Herbaceous Vegetation"),
        ("measuring-tape", "measuring tape"),
        ("double-decker-bus", "double decker bus"),
        ("Apply_Eye_Makeup", "Apply Eye Makeup"),
        ("Black-footed_Albatross", "Black-footed Albatross"),
        ("LCDScreen", "LCD Screen"),
        ("  two   blanks ", "two blanks"),
        ("__init__", "init"),
        ("iPhone", "iPhone"),
        ("my_iPhone", "my iPhone"),
        ("T-shirt", "T-shirt"),
        ("X-ray", "X-ray"),
        ("737-200", "737-200"),
        ("DC-10", "DC-10"),
        ("7-seater-van", "7-seater van"),
        ("go-kart", "go-kart"),
        ("polka-dotted", "polka-dotted"),
        ("DVDs", "DVDs"),
        ("McDonald", "McDonald"),
        ("2012 Mercedes-Benz E-Class Sedan", "2012 Mercedes-Benz E-Class Sedan"),
        ("Äpfel_und_Birnen", "Äpfel und Birnen"),
        ("猫", "猫"),
        ("___", "___"),
    ],
)
def test_examples(label: str, words: str) -> None:
    assert readable(label) == words


def test_names_of_imagenet_are_read_as_they_are_written() -> None:
    for name in imagenet_classes().values():
        assert readable(name) == name.removesuffix("_")


def test_names_of_published_splits_are_read_as_they_are_written(shared: Path) -> None:
    """CoOp's prompts change underscores alone."""
    files = sorted((shared / "data" / "coop-splits").glob("split_zhou_*.json"))
    assert len(files) == 7
    for file in files:
        for _, _, name in json.loads(file.read_bytes())["train"]:
            assert readable(name) == name.replace("_", " "), file.name


@given(st.text(min_size=1).filter(str.strip))
def test_only_separators_change_and_twice_is_once(label: str) -> None:
    words = readable(label)
    assert words.strip()
    assert readable(words) == words

    def letters(text: str) -> str:
        return "".join(text.replace("_", "").replace("-", "").split())

    assert letters(words) == letters(label)


@given(st.from_regex(r"[a-z]{2,8}([_ -]{1,3}[a-z]{2,8}){1,3}", fullmatch=True))
def test_words_are_separated_by_single_blanks(label: str) -> None:
    if " " not in label and "_" not in label:
        assert readable(label) == " ".join(label.replace("-", " ").split())
    assert "_" not in readable(label)
    assert "  " not in readable(label)
