"""Every family of checkpoints: what our encoder gives is what ``transformers`` gives."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import TWO_TOWER, VISION_ONLY

from handful import FewShotClassifier, load_encoder
from handful.encoders.checkpoint.families import FAMILIES
from handful.encoders.protocol import Encoder
from handful.errors import InputError

TEXTS = ["a photo of a cat", "dog", "the solar panel in the evening, longer text"]


def theirs(folder: Path) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder).eval()


def random_pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_every_family_has_a_tiny_model() -> None:
    assert set(FAMILIES) == {name.partition("-")[0] for name in TWO_TOWER}


@pytest.mark.parametrize("name", TWO_TOWER + VISION_ONLY)
def test_an_encoder(tiny, name: str) -> None:
    encoder = load_encoder(f"dir:{tiny(name)}")
    assert isinstance(encoder, Encoder)
    features = encoder.encode_images(random_pixels(20))  # more than one batch
    assert features.shape == (20, encoder.dim)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.ptp(features, 0).min() > 0
    assert encoder.encode_images([]).shape == (0, encoder.dim)
    assert encoder.has_text == (name in TWO_TOWER)
    if encoder.has_text:
        assert encoder.encode_texts(TEXTS).shape == (3, encoder.dim)
        assert encoder.encode_texts([]).shape == (0, encoder.dim)
        assert all(template.count("{}") == 1 for template in encoder.default_templates)


@pytest.mark.parametrize("name", [n for n in TWO_TOWER if n != "siglip2"])
def test_images_of_two_towers_are_transformers_own(tiny, name: str) -> None:
    encoder = load_encoder(f"dir:{tiny(name)}")
    x = encoder.preprocess.normalise(random_pixels(3))
    with torch.inference_mode():
        expected = theirs(tiny(name)).get_image_features(pixel_values=x).pooler_output
    torch.testing.assert_close(torch.from_numpy(encoder.encode_images(random_pixels(3))), expected)


@pytest.mark.parametrize("name", VISION_ONLY)
def test_images_of_vision_only_models_are_transformers_own(tiny, name: str) -> None:
    encoder = load_encoder(f"dir:{tiny(name)}")
    x = encoder.preprocess.normalise(random_pixels(3))
    with torch.inference_mode():
        if name == "vit-classifier":
            # The class token after the last layer norm: what its classifier reads.
            from transformers import ViTForImageClassification

            model = ViTForImageClassification.from_pretrained(tiny(name)).eval()
            expected = model.vit(x).last_hidden_state[:, 0]
        else:
            expected = theirs(tiny(name))(pixel_values=x).pooler_output
    torch.testing.assert_close(torch.from_numpy(encoder.encode_images(random_pixels(3))), expected)


def test_variable_resolution_is_shown_a_square(tiny) -> None:
    from PIL import Image
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    encoder = load_encoder(f"dir:{tiny('siglip2')}")
    assert encoder.preprocess.size == 32  # 16 patches of 8
    pixels = random_pixels(2)
    processor = Siglip2ImageProcessorPil.from_pretrained(tiny("siglip2"))
    inputs = processor([Image.fromarray(p) for p in pixels], return_tensors="pt")
    with torch.inference_mode():
        expected = theirs(tiny("siglip2")).get_image_features(**inputs).pooler_output
    torch.testing.assert_close(
        torch.from_numpy(encoder.encode_images(pixels)), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", TWO_TOWER)
def test_texts_are_transformers_own(tiny, name: str) -> None:
    """With the tokenizer called as the documentation of each family says."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny(name), padding_side="right")
    texts = [text.lower() for text in TEXTS]
    if name.startswith("siglip"):
        tokens = tokenizer(
            texts, padding="max_length", max_length=16, truncation=True, return_tensors="pt"
        )
        inputs = {"input_ids": tokens["input_ids"]}
    else:
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        inputs = {key: tokens[key] for key in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        expected = theirs(tiny(name)).get_text_features(**inputs).pooler_output
    ours = torch.from_numpy(load_encoder(f"dir:{tiny(name)}").encode_texts(TEXTS))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TWO_TOWER)
def test_a_text_does_not_depend_on_its_neighbours(tiny, name: str) -> None:
    encoder = load_encoder(f"dir:{tiny(name)}")
    alone = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TWO_TOWER)
