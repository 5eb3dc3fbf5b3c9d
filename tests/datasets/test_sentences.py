"""Sentences about classes: which key belongs to which class, and which files are refused."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful.datasets import sentences_file
from handful.datasets.sentences import ClassSentences, SentenceRecord, class_sentences
from handful.errors import InputError


@pytest.fixture
def written(tmp_path: Path):
    """Write a file of prompts: bytes, text, or what becomes JSON."""

    def written(content: object) -> Path:
        path = tmp_path / "prompts.json"
        if not isinstance(content, bytes):
            text = content if isinstance(content, str) else json.dumps(content)
            content = text.encode()
        path.write_bytes(content)
        return path

    return written


# -- a published file ------------------------------------------------------------------------------


@pytest.fixture
def eurosat(shared: Path) -> Path:
    return shared / "data" / "prompts" / "eurosat.json"


def test_a_published_file_fits_its_data_set(shared: Path, eurosat: Path) -> None:
    split = json.loads((shared / "data/coop-splits/split_zhou_EuroSAT.json").read_text())
    names = sorted({name for _, _, name in split["train"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = class_sentences(eurosat, names)
    assert found.of_class == tuple(tuple(json.loads(eurosat.read_text())[name]) for name in names)
    assert found.record().counts == (10,) * 10
    # Its sentences repeat themselves, and every one counts.
    assert len(set(found.of_class[names.index("Annual Crop Land")])) == 5


def test_names_as_folders_have_them_are_found(eurosat: Path) -> None:
    content = json.loads(eurosat.read_text())
    folders = {
        "annual_crop_land": "Annual Crop Land",
        "FOREST": "Forest",
        "HerbaceousVegetationLand": "Herbaceous Vegetation Land",
        "highway-or-road": "Highway or Road",
        "Sea or Lake": "Sea or Lake",
    }
    with pytest.warns(UserWarning, match=r"^5 of 10 keys \('Industrial Buildings', .*, …\) of"):
        found = class_sentences(eurosat, list(folders))
    assert found.of_class == tuple(tuple(content[key]) for key in folders.values())


# -- which key belongs to which class --------------------------------------------------------------


def test_the_exact_name_goes_first() -> None:
    assert class_sentences({"fish": ["a"], "Fish": ["b"]}, ["Fish", "fish"]).of_class == (
        ("b",),
        ("a",),
    )


def test_a_text_alone_is_one_sentence_and_order_is_kept() -> None:
    found = class_sentences({"dam": "of stone", "fish": ("z", "a", "z")}, ["fish", "dam"])
    assert found.of_class == (("z", "a", "z"), ("of stone",))
    assert found.file is None


def test_letters_with_accents_are_found_however_they_are_stored() -> None:
    """One file system keeps é as one sign, another as two."""
    assert class_sentences({"caf\u00e9": "x", "b": "y"}, ["cafe\u0301", "b"]).of_class[0] == ("x",)


def test_numbers_are_names_like_others() -> None:
    assert class_sentences({"0": "x", "10": "y"}, ["10", "0"]).of_class == (("y",), ("x",))


@pytest.mark.parametrize("second", ["Solar Panel", "solarPanel", "solar_panel"])
def test_two_keys_for_one_class_are_refused(second: str) -> None:
    with pytest.raises(
        InputError, match=f"two keys, 'solar panel' and '{second}', for the class 'solar panel'"
    ):
        class_sentences({second: ["a"], "solar panel": ["b"]}, ["solar panel"])
    with pytest.raises(InputError, match=r"two keys, .* for the class 'Solar-Panel'"):
        class_sentences({second: ["a"], "solar panel": ["b"]}, ["Solar-Panel"])


def test_one_key_for_two_classes_is_refused() -> None:
    with pytest.raises(
        InputError, match="one key, 'WindMill', for the classes 'wind mill' and 'wind_mill'"
    ):
        class_sentences({"WindMill": ["a"]}, ["wind mill", "wind_mill"])
    exact = {"wind mill": ["a"], "wind_mill": ["b"]}
    assert class_sentences(exact, ["wind_mill", "wind mill"]).of_class == (("b",), ("a",))


def test_a_class_without_sentences_is_named_with_the_nearest_key() -> None:
    with pytest.raises(InputError) as caught:
        class_sentences({"windmil": ["a"], "dam": ["b"]}, ["dam", "windmill"])
    assert str(caught.value) == (
        "prompts has no sentences for the class 'windmill': add them, or give a template, too. "
        "Did you mean 'windmil'?"
    )
    with pytest.raises(InputError, match=r"for 4 of 5 classes \('b', 'c', 'd', …\): add them"):
        class_sentences({"a": ["x"]}, list("abcde"))


def test_where_templates_are_read_too_a_class_may_have_none() -> None:
    with pytest.warns(UserWarning, match="no sentences for the class 'dam': there only templates"):
        found = class_sentences({"fish": ["a", "b"]}, ["dam", "fish"], needed=False)
    assert found.of_class == ((), ("a", "b"))
    assert found.record().counts == (0, 2)


def test_a_file_of_which_nothing_is_used_is_refused() -> None:
    with pytest.raises(InputError, match=r"no sentences for 2 of 2 classes .*: add them\.$"):
        class_sentences({"x": ["a"]}, ["dam", "fish"], needed=False)


def test_keys_of_no_class_are_told_in_one_warning() -> None:
    given = {name: ["x"] for name in ("dam", "tench", "shark", "ray", "cock", "hen")}
    with pytest.warns(UserWarning) as told:
        class_sentences(given, ["dam"])
    assert [str(one.message) for one in told] == [
        "5 of 6 keys ('tench', 'shark', 'ray', …) of prompts are no class of the images: what "
        "stands there is not used."
    ]
    with pytest.warns(UserWarning, match="^the key 'hen' of prompts is no class of the images"):
        class_sentences({"dam": ["x"], "hen": ["y"]}, ["dam"])


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n"dam": ["\xe4"]}', "line 2, is not UTF-8: save it again as UTF-8"),
        ('{"dam": ["x"]}'.encode("utf-16"), "line 1, is not UTF-8"),
        ("dam: x", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('["a dam"]', "is not a file of prompts"),
        ("{}", "has no sentences: expected"),
        ('{"dam": ["x"], "fish": "y", "dam": ["z"]}', "has the key 'dam' twice"),
        ({"dam": 5}, "'dam', is 5: expected a list of sentences"),
        ({"dam": None}, "'dam', is None: expected a list"),
        ({"dam": {"a": 1}}, "'dam', is {'a': 1}: expected a list"),
        ({"dam": []}, "'dam', is an empty list: add sentences, or remove the key"),
        ({"dam": ["x", 5]}, "sentence 2 of 'dam', is 5: expected a text that is not empty"),
        ({"dam": ["x", " \n"]}, r"sentence 2 of 'dam', is ' \\n': expected a text"),
        ({"dam": ""}, "sentence 1 of 'dam', is '': expected a text"),
        ({"dam": ["x" * 2001]}, "sentence 1 of 'dam', has 2,001 letters: a sentence may have 2,0"),
        ({"dam": ["x"] * 1001}, "'dam', has 1,001 sentences: a class may have 1,000"),
        ('{"dam": ["a \\ud800"]}', "sentence 1 of 'dam', is not readable text"),
        (" " * 2000 + "{}", "has 0 MiB: a file of prompts may have 0 MiB"),
    ],
)
def test_refused_files(
    written, monkeypatch: pytest.MonkeyPatch, content: object, message: str
) -> None:
    if "MiB" in message:
        monkeypatch.setattr(sentences_file, "MAX_BYTES", 2000)
    path = written(content)
    with pytest.raises(InputError, match=message) as caught:
        class_sentences(path, ["dam", "fish"])
    assert str(caught.value).startswith(str(path))


def test_the_largest_that_is_allowed(written) -> None:
    given = {"dam": ["x" * 2000] * 1000, "fish": "y"}
    assert class_sentences(written(given), ["dam", "fish"]).record().counts == (1000, 1)


def test_files_that_are_none(tmp_path: Path, written) -> None:
    written({"dam": "x"})
    with pytest.raises(InputError, match=r"does not exist: .* Did you mean 'prompts.json'\?"):
        class_sentences(tmp_path / "prompt.json", ["dam"])
    with pytest.raises(InputError, match="is a folder: expected a file of prompts"):
        class_sentences(str(tmp_path), ["dam"])


def test_what_editors_add_is_passed_over(written) -> None:
    path = written("\ufeff" + '{\r\n"dam": "ein Staudamm \\u00fc",\r\n"fish": "x"}\r\n')
    found = class_sentences(path, ["dam", "fish"])
    assert found == ClassSentences((("ein Staudamm ü",), ("x",)), "prompts.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "prompts has no sentences"),
        ({5: ["x"]}, "prompts has the key 5: expected the name of a class"),
        ({"dam": {"x"}}, "prompts, 'dam', is {'x'}: expected a list"),
        ({"dam": [b"x"]}, "prompts, sentence 1 of 'dam', is b'x'"),
    ],
)
def test_what_is_given_in_python_is_checked_too(content: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        class_sentences(content, ["dam", "5"])


# -- what is remembered ----------------------------------------------------------------------------


def test_the_digest_can_be_had_by_hand() -> None:
    record = class_sentences({"b": ["ü", "y"], "a": "x"}, ["a", "b"]).record()
    by_hand = hashlib.sha256(rb'[["x"],["\u00fc","y"]]').hexdigest()
    assert record == SentenceRecord(None, by_hand, (1, 2))


@given(st.lists(st.lists(st.text(), max_size=3).map(tuple), min_size=1, max_size=4).map(tuple))
def test_other_sentences_have_another_digest(of_class: tuple[tuple[str, ...], ...]) -> None:
    one = ClassSentences(of_class).record()
    assert ClassSentences(of_class, "other.json").record().sha256 == one.sha256
    assert ClassSentences((*of_class, ())).record().sha256 != one.sha256
    longer = ((*of_class[0], "x"), *of_class[1:])
    assert ClassSentences(longer).record().sha256 != one.sha256
    assert SentenceRecord.from_json(json.loads(json.dumps(asdict(one)))) == one


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        {"file": "x", "sha256": "y"},
        {"file": 5, "sha256": "y", "counts": [1]},
        {"file": None, "sha256": None, "counts": [1]},
        {"file": None, "sha256": "y", "counts": 3},
        {"file": None, "sha256": "y", "counts": [1, -1]},
        {"file": None, "sha256": "y", "counts": [True]},
        {"file": None, "sha256": "y", "counts": [1.0]},
    ],
)
def test_damaged_records(damaged: object) -> None:
    with pytest.raises(ValueError, match="a number for each class"):
        SentenceRecord.from_json(damaged)


@pytest.mark.parametrize(
    ("file", "counts", "words"),
    [
        ("birds.json", (8, 12, 9), "8 to 12 sentences per class from birds.json"),
        ("birds.json", (3, 3), "3 sentences per class from birds.json"),
        (None, (1, 1), "1 sentence per class from Python"),
        (None, (0, 1), "0 to 1 sentence per class from Python"),
    ],
)
def test_a_record_in_words(file: str | None, counts: tuple[int, ...], words: str) -> None:
    assert str(SentenceRecord(file, "", counts)) == words
