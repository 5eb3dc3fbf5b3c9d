"""Fixtures that every test may use."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import make

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared development data, which is not part of the project."""
    folder = Path(os.environ.get("HANDFUL_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}: set HANDFUL_SHARED to run this test")
    return folder


@pytest.fixture(scope="session")
def photos() -> Path:
    """The photographs that come with the package: nine class folders."""
    return ROOT / "src" / "handful" / "examples" / "photos"


@pytest.fixture(scope="session", autouse=True)
def isolated_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep the tests out of the user's cache; what one test encodes, the others reuse."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["HANDFUL_CACHE"] = str(folder)
    os.environ["HF_HOME"] = str(folder / "huggingface")
    os.environ["HANDFUL_CONFIG"] = str(folder / "config.toml")
    for choice in ("HANDFUL_ENCODER", "HANDFUL_DEVICE"):
        os.environ.pop(choice, None)
    return folder


@pytest.fixture(scope="session")
def clip_tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer files of openai/clip-vit-base-patch32, from open_clip's byte-pair file."""
    # Found, not imported: the file needs none of the packages that open_clip needs.
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        pytest.skip("needs the byte-pair file of the package open_clip_torch")
    packed = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    # A line that says the version, then far more merges than CLIP uses: its vocabulary is 49,152
    # with 256 bytes, 256 bytes that end a word, and two special tokens more.
    lines = gzip.decompress(packed.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    signs = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    start, end = "<|startoftext|>", "<|endoftext|>"
    words = [*signs, *(s + "</w>" for s in signs), *("".join(m.split()) for m in merges)]
    vocabulary = {word: i for i, word in enumerate([*words, start, end])}

    folder = tmp_path_factory.mktemp("clip-tokenizer")
    about = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    special = {
        "bos_token": {"content": start, **about},
        "eos_token": {"content": end, **about},
        "unk_token": {"content": end, **about},
        "pad_token": end,
    }
    settings = {
        key: {**value, "__type": "AddedToken"} if isinstance(value, dict) else value
        for key, value in special.items()
    } | {
        "add_prefix_space": False,
        "errors": "replace",
        "do_lower_case": True,
        "name_or_path": "openai/clip-vit-base-patch32",
        "model_max_length": 77,
        "special_tokens_map_file": "./special_tokens_map.json",
        "tokenizer_class": "CLIPTokenizer",
    }
    for name, content in (
        ("vocab.json", vocabulary),
        ("special_tokens_map.json", special),
        ("tokenizer_config.json", settings),
    ):
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny checkpoint of a family, made once; not to be changed."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = make(name, tmp_path_factory.mktemp(name))
        return made[name]

    return folder
