"""Spec strings: the ones that load, the ones that will, and the ones that are typos."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from handful.encoders.protocol import Encoder
from handful.encoders.spec import KINDS, PROVIDERS, encoder_kinds, encoder_name, load_encoder
from handful.errors import InputError


@pytest.mark.parametrize("spec", ["lite", "lite:coop"])
def test_an_encoder_is_loaded_and_knows_its_spec(lite, spec: str) -> None:
    encoder = load_encoder(spec)
    assert isinstance(encoder, Encoder)
    assert encoder.spec == spec


def test_the_default_style_by_its_name_is_the_default(lite) -> None:
    assert load_encoder("lite:clip").spec == "lite"


def test_every_provider_exists_and_is_described() -> None:
    assert set(PROVIDERS) <= set(KINDS)
    for provider in PROVIDERS.values():
        module, function = provider.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_kinds(lite, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {kind.pattern.partition(":")[0] for kind in encoder_kinds()} == set(KINDS)
    assert encoder_kinds()[0].available
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not encoder_kinds()[0].available


@pytest.mark.parametrize(
    ("spec", "nearest"),
    [("lit", "lite"), ("Lite", "lite"), ("openclip:RN50/openai", "open_clip"), ("h:a/b", "hf")],
)
def test_typos(spec: str, nearest: str) -> None:
    with pytest.raises(InputError, match=rf"{spec!r} is unknown.*Did you mean '{nearest}'"):
        load_encoder(spec)


def test_an_unknown_style() -> None:
    with pytest.raises(InputError, match=r"style 'coup' is unknown.*Did you mean 'coop'"):
        load_encoder("lite:coup")


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("lite", "lite"),
        ("hf:openai/clip-vit-base-patch16", "clip-vit-base-patch16"),
        ("hf:openai/clip-vit-base-patch16@c0ffee?crop=floor", "clip-vit-base-patch16?crop=floor"),
        ("dir:/models/mine/", "mine"),
        ("dir:mine", "mine"),
        ("open_clip:RN50/openai", "RN50"),
        ("open_clip:RN50/openai?style=coop", "RN50?style=coop"),
        ("open_clip:ViT-B-32/weights/of/mine.pt", "ViT-B-32"),
        ("open_clip:hf-hub:laion/CLIP-ViT-B-32@main", "CLIP-ViT-B-32"),
        ("open_clip:local-dir:models/tiny", "tiny"),
    ],
)
def test_what_tables_call_an_encoder(spec: str, name: str) -> None:
    assert encoder_name(spec) == name
