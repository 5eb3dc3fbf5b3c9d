"""The weights of a CLIP of open_clip, written as a model of transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

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


def write_twin(
    folder: Path,
    config: dict[str, Any],
    weights: Path,
    tokenizer: Path,
    *,
    activation: str,
    end: int,
) -> Path:
    """Write a folder that ``dir:`` reads.

    Args:
        folder: overwritten.
        config: of the architecture, as open_clip writes it.
        weights: a file of open_clip.
        tokenizer: a folder with CLIP's.
        activation: as transformers call it.
        end: the token that ends texts.
    """
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    size = config["vision_cfg"]["image_size"]
    save_file(dict(renamed(load_file(weights))), folder / "model.safetensors", {"format": "pt"})
    pixels = {"feature_extractor_type": "CLIPFeatureExtractor", "size": size, "crop_size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps({**pixels, "resample": 3}))
    (folder / "config.json").write_text(json.dumps(configuration(config, activation, end)))
    return folder


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
