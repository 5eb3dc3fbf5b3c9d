"""Which encoder is used where none is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from handful.encoders.checkpoint import hub
from handful.encoders.default import default_encoder
from handful.errors import InputError


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("HANDFUL_CONFIG", str(path))
    return path


def test_nothing_named(configuration: Path) -> None:
    assert default_encoder() == ("lite", "the default")
    configuration.write_text("")
    assert default_encoder() == ("lite", "the default")


def test_the_configuration_and_the_environment(configuration: Path, monkeypatch) -> None:
    configuration.write_text('encoder = "dir:models/clip"')
    assert default_encoder() == ("dir:models/clip", f"named in {configuration}")
    monkeypatch.setenv("HANDFUL_ENCODER", "lite:coop")
    assert default_encoder() == ("lite:coop", "named in HANDFUL_ENCODER")


@pytest.mark.parametrize("reachable", [True, False])
def test_a_model_of_the_hub_gives_way_where_it_cannot_be_had(
    configuration: Path, monkeypatch, reachable: bool
) -> None:
    asked = []
    monkeypatch.setattr(hub, "is_reachable", lambda *given: asked.append(given) or reachable)
    configuration.write_text('encoder = "hf:openai/clip-vit-base-patch16@v1?crop=floor"')
    found = default_encoder()
    assert asked == [("openai/clip-vit-base-patch16", "v1")]
    if reachable:
        assert found.spec == "hf:openai/clip-vit-base-patch16@v1?crop=floor"
    else:
        assert found.spec == "lite"
        assert "neither in the cache nor to be reached" in found.why


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("encoder = ", "cannot be read"),
        ("\xff", "cannot be read"),
        ('encodr = "lite"', r"key 'encodr'.*Did you mean 'encoder'"),
        ("encoder = 3", r"encoder = 3: expected a text"),
    ],
)
def test_a_damaged_configuration(configuration: Path, content: str, words: str) -> None:
    configuration.write_text(content, "latin-1")
    with pytest.raises(InputError, match=words) as caught:
        default_encoder()
    assert str(configuration) in str(caught.value)