def test_only_causal_towers_are_given_short_batches(tiny, name: str) -> None:
    tower = load_encoder(f"dir:{tiny(name)}").text_tower
    ids = tower.inputs(["dog"])["input_ids"]
    full = {"siglip": 16, "siglip2": 16, "altclip": 77, "chinese_clip": 52}
    kind = name.partition("-")[0]
    assert ids.shape[1] == full.get(kind, len(tower.token_ids("dog")))


@pytest.mark.parametrize("name", ["clip", "clip-legacy", "metaclip_2"])
def test_cutting_changes_nothing_for_causal_towers(tiny, name: str) -> None:
    encoder = load_encoder(f"dir:{tiny(name)}")
    cut = encoder.encode_texts(["dog"])
    tokens = encoder.text_tower._tokenizer(
        ["dog"], padding="max_length", max_length=77, return_tensors="pt"
    )
    with torch.inference_mode():
        full = encoder.text_tower.model.get_text_features(input_ids=tokens["input_ids"])
    np.testing.assert_allclose(cut, full.pooler_output.numpy(), rtol=0, atol=1e-5)


def test_cutting_would_change_siglip(tiny) -> None:
    encoder = load_encoder(f"dir:{tiny('siglip')}")
    tower = encoder.text_tower
    ids = torch.tensor([tower.token_ids("dog")])
    with torch.inference_mode():
        short = tower.model.get_text_features(input_ids=ids).pooler_output.numpy()
    assert np.abs(short - encoder.encode_texts(["dog"])).max() > 1e-2


