"""The answers that ship with the package are those that others published."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from handful.encoders.known_answers import demand, known_answers, name_of_spec, named
from handful.encoders.preprocess import Preprocess
from handful.errors import InputError

MODELS = {answers.name: answers for answers in known_answers()}
FILES = {
    "openai/clip-vit-base-patch32": "clip-vit-b-32",
    "openai/clip-vit-large-patch14": "clip-vit-l-14",
    "open_clip:RN50/openai": "clip-rn50",
}


def unit(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float32)
    return wide / np.linalg.norm(wide, axis=-1, keepdims=True)


def published(shared: Path, name: str):
    """Class names, templates and text features of the published file."""
    path = shared / "data" / "whu-rs19" / "features" / f"{FILES[name]}.safetensors"
    with safe_open(path, "numpy") as file:
        about, features = file.metadata(), file.get_tensor("text_features")
    return json.loads(about["class_names"]), json.loads(about["templates"]), features


@pytest.mark.parametrize("name", FILES)
def test_features_are_the_published_ones(shared: Path, name: str) -> None:
    classes, templates, features = published(shared, name)
    known = MODELS[name]
    assert known.text_features is not None
    assert len(known.prompts) == 5
    for prompt, row in zip(known.prompts, known.text_features, strict=True):
        [(t, c)] = [
            (t, c)
            for t, template in enumerate(templates)
            for c, word in enumerate(classes)
            if template.format(word) == prompt
        ]
        np.testing.assert_allclose(row, unit(features[t, c]), atol=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_a_neighbouring_prompt_is_not_close_enough(shared: Path, name: str) -> None:
    """0.999 tells the right weights from nearly right ones, and the five are unlike each other."""
    _, _, features = published(shared, name)
    every = unit(features.reshape(-1, features.shape[-1]))
    cosines = np.sort(MODELS[name].text_features @ every.T, axis=1)
    np.testing.assert_allclose(cosines[:, -1], 1, atol=1e-6)  # itself
    assert (cosines[:, -2] < 0.999).all()
    among = MODELS[name].text_features @ MODELS[name].text_features.T
    assert (among[~np.eye(5, dtype=bool)] < 0.9).all()


def test_the_script_finds_the_same_features(shared: Path) -> None:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "known_answers.py"
    spec = importlib.util.spec_from_file_location("benchmark_known_answers", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.FILES == FILES
    for name, file in FILES.items():
        source = shared / "data" / "whu-rs19" / "features" / f"{file}.safetensors"
        rows, where = script.chosen(source, list(MODELS[name].prompts))
        np.testing.assert_allclose(unit(rows), MODELS[name].text_features, atol=1e-6)
        assert "RS-TransCLIP" in where


def test_no_more_than_five_prompts_of_each_model_ship() -> None:
    data = Path(sys.modules[known_answers.__module__].__file__).parent / "data"
    with safe_open(data / "known_answers.safetensors", "numpy") as file:
        shapes = {key: file.get_tensor(key).shape for key in file.keys()}  # noqa: SIM118
    assert shapes == {
        "openai/clip-vit-base-patch32": (5, 512),
        "openai/clip-vit-large-patch14": (5, 768),
        "open_clip:RN50/openai": (5, 1024),
    }


def test_tokens_are_those_of_the_real_vocabulary(clip_tokenizer_folder: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(clip_tokenizer_folder)
    for known in known_answers():
        assert len(known.tokens) >= 2
        for text, ids in known.tokens.items():
            assert tuple(tokenizer(text)["input_ids"]) == ids


def test_tokens_are_those_of_open_clip_s_own_tokenizer() -> None:
    """Its module alone: the package needs torchvision, the tokenizer does not."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        pytest.skip("needs the package open_clip_torch")
    pytest.importorskip("ftfy")
    pytest.importorskip("regex")
    path = Path(package.origin).with_name("tokenizer.py")
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer_alone", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tokenizer = module.SimpleTokenizer()
    for text, ids in MODELS["openai/clip-vit-base-patch32"].tokens.items():
        ours = [tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id]
        assert tuple(ours) == ids


def test_pixels_are_openai_s() -> None:
    """The numbers of clip/clip.py, which ``Preprocess`` has as its defaults."""
    ours = Preprocess()
    for known in known_answers():
        assert (known.size, known.mean, known.std) == (ours.size, ours.mean, ours.std)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        ("hf:openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        (
            f"hf:openai/clip-vit-large-patch14@{'ab' * 20}?crop=floor",
            "openai/clip-vit-large-patch14",
        ),
        ("open_clip:ViT-B-32/openai", "openai/clip-vit-base-patch32"),
        ("open_clip:ViT-B-32-quickgelu/openai?dtype=float16", "openai/clip-vit-base-patch32"),
        ("open_clip:ViT-B-16/openai", "openai/clip-vit-base-patch16"),
        ("open_clip:ViT-L-14/openai", "openai/clip-vit-large-patch14"),
        ("open_clip:RN50-quickgelu/openai", "open_clip:RN50/openai"),
    ],
)
def test_names(given: str, name: str) -> None:
    assert named(given) is demand(given) is MODELS[name]


@pytest.mark.parametrize(
    "spec",
    [
        "lite",
        "dir:openai/clip-vit-base-patch32",  # a folder may hold anything
        "hf:laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "open_clip:ViT-B-32/laion2b_s34b_b79k",
        "open_clip:openai/clip-vit-base-patch32",
    ],
)
def test_other_models_have_no_known_answers(spec: str) -> None:
    assert named(spec) is None


def test_no_name_stands_for_two_models() -> None:
    words = [word for known in known_answers() for word in (known.name, *known.aliases)]
    assert len(words) == len(set(words))
    assert all(name_of_spec(word) == word for word in words)


def test_an_unknown_name_is_refused_with_the_list() -> None:
    with pytest.raises(InputError, match=r"Did you mean 'openai/clip-vit-base-patch16'\?") as told:
        demand("hf:openai/clip-vit-base-patch61")
    assert all(name in str(told.value) for name in MODELS)
