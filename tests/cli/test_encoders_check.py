"""``handful encoders check``: a table and a line for people, a document, and the exit status."""

from __future__ import annotations

import json
import re

import pytest
from known_encoder import encoder

from handful.encoders import spec as specs
from handful.encoders.preprocess import Preprocess

B32, B16 = "openai/clip-vit-base-patch32", "openai/clip-vit-base-patch16"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch):
    """Every spec names this encoder."""

    def load(found) -> None:
        monkeypatch.setattr(specs, "load_encoder", lambda spec: found)

    return load


def test_a_verified_encoder(handful, loaded) -> None:
    loaded(encoder(B32))
    lines = handful("encoders", "check", f"hf:{B32}").done().splitlines()
    assert re.fullmatch(r"stage +result +detail", lines[0])
    found = [line.split()[:2] for line in lines[2:6]]
    assert found == [["tokens", "ok"], ["pixels", "ok"], ["text", "ok"], ["image", "unknown"]]
    assert lines[6:] == ["", f"{B32}: verified (tokens, pixels, text)"]


def test_no_known_answer_is_no_failure(handful, loaded) -> None:
    loaded(encoder(B32, "hf:someone/else"))
    said = handful("encoders", "check", "hf:someone/else").done()
    assert said.splitlines()[-1].startswith("someone/else: no known answer for this model")


def test_an_encoder_that_is_off(handful, loaded) -> None:
    loaded(encoder(B32, preprocess=Preprocess(crop="floor")))
    ran = handful("encoders", "check", f"hf:{B32}")
    assert (ran.status, ran.err) == (1, "")
    assert ran.out.splitlines()[-1].startswith(f"{B32}: off: pixels: crop off by a pixel")
    ran = handful("encoders", "check", f"hf:{B32}", "--json")
    assert (ran.status, ran.err) == (1, "")
    assert json.loads(ran.out)["verdict"] == "off: pixels"


@pytest.mark.parametrize("words", [("check", "hf:x", "--json"), ("--json", "check", "hf:x")])
def test_the_document(handful, loaded, words: tuple[str, ...]) -> None:
    loaded(encoder(B16))
    found = handful("encoders", *words).document()
    assert set(found) == {"verdict", "spec", "name", "stages"}
    assert found["verdict"] == "no known answer for this model"
    assert (found["name"], found["spec"]) == (B16, encoder(B16).spec)
    assert [stage["name"] for stage in found["stages"]] == ["tokens", "pixels", "text", "image"]
    assert all(set(stage) == {"name", "status", "detail", "doubt"} for stage in found["stages"])
    assert {stage["status"] for stage in found["stages"]} == {"ok", "unknown"}


def test_doubts_are_in_the_table(handful, loaded) -> None:
    found = encoder(B32)
    found.image_tower.known = encoder(B16).image_tower.known
    loaded(found)
    said = handful("encoders", "check", "hf:x").done()
    assert "others publish -0.0014, which is unconfirmed" in said
    assert "verified (tokens, pixels, text); in doubt: image" in said


def test_a_folder_as_what_it_should_be(handful, loaded) -> None:
    loaded(encoder(B32, "dir:models/mine"))
    assert "no known answer" in handful("encoders", "check", "dir:models/mine").done()
    said = handful("encoders", "check", "dir:models/mine", "--as", B32).done()
    assert said.splitlines()[-1] == f"{B32}: verified (tokens, pixels, text)"


def test_an_unknown_name_is_refused_before_anything_is_loaded(handful, monkeypatch) -> None:
    monkeypatch.setattr(specs, "load_encoder", None)
    handful("encoders", "check", "hf:x", "--as", "openai/clip-vit-base-patch23").refused(
        "no answers are known for the checkpoint 'openai/clip-vit-base-patch23'",
        "open_clip:RN50/openai",
        "Did you mean",
    )


def test_wrong_calls(handful) -> None:
    handful("encoders", "check").refused("SPEC", "'handful encoders check --help'")
    handful("encoders", "chek", "lite").refused("'chek'", "Did you mean 'check'?")
    handful("encoders", "check", "light").refused("light", "Did you mean 'lite'?")


def test_the_list_is_as_it_was(handful) -> None:
    assert handful("encoders").done().splitlines()[0].split() == ["encoder", "what", "here"]
    kinds = handful("encoders", "--json").document()
    assert [kind["pattern"].partition(":")[0] for kind in kinds] == list(specs.KINDS)
    assert "check" in handful("encoders", "--help").done()
    assert "--as" in handful("encoders", "check", "-h").done()


def test_lite_in_a_process_of_its_own(handful_process, lite: None) -> None:
    said = handful_process("encoders", "check", "lite").done()
    assert "SHA-256" in said.splitlines()[-1]