def test_end_of_text_in_both_kinds_of_configuration(tiny, tmp_path: Path) -> None:
    """``eos_token_id: 2`` pools at the highest id, 119 at its first place: the same one here.

    A configuration of the second kind with a wrong number would pool elsewhere: that is what the
    first kind, taken literally, would do.
    """
    folder = shutil.copytree(tiny("clip"), tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    features = {}
    for eos in (119, 2, 40):
        config["text_config"]["eos_token_id"] = eos
        (folder / "config.json").write_text(json.dumps(config))
        features[eos] = load_encoder(f"dir:{folder}").encode_texts(TEXTS)
    np.testing.assert_allclose(features[2], features[119], rtol=0, atol=1e-6)
    assert np.abs(features[40] - features[119]).max() > 1e-2


def test_quick_gelu_and_gelu_differ(tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("clip"), tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    assert config["vision_config"]["hidden_act"] == "quick_gelu"
    for part in ("vision_config", "text_config"):
        config[part]["hidden_act"] = "gelu"
    (folder / "config.json").write_text(json.dumps(config))
    quick, plain = load_encoder(f"dir:{tiny('clip')}"), load_encoder(f"dir:{folder}")
    assert quick.fingerprint != plain.fingerprint
    pixels = random_pixels(2)
    assert np.abs(quick.encode_images(pixels) - plain.encode_images(pixels)).max() > 1e-3
    assert np.abs(quick.encode_texts(TEXTS) - plain.encode_texts(TEXTS)).max() > 1e-3


def test_sigmoid_scale_and_bias(tiny) -> None:
    encoder = load_encoder(f"dir:{tiny('siglip')}")
    pixels = random_pixels(3)
    model = theirs(tiny("siglip"))
    with torch.inference_mode():
        expected = model(
            input_ids=encoder.text_tower.inputs(TEXTS)["input_ids"],
            pixel_values=encoder.preprocess.normalise(pixels),
        ).logits_per_image.numpy()
    images, texts = encoder.encode_images(pixels), encoder.encode_texts(TEXTS)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    ours = encoder.logit_scale * images @ texts.T + encoder.logit_bias
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["clip", "altclip", "chinese_clip", "siglip", "dinov2"])
def test_projection_leads_from_pooled_states_to_features(tiny, name: str) -> None:
    encoder = load_encoder(f"dir:{tiny(name)}")
    pixels = random_pixels(2)
    states = encoder.encode_images(pixels, projected=False)
    if name in ("siglip", "dinov2"):
        assert encoder.projection is None
        np.testing.assert_array_equal(states, encoder.encode_images(pixels))
    else:
        assert encoder.projection.shape == (24, 32)
        ours = states @ encoder.projection.T
        np.testing.assert_allclose(ours, encoder.encode_images(pixels), rtol=1e-4, atol=1e-5)


def test_a_text_without_tower_is_refused(tiny) -> None:
    with pytest.raises(InputError, match=r"has no text tower.*learns from images alone"):
        load_encoder(f"dir:{tiny('dinov2')}").encode_texts(["a"])


@pytest.mark.parametrize("name", ["clip", "siglip", "altclip", "dinov2", "convnext"])
def test_copies_in_every_format_have_one_fingerprint(tiny, tmp_path: Path, name: str) -> None:
    source = tiny(name)
    encoder = load_encoder(f"dir:{source}")
    tensors = load_file(source / "model.safetensors")

    def copy(kind: str) -> Path:
        ignored = shutil.ignore_patterns("model.safetensors")
        return shutil.copytree(source, tmp_path / kind, ignore=ignored)

    pickled = copy("bin")
    # Older savers wrote the position ids too.
    buffers = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    torch.save(tensors | (buffers if name == "clip" else {}), pickled / "pytorch_model.bin")
    sharded = copy("sharded")
    names = sorted(tensors)
    where = {n: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, n in enumerate(names)}
    for shard in set(where.values()):
        save_file({n: tensors[n] for n in names if where[n] == shard}, sharded / shard)
    index = {"metadata": {}, "weight_map": where}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    resaved = copy("resaved")
    theirs(source).save_pretrained(resaved)
    for folder in (pickled, sharded, resaved):
        other = load_encoder(f"dir:{folder}")
        assert other.fingerprint == encoder.fingerprint, folder.name
        np.testing.assert_array_equal(
            other.encode_images(random_pixels(2)), encoder.encode_images(random_pixels(2))
        )


def test_a_checkpoint_in_half_precision_is_computed_in_float32(tiny, tmp_path: Path) -> None:
    source = tiny("clip")
    tensors = {k: v.half() for k, v in load_file(source / "model.safetensors").items()}
    folders = {}
    for kind, weights in (
        ("half", tensors),
        ("upcast", {k: v.float() for k, v in tensors.items()}),
    ):
        folders[kind] = shutil.copytree(source, tmp_path / kind)
        save_file(weights, folders[kind] / "model.safetensors", {"format": "pt"})
    config = json.loads((folders["half"] / "config.json").read_text())
    (folders["half"] / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    half, upcast = (load_encoder(f"dir:{folders[kind]}") for kind in ("half", "upcast"))
    assert half.fingerprint == upcast.fingerprint
    assert next(half.text_tower.model.parameters()).dtype == torch.float32
    pixels = random_pixels(2)
    np.testing.assert_array_equal(half.encode_images(pixels), upcast.encode_images(pixels))

    rounded = load_encoder(f"dir:{folders['half']}?dtype=bfloat16")
    assert rounded.logit_scale == half.logit_scale  # bfloat16 keeps two digits
    asked = load_encoder(f"dir:{folders['half']}?dtype=float16")
    assert next(asked.text_tower.model.parameters()).dtype == torch.float16
    assert asked.fingerprint != half.fingerprint
    assert asked.encode_images(pixels).dtype == np.float32
    np.testing.assert_allclose(
        asked.encode_images(pixels), half.encode_images(pixels), rtol=0.05, atol=0.05
    )


@pytest.mark.slow
def test_saved_classifiers_of_all_families_answer_in_a_new_process(
    tiny, photos: Path, tmp_path: Path
) -> None:
    source = tmp_path / "images"
    for label in ("dam", "scissors"):
        shutil.copytree(photos / label, source / label)
    image = next((source / "dam").iterdir())
    expected = {}
    for name in TWO_TOWER + VISION_ONLY:
        method = "tip-adapter" if name in TWO_TOWER else "linear-probe"
        fitted = FewShotClassifier(f"dir:{tiny(name)}", method, select="fixed").fit(str(source))
        fitted.save(tmp_path / name)
        expected[name] = fitted.predict_proba([str(image)])[0].tolist()
    program = f"""
import json, sys
from handful import FewShotClassifier
answers = {{}}
for name in {list(expected)!r}:
    saved = FewShotClassifier.load({str(tmp_path)!r} + "/" + name)
    answers[name] = saved.predict_proba([{str(image)!r}])[0].tolist()
print(json.dumps(answers))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    answers = json.loads(done.stdout)
    for name, probabilities in expected.items():
        np.testing.assert_allclose(answers[name], probabilities, rtol=0, atol=1e-5, err_msg=name)
