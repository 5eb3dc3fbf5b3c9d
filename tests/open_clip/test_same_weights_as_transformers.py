"""The same weights through open_clip and through transformers: one model, whoever computes it.

Two implementations by other people, each with its own preprocessing, tokenizer, pooling and
activation, agree only if we call both of them rightly.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from handful.encoders.spec import load_encoder

TEXTS = ["a photo of a cat", "A Diagram, 3.14 × 2!", "naïve café — 東京 🙂", "dog " * 100, ""]

# open_clip's name to that of transformers, for what lies outside the blocks of the transformers.
OUTER = {
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",  # the misspelling is theirs
    "visual.ln_post": "vision_model.post_layernorm",
    "visual.proj": "visual_projection.weight",
    "token_embedding": "text_model.embeddings.token_embedding",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "text_projection": "text_projection.weight",
}
PROJECTIONS = ("visual.proj", "text_projection")
INNER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
BLOCKS = {
    "visual.transformer.resblocks": "vision_model.encoder.layers",
    "transformer.resblocks": "text_model.encoder.layers",
}


def renamed(state: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Turn the tensors of open_clip's CLIP into those of ``CLIPModel``."""
    for name, tensor in state.items():
        blocks = next((b for b in BLOCKS if name.startswith(f"{b}.")), None)
        if blocks is None:
            stem, last = name.rpartition(".")[::2]
            # The projections are (H, D) here, and the weights of a layer, (D, H), there.
            value = tensor.T.contiguous() if name in PROJECTIONS else tensor
            yield (OUTER[name], value) if name in OUTER else (f"{OUTER[stem]}.{last}", value)
            continue
        number, inner = name.removeprefix(f"{blocks}.").split(".", 1)
        there = f"{BLOCKS[blocks]}.{number}"
        if inner.startswith("attn.in_proj_"):  # queries, keys and values, one below the other
            kind = inner.removeprefix("attn.in_proj_")
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{there}.self_attn.{part}_proj.{kind}", rows.contiguous()
        else:
            stem, kind = inner.rpartition(".")[::2]
            yield f"{there}.{INNER[stem]}.{kind}", tensor


def configuration(config: dict[str, Any], activation: str, end: int) -> dict[str, Any]:
    """Return the ``config.json`` of transformers for an architecture of open_clip."""
    vision, text = config["vision_cfg"], config["text_cfg"]

    def tower(width: int, layers: int, heads: int) -> dict[str, Any]:
        sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
        return {**sizes, "num_attention_heads": heads, "hidden_act": activation}

    heads = vision["width"] // vision.get("head_width", 64)
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": config["embed_dim"],
        "vision_config": {
            **tower(vision["width"], vision["layers"], heads),
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
        },
        "text_config": {
            **tower(text["width"], text["layers"], text["heads"]),
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["context_length"],
            "bos_token_id": 49406,
            "eos_token_id": end,
        },
    }


@pytest.mark.parametrize(
    ("arch", "end"),
    [
        ("tiny-vit-quickgelu", 2),  # as OpenAI published its configurations
        ("tiny-vit-quickgelu", 49407),  # as transformers makes them now
        pytest.param("ViT-B-32-quickgelu", 2, marks=pytest.mark.slow),
    ],
)
def test_features_agree_with_the_right_activation_alone(
    open_clip: Any,
    weights: Callable[[str], Path],
    pictures: list[Any],
    clip_tokenizer_folder: Path,
    tmp_path: Path,
    arch: str,
    end: int,
) -> None:
    file, config = weights(arch), open_clip.get_model_config(arch)
    theirs = load_encoder(f"open_clip:{arch}/{file}")
    folder, size = tmp_path / "model", config["vision_cfg"]["image_size"]
    shutil.copytree(clip_tokenizer_folder, folder)
    save_file(dict(renamed(load_file(file))), folder / "model.safetensors", {"format": "pt"})
    pixels = {"feature_extractor_type": "CLIPFeatureExtractor", "size": size, "crop_size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps({**pixels, "resample": 3}))

    def ours(activation: str) -> Any:
        (folder / "config.json").write_text(json.dumps(configuration(config, activation, end)))
        return load_encoder(f"dir:{folder}")

    right, wrong = ours("quick_gelu"), ours("gelu")
    assert right.preprocess == theirs.preprocess
    assert right.logit_scale == pytest.approx(theirs.logit_scale)
    np.testing.assert_allclose(right.projection, theirs.projection)
    for inputs, encode in ((pictures[:3], "encode_images"), (TEXTS, "encode_texts")):
        wanted = unit(getattr(theirs, encode)(inputs))
        assert np.linalg.norm(wanted - wanted[0], axis=1)[1:].min() > 1e-2, "inputs look the same"
        assert np.abs(unit(getattr(right, encode)(inputs)) - wanted).max() < 1e-5
        # The wrong activation moves every one of the inputs far beyond rounding.
        off = np.linalg.norm(unit(getattr(wrong, encode)(inputs)) - wanted, axis=1)
        assert off.min() > 1e-3
    if arch == "tiny-vit-quickgelu":
        with torch.inference_mode():
            pooled = [
                (e.encode_images(pictures[:3], projected=False), e.text_tower.pooled(TEXTS).numpy())
                for e in (right, theirs)
            ]
        for one, other in zip(*pooled, strict=True):
            assert np.abs(unit(one) - unit(other)).max() < 1e-5


def unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)
