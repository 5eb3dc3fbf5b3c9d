"""``open_clip:`` encoders do what open_clip does, and say nothing but what they have to."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_open_clip import CONFIG, model_folder

from handful import FewShotClassifier, InputError
from handful.encoders.open_clip import package as open_clip_package
from handful.encoders.spec import load_encoder
from handful.encoders.two_tower import TwoTowerEncoder

TEXTS = ["a photo of a cat", "This is a photo of the hammer.", "A Diagram, 3.14 × 2!", "dog"]
Weights = Callable[[str], Path]


@pytest.fixture
def load(open_clip: Any, weights: Weights) -> Callable[[str], TwoTowerEncoder]:
    """Load an architecture with its random weights."""

    def encoder(arch: str) -> TwoTowerEncoder:
        loaded = load_encoder(f"open_clip:{arch}/{weights(arch)}")
        assert isinstance(loaded, TwoTowerEncoder)
        return loaded

    return encoder


def as_open_clip_does(
    open_clip: Any, arch: str, file: Path, images: list[Image.Image], **settings: Any
) -> tuple[np.ndarray, np.ndarray]:
    model, transform = open_clip.create_model_from_pretrained(arch, str(file), **settings)
    model.eval()
    with torch.inference_mode():
        pixels = torch.stack([transform(image) for image in images])
        image = model.encode_image(pixels, normalize=False)
        text = model.encode_text(open_clip.get_tokenizer(arch)(TEXTS), normalize=False)
    return image.numpy(), text.numpy()


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == np.float32
    largest = np.abs(theirs).max()
    assert ours.std(axis=0).max() > 1e-2 * largest, "inputs are all the same to this model"
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * largest, rtol=0)


# -- the same as open_clip -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arch",
    [
        "RN50",
        "ViT-B-32",
        "tiny-vit",
        "tiny-vit-quickgelu",
        "tiny-resnet",
        "tiny-siglip",
        "tiny-timm",
        "tiny-coca",
    ],
)
def test_features_are_those_of_open_clip(
    open_clip: Any, load: Any, weights: Weights, pictures: list[Any], arch: str
) -> None:
    encoder = load(arch)
    images, texts = as_open_clip_does(open_clip, arch, weights(arch), pictures[:3])
    assert_same(encoder.encode_images(pictures[:3]), images)
    assert_same(encoder.encode_texts(TEXTS), texts)
    assert encoder.dim == images.shape[1] == texts.shape[1]
    assert encoder.has_text and encoder.dtype == torch.float32


@pytest.mark.parametrize(
    ("arch", "width"), [("tiny-vit", 64), ("tiny-timm", 64), ("tiny-coca", 24)]
)
def test_the_projection_leads_from_the_pooled_states_to_the_features(
    load: Any, pictures: list[Any], arch: str, width: int
) -> None:
    encoder = load(arch)
    pooled = encoder.encode_images(pictures[:3], projected=False)
    assert encoder.projection.shape == (encoder.dim, width) and pooled.shape == (3, width)
    assert_same(pooled @ encoder.projection.T, encoder.encode_images(pictures[:3]))


@pytest.mark.parametrize("arch", ["tiny-resnet", "tiny-siglip"])
def test_towers_without_a_linear_projection_have_none(
    load: Any, pictures: list[Any], arch: str
) -> None:
    encoder = load(arch)
    assert encoder.projection is None
    features = encoder.encode_images(pictures[:2])
    np.testing.assert_array_equal(encoder.encode_images(pictures[:2], projected=False), features)


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ("tiny-vit", "text_projection"),
        ("tiny-siglip", "text.text_projection"),
        ("tiny-coca", "text.text_projection"),
    ],
)
def test_pooled_states_of_texts(load: Any, weights: Weights, arch: str, name: str) -> None:
    encoder = load(arch)
    state = load_file(weights(arch))
    with torch.inference_mode():
        pooled = encoder.text_tower.pooled(TEXTS)
    if name in state:
        projected = pooled @ state[name]
    else:
        projected = pooled @ state[f"{name}.weight"].T + state[f"{name}.bias"]
    assert_same(encoder.encode_texts(TEXTS), projected.numpy())
    assert not torch.allclose(pooled, torch.from_numpy(encoder.encode_texts(TEXTS))[:, :1])


def test_text_tower_that_ends_in_a_network_has_no_pooled_states() -> None:
    from handful.encoders.open_clip.towers import TextTower

    model = torch.nn.Module()
    model.text = torch.nn.Module()
    model.text.proj = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="open_clip:some/one ends in a network"):
        TextTower(model, None, "some/one").pooled(["a cat"])


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_open_clip(
    open_clip: Any,
    weights: Weights,
    pictures: list[Any],
    tmp_path: Path,
    mode: str,
    interpolation: str,
) -> None:
    about = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
    about |= {"interpolation": interpolation, "resize_mode": mode}
    folder = model_folder(tmp_path, "tiny-vit-large", weights("tiny-vit-large"), about)
    encoder = load_encoder(f"open_clip:local-dir:{folder}")
    transform = open_clip.image_transform(40, is_train=False, **about)
    noise = np.random.default_rng(0)
    # Excess over the crop of every remainder modulo 4, wide and tall, enlarged and reduced.
    sizes = [(40, 40), (41, 40), (42, 40), (43, 40), (40, 47), (635, 224), (30, 17), (375, 500)]
    images = [Image.fromarray(noise.integers(0, 256, (h, w, 3), np.uint8)) for w, h in sizes]
    for image in [*images, *pictures]:
        ours = encoder.preprocess.normalise(encoder.preprocess(image)[None])[0]
        # One of 255 steps is more than 0.01 here.
        torch.testing.assert_close(ours, transform(image), atol=1e-5, rtol=0)


def test_a_file_is_prepared_as_all_tags_of_its_architecture_are(
    open_clip: Any, weights: Weights, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """open_clip prepares a SigLIP file as if OpenAI had made it: an architecture does not say."""
    tags = {tag: open_clip.get_pretrained_cfg("ViT-B-16-SigLIP", "webli") for tag in ("a", "b")}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-siglip", tags)
    spec = f"open_clip:tiny-siglip/{weights('tiny-siglip')}"
    prepared = load_encoder(spec).preprocess
    assert (prepared.style, prepared.mean, prepared.std) == ("coop", (0.5,) * 3, (0.5,) * 3)
    assert capfd.readouterr().err == ""
    tags["b"] = {**tags["b"], "mean": (0.4, 0.4, 0.4)}
    assert load_encoder(spec).preprocess.style == "clip"
    said = capfd.readouterr().err
    assert "OpenAI's preprocessing (some weights of tiny-siglip need another)" in said


# -- what an encoder says of itself ----------------------------------------------------------------


def test_token_ids(load: Any) -> None:
    clip, siglip = load("tiny-vit"), load("tiny-siglip")
    assert clip.text_tower.token_ids("a diagram") == [49406, 320, 22697, 49407]
    # "!" inside a word of punctuation is token 0, with which open_clip pads.
    ids = clip.text_tower.token_ids("!-")
    assert ids[0] == 49406 and ids[-1] == 49407 and len(ids) > 2
    long = clip.text_tower.token_ids("cat " * 200)
    assert len(long) == 77 and long[-1] == 49407
    assert siglip.text_tower.token_ids("a photo") == [4, 5, 1]
    assert siglip.text_tower.token_ids("a " * 40) == [4] * 15 + [1]


def test_scale_bias_and_templates(load: Any, weights: Weights) -> None:
    clip, siglip = load("tiny-vit"), load("tiny-siglip")
    state = load_file(weights("tiny-siglip"))
    assert clip.logit_scale == pytest.approx(1 / 0.07)
    assert clip.logit_bias == 0
    assert clip.default_templates == ("a photo of a {}.",)
    assert siglip.logit_bias == pytest.approx(float(state["logit_bias"])) == -10
    assert siglip.default_templates == ("This is a photo of {}.",)


def test_the_fingerprint_sees_what_features_depend_on_and_nothing_else(
    open_clip: Any, load: Any, weights: Weights, tmp_path: Path
) -> None:
    file = weights("tiny-vit")
    one = load("tiny-vit").fingerprint
    torch.save(load_file(file), tmp_path / "same.pt")
    half = {name: tensor.half().float() for name, tensor in load_file(file).items()}
    save_file(half, tmp_path / "half.safetensors")
    folder = model_folder(tmp_path / "folder", "tiny-vit", file)
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["vision_cfg"]["patch_dropout"] = 0.5  # concerns training alone
    (folder / CONFIG).write_text(json.dumps(config))

    def of(spec: str) -> str:
        return load_encoder(f"open_clip:{spec}").fingerprint

    assert of(f"tiny-vit/{tmp_path / 'same.pt'}") == of(f"local-dir:{folder}") == one
    others = [
        of(f"tiny-vit-quickgelu/{file}"),
        of(f"tiny-vit/{tmp_path / 'half.safetensors'}"),
        of(f"tiny-vit/{file}?style=coop"),
        of(f"tiny-vit/{file}?dtype=bfloat16"),
    ]
    assert len({one, *others}) == 5


def test_options_are_kept_in_the_spec(load: Any, weights: Weights, pictures: list[Any]) -> None:
    spec = f"open_clip:tiny-vit/{weights('tiny-vit')}?style=coop&dtype=bfloat16"
    encoder = load_encoder(spec)
    assert encoder.spec == spec
    assert encoder.preprocess.style == "coop"
    ours = encoder.encode_images(pictures[:2])
    exact = load("tiny-vit")
    exact.preprocess = encoder.preprocess
    wanted = exact.encode_images(pictures[:2])
    assert ours.dtype == np.float32
    assert encoder.logit_scale == exact.logit_scale
    # bfloat16 has 8 bits of mantissa.
    assert 0 < np.abs(ours - wanted).max() < 0.1 * np.abs(wanted).max()
    assert encoder.encode_texts(TEXTS).shape == (len(TEXTS), 24)


@pytest.mark.parametrize("arch", ["tiny-vit", "tiny-siglip"])
def test_nothing_of_open_clip_reaches_the_terminal(
    load: Any, weights: Weights, capfd: Any, arch: str
) -> None:
    weights(arch)
    capfd.readouterr()
    handlers = list(logging.root.handlers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(arch)
    said = capfd.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert all(line.startswith("handful: ") for line in lines)
    # The file may be of either activation, and only the user can know.
    assert ["tiny-vit-quickgelu" in line for line in lines] == [True] * (arch == "tiny-vit")
    assert logging.root.handlers == handlers and logging.root.manager.disable == 0


def test_quiet_is_quiet_and_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_clip_package.quiet():
            logging.error("something")
            warnings.warn("something", stacklevel=1)
    assert caplog.records == [] and logging.root.manager.disable == 0
    kept = logging.root.handlers[:]
    logging.root.handlers.clear()
    try:
        with open_clip_package.quiet():
            # The functions of the module give a bare root logger a handler, for good.
            logging.warning("something")
        assert logging.root.handlers == []
    finally:
        logging.root.handlers[:] = kept


def test_a_saved_classifier_comes_back(weights: Weights, photos: Path, tmp_path: Path) -> None:
    for name in sorted(p.name for p in photos.iterdir() if p.is_dir())[:3]:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for file in sorted((photos / name).iterdir())[:4]:
            shutil.copy(file, tmp_path / "photos" / name)
    file = tmp_path / "vit.safetensors"
    shutil.copy(weights("tiny-vit-quickgelu"), file)
    spec = f"open_clip:tiny-vit-quickgelu/{file}"
    new = sorted((tmp_path / "photos").rglob("*.webp"))[::3]
    one = FewShotClassifier(spec, "tip-adapter").fit(tmp_path / "photos")
    one.save(tmp_path / "model")
    other = FewShotClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(other.predict_proba(new), one.predict_proba(new))
    assert other.templates_ == ("a photo of a {}.",)
    save_file({name: 1.1 * tensor for name, tensor in load_file(file).items()}, file)
    with pytest.raises(InputError, match="is now another"):
        FewShotClassifier.load(tmp_path / "model").predict(new)
