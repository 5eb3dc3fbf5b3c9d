"""Where ``open_clip:`` finds a model, and the one sentence that it says when it finds none."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_stand_in import HubStandIn
from safetensors.torch import load_file, save_file
from tiny_open_clip import ARCHITECTURES, CONFIG, WEIGHTS, model_folder

from handful import InputError
from handful.encoders.open_clip.download import bring
from handful.encoders.open_clip.package import import_open_clip
from handful.encoders.spec import load_encoder

REPOSITORY = "someone/tiny"

Weights = Callable[[str], Path]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A hub on this machine and an empty cache, for this process."""
    from huggingface_hub import constants

    with HubStandIn() as stand_in:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE
        address = template.replace(constants.ENDPOINT, stand_in.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "ENDPOINT", stand_in.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield stand_in


@pytest.fixture
def tag(open_clip: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tag of tiny-vit whose weights need quick GELU and are prepared as SigLIP's."""
    about = open_clip.get_pretrained_cfg("ViT-B-16-SigLIP", "webli")
    tags = {"good_tag": {**about, "hf_hub": f"{REPOSITORY}/", "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-vit", tags)
    return "open_clip:tiny-vit/good-tag"


# -- what is found ---------------------------------------------------------------------------------


def test_a_tag_is_downloaded_once_and_gets_the_activation_that_it_needs(
    hub: HubStandIn,
    tag: str,
    weights: Weights,
    pictures: list[Any],
    tmp_path: Path,
    capfd: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.add(REPOSITORY, model_folder(tmp_path / "model", "tiny-vit", weights("tiny-vit")))
    encoder = load_encoder(tag)
    said = capfd.readouterr()
    assert said.out == ""
    megabytes = f"{weights('tiny-vit').stat().st_size / 1e6:.1f} MB"
    host = hub.url.removeprefix("http://")
    assert said.err.splitlines() == [
        f"handful: downloading {WEIGHTS} of {REPOSITORY} from {host}: {megabytes}, once,"
        f" to {tmp_path / 'hub'}"
    ]
    assert encoder.spec == tag
    assert encoder.preprocess.style == "coop" and encoder.preprocess.mean == (0.5,) * 3
    quick = load_encoder(f"open_clip:tiny-vit-quickgelu/{weights('tiny-vit')}")
    quick.preprocess = encoder.preprocess
    np.testing.assert_array_equal(encoder.encode_images(pictures), quick.encode_images(pictures))
    np.testing.assert_array_equal(encoder.encode_texts(["a cat"]), quick.encode_texts(["a cat"]))

    asked = len(hub.asked())
    capfd.readouterr()
    assert load_encoder(tag).fingerprint == encoder.fingerprint
    assert len(hub.asked()) == asked, "what is in the cache needs no hub"
    assert capfd.readouterr().err == ""


def test_every_tag_that_needs_quick_gelu_gets_it(
    open_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open_clip itself only warns, for 28 of its tags; those of OpenAI are among them."""
    from handful.encoders.open_clip import source

    monkeypatch.setattr(source, "bring", lambda *_: Path("weights"))
    tags = open_clip.list_pretrained()
    assert ("RN50", "openai") in tags and ("ViT-B-32", "openai") in tags
    for arch, name in tags:
        needs = bool(open_clip.get_pretrained_cfg(arch, name).get("quick_gelu"))
        says = bool(open_clip.get_model_config(arch).get("quick_gelu"))
        found = source.find_source(open_clip, f"{arch}/{name}")
        # The one architecture that says so where its tag does not was trained as it says.
        assert found.quick_gelu == needs or (arch == "roberta-ViT-B-32" and says)
        assert found.config["embed_dim"] > 0 and found.is_tag


def test_older_tags_name_their_file(hub: HubStandIn, tag: str, weights: Weights) -> None:
    import open_clip

    tags = open_clip.pretrained._PRETRAINED["tiny-vit"]
    tags["old"] = {**tags["good_tag"], "hf_hub": f"{REPOSITORY}/weights.bin"}
    files = {"weights.safetensors": weights("tiny-vit"), "weights.bin": b"", ".gitattributes": b""}
    hub.add(REPOSITORY, files)
    assert load_encoder("open_clip:tiny-vit/old").dim == 24


def test_a_repository_is_pinned_to_its_commit(
    hub: HubStandIn, weights: Weights, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path / "model", "tiny-siglip", weights("tiny-siglip"))
    commit = hub.add(REPOSITORY, folder)
    shutil.copytree(
        ARCHITECTURES["tiny-siglip"]["text_cfg"]["hf_tokenizer_name"], folder, dirs_exist_ok=True
    )
    encoder = load_encoder(f"open_clip:hf-hub:{REPOSITORY}?crop=floor")
    assert encoder.spec == f"open_clip:hf-hub:{REPOSITORY}@{commit}?crop=floor"
    assert f"downloading {WEIGHTS} of {REPOSITORY}" in capfd.readouterr().err
    hub.add(REPOSITORY, {"README.md": "the model is gone"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for spec in (encoder.spec, f"open_clip:hf-hub:{REPOSITORY}?crop=floor"):
        again = load_encoder(spec)
        assert (again.spec, again.fingerprint) == (encoder.spec, encoder.fingerprint)
    local = load_encoder(f"open_clip:local-dir:{folder}?crop=floor")
    assert local.fingerprint == encoder.fingerprint


def test_configuration_and_weights_are_of_one_commit(
    hub: HubStandIn, weights: Weights, tmp_path: Path
) -> None:
    """The branch moves on between the two."""
    folder = model_folder(tmp_path / "model", "tiny-vit", weights("tiny-vit"))
    old = hub.add(REPOSITORY, folder)
    bring(REPOSITORY, (CONFIG,))
    state = load_file(folder / WEIGHTS)
    new = tmp_path / WEIGHTS
    save_file({name: 1.1 * tensor for name, tensor in state.items()}, new)
    hub.add(REPOSITORY, {CONFIG: folder / CONFIG, WEIGHTS: new})
    encoder = load_encoder(f"open_clip:hf-hub:{REPOSITORY}")
    assert encoder.spec.endswith(f"@{old}")
    assert encoder.fingerprint == load_encoder(f"open_clip:local-dir:{folder}").fingerprint


def test_older_formats_of_weights(weights: Weights, tmp_path: Path) -> None:
    """As torch.save writes them, and as open_clip's training does."""
    state = load_file(weights("tiny-vit"))
    one = load_encoder(f"open_clip:tiny-vit/{weights('tiny-vit')}")
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "parallel.pt")
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "training.pt")
    for name in ("parallel.pt", "training.pt"):
        other = load_encoder(f"open_clip:tiny-vit/{tmp_path / name}")
        assert other.fingerprint == one.fingerprint


# -- what is not found -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "names the architecture '', which is unknown: give one of the"),
        ("ViT-B/32/openai", "Did you mean 'ViT-B-32'?"),
        ("vit-b-32/openai", "Did you mean 'ViT-B-32'?"),
        ("RN5O/openai", "Did you mean 'RN50'?"),
        ("RN50", "names no weights: give open_clip:RN50/WEIGHTS with one of openai, yfcc15m"),
        ("RN50/", "names no weights"),
        ("RN50/opnai", "names the weights 'opnai', no tag of RN50 and no file: give"),
        ("RN50/opnai", "Did you mean 'openai'?"),
        ("RN50/no/such.safetensors", "names the weights 'no/such.safetensors', no tag of RN50"),
        # These were trained with plain GELU: with quick GELU they would be wrong in silence.
        ("ViT-B-32-quickgelu/laion2b_s34b_b79k", "no tag of ViT-B-32-quickgelu"),
        ("ViT-S-16/openai", "give open_clip:ViT-S-16/WEIGHTS with the path of a file."),
        ("local-dir:/no/such", "names no folder with a model of open_clip: expected"),
        ("hf-hub:no such", "'no such' is no name of a model on the Hugging Face hub"),
        ("hf-hub:", "'' is no name of a model on the Hugging Face hub"),
    ],
)
def test_names_that_mean_nothing(open_clip: Any, name: str, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        load_encoder(f"open_clip:{name}")
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_files_that_are_no_weights(weights: Weights, tmp_path: Path) -> None:
    whole = weights("tiny-vit").read_bytes()
    torch.save(load_file(weights("tiny-vit")), tmp_path / "whole.pt")
    for name, content in (
        ("cut.safetensors", whole[: len(whole) // 2]),
        ("cut.pt", (tmp_path / "whole.pt").read_bytes()[:100_000]),
        ("text.safetensors", b"version https://git-lfs.github.com/spec/v1"),
        ("text.pt", b"<html>no such page</html>"),
        ("empty.bin", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"cannot be read \(.+\): expected a table of") as e:
            load_encoder(f"open_clip:tiny-vit/{tmp_path / name}")
        assert str(tmp_path / name) in str(e.value) and "\n" not in str(e.value)


def test_weights_that_could_run_code_are_refused(tmp_path: Path, weights: Weights) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save({"visual.proj": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(InputError, match="without code in it"):
        load_encoder(f"open_clip:tiny-vit/{tmp_path / 'bomb.pt'}")
    assert not (tmp_path / "exploded").exists()


def test_weights_of_another_architecture(weights: Weights, tmp_path: Path) -> None:
    state = load_file(weights("tiny-vit"))
    less, more = dict(state), {**state, "visual.head.weight": torch.zeros(2)}
    del less["ln_final.bias"]
    save_file(less, tmp_path / "less.safetensors")
    save_file(more, tmp_path / "more.safetensors")
    for spec, words in (
        (f"tiny-resnet/{weights('tiny-vit')}", "Missing key"),
        (f"tiny-vit/{tmp_path / 'less.safetensors'}", "ln_final.bias"),
        (f"tiny-vit/{tmp_path / 'more.safetensors'}", "visual.head.weight"),
        # open_clip would stretch the position embeddings and say nothing.
        (f"tiny-vit-large/{weights('tiny-vit')}", r"\(17, 64\) instead of \(26, 64\)"),
    ):
        with pytest.raises(InputError, match=f"do not fit the architecture .*{words}") as refusal:
            load_encoder(f"open_clip:{spec}")
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("preprocess", "words"),
    [
        ({"resize_mode": "longest"}, "in the resize mode 'longest', which is not supported"),
        ({"size": [32, 40]}, r"wants images of \[32, 40\] pixels"),
    ],
)
def test_preprocessing_that_handful_does_not_know(
    weights: Weights, tmp_path: Path, preprocess: dict[str, Any], words: str, open_clip: Any
) -> None:
    from handful.encoders.open_clip import _preprocess

    about = open_clip.get_model_preprocess_cfg(open_clip.create_model("tiny-vit"))
    with pytest.raises(InputError, match=words):
        _preprocess({**about, **preprocess}, "some/one")
    if "size" not in preprocess:  # which comes from the architecture
        folder = model_folder(tmp_path, "tiny-vit", weights("tiny-vit"), preprocess)
        with pytest.raises(InputError, match=words):
            load_encoder(f"open_clip:local-dir:{folder}")


def test_folders_that_are_damaged(weights: Weights, tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "tiny-vit", weights("tiny-vit"))
    good = json.loads((folder / CONFIG).read_text())["model_cfg"]
    unknown = {**good, "vision_cfg": {**good["vision_cfg"], "colour": "red"}}
    code = {**good["text_cfg"], "tokenizer_kwargs": {"trust_remote_code": True}}
    for text, words in (
        ("{", "is damaged"),
        ("{}", "describes no model: expected model_cfg with embed_dim, vision_cfg, text_cfg"),
        (json.dumps({"model_cfg": {**good, "text_cfg": 3}}), "describes no model"),
        (json.dumps({"model_cfg": unknown}), "open_clip cannot build local-dir:.*colour"),
        (json.dumps({"model_cfg": {**good, "text_cfg": code}}), "asks for trust_remote_code"),
    ):
        (folder / CONFIG).write_text(text)
        with pytest.raises(InputError, match=words):
            load_encoder(f"open_clip:local-dir:{folder}")
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match="names no folder with a model of open_clip"):
        load_encoder(f"open_clip:local-dir:{folder}")


def test_what_a_hub_refuses(
    hub: HubStandIn, tag: str, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handful.encoders.checkpoint.hub_transfer.WAITS", ())
    folder = model_folder(tmp_path / "model", "tiny-vit", weights("tiny-vit"))
    spec = f"open_clip:hf-hub:{REPOSITORY}"
    for asked in (spec, tag):
        with pytest.raises(InputError, match=f"has no model {REPOSITORY}, or it is private"):
            load_encoder(asked)
    hub.add(REPOSITORY, {"config.json": "{}"})
    with pytest.raises(InputError, match=f"give hf:{REPOSITORY} if it is one of transformers"):
        load_encoder(spec)
    hub.add(REPOSITORY, folder, gated=403)
    with pytest.raises(InputError, match="is gated: accept its terms at"):
        load_encoder(spec)
    hub.faults(REPOSITORY).gated = None
    hub.faults(REPOSITORY).cut_after = 1000
    with pytest.raises(InputError, match=r"broke .* of open_clip_model.safetensors of someone"):
        load_encoder(tag)
    hub.faults(REPOSITORY).cut_after = None
    assert load_encoder(tag).dim == 24, "goes on where it was cut"


def test_without_a_network(tag: str, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"127.0.0.1:9 could not be reached .*: connect"):
        load_encoder(tag)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE forbids to download it"):
        load_encoder(tag)


def test_a_text_tower_from_elsewhere_that_cannot_be_had(
    open_clip: Any, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path, "tiny-vit", weights("tiny-vit"))
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["text_cfg"] = {"hf_model_name": "someone/roberta"}
    (folder / CONFIG).write_text(json.dumps(config))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"needs files of someone/roberta .*: connect") as e:
        load_encoder(f"open_clip:local-dir:{folder}")
    assert "\n" not in str(e.value)


# -- packages that are missing or do not work ------------------------------------------------------


@pytest.mark.parametrize("name", ["open_clip", "torchvision", "timm"])
def test_a_package_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == name else find(n))
    with pytest.raises(InputError) as refusal:
        load_encoder("open_clip:RN50/openai")
    assert f"the package {name} is not installed" in str(refusal.value)
    assert 'pip install "handful[open-clip]"' in str(refusal.value)


@pytest.mark.parametrize(
    ("torch_version", "command"),
    [
        (
            "2.13.0+cpu",
            "pip install --force-reinstall --no-deps --index-url"
            ' https://download.pytorch.org/whl/cpu "torchvision==0.28.*"',
        ),
        ("2.6.0", 'pip install --force-reinstall --no-deps "torchvision==0.21.*"'),
    ],
)
def test_a_torchvision_for_another_torch(
    torch_version: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist")

    versions = {"torch": torch_version, "torchvision": "0.30.1"}
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(InputError) as refusal:
        import_open_clip()
    assert str(refusal.value) == (
        f"the installed torchvision 0.30.1 does not fit torch {torch_version} (operator"
        f" torchvision::nms does not exist): run {command}."
    )


def test_the_real_torchvision_beside_the_cpu_build_of_torch(tmp_path: Path) -> None:
    """In a process without the stand-in of conftest.py."""
    code = "from handful.encoders.spec import load_encoder; load_encoder('open_clip:RN50/openai')"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )
    last = ended.stderr.strip().splitlines()[-1]
    if "HF_HUB_OFFLINE" in last:
        pytest.skip("this torchvision fits this torch")
    assert "handful.errors.InputError: the installed torchvision 0.28.0 does not fit" in last
