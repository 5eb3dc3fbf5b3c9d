"""OpenAI's checkpoints as they are published, but with random weights: full size, same files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

# As published: the old configurations carry every default of their time, and ``eos_token_id: 2``.
TEXT = {
    "_name_or_path": "",
    "add_cross_attention": False,
    "architectures": None,
    "attention_dropout": 0.0,
    "bad_words_ids": None,
    "bos_token_id": 0,
    "chunk_size_feed_forward": 0,
    "decoder_start_token_id": None,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 512,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 2048,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 8,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "tie_word_embeddings": True,
    "torch_dtype": None,
    "torchscript": False,
    "transformers_version": "4.16.0.dev0",
    "use_bfloat16": False,
    "vocab_size": 49408,
}
VISION = {
    "_name_or_path": "",
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "dropout": 0.0,
    "eos_token_id": None,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "image_size": 224,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "torch_dtype": None,
    "transformers_version": "4.16.0.dev0",
    "use_bfloat16": False,
}
LEGACY_PIXELS = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}


def configuration(patch: int) -> dict[str, Any]:
    """Return the ``config.json`` of openai/clip-vit-base-patch32 or -patch16."""
    return {
        "architectures": ["CLIPModel"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": 512,
        "text_config": TEXT,
        "text_config_dict": None,
        "torch_dtype": "float32",
        "transformers_version": None,
        "vision_config": VISION | {"patch_size": patch},
        "vision_config_dict": None,
    }


def make_clip(folder: Path, tokenizer: Path, patch: int, form: str) -> Path:
    """Write a full-size CLIP with random weights.

    Args:
        folder: to write into.
        tokenizer: folder of the real tokenizer's files.
        patch: side of a patch of the image tower, 16 or 32.
        form: ``bin`` (with the position ids that old savers wrote), ``safetensors`` or
            ``sharded``, of which ``safetensors`` is in half precision, as many are.
    """
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    config = configuration(patch)
    torch.manual_seed(patch)
    model = CLIPModel(CLIPConfig.from_dict(config))
    model.logit_scale.data.fill_(4.6052)  # where training left it
    if form == "bin":
        positions = {
            f"{tower}_model.embeddings.position_ids": torch.arange(count)[None]
            for tower, count in (("text", 77), ("vision", (224 // patch) ** 2 + 1))
        }
        torch.save(model.state_dict() | positions, folder / "pytorch_model.bin")
    elif form == "safetensors":
        model.half().save_pretrained(folder)
    else:
        model.save_pretrained(folder, max_shard_size="250MB")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(LEGACY_PIXELS))
    # What real repositories carry besides, and nobody should download.
    for other in ("tf_model.h5", "flax_model.msgpack"):
        (folder / other).write_bytes(b"not for us")
    (folder / "README.md").write_text("A model card.")
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    return folder
