"""Small models for open_clip: its own architectures are large."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"

VIT = {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
SIGLIP_TEXT = {
    "context_length": 16,
    "vocab_size": 40,
    "width": 64,
    "heads": 4,
    "layers": 2,
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "tokenizer_kwargs": {"clean": "canonicalize"},
}
# One small architecture of every kind that open_clip builds.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "tiny-vit": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT},
    "tiny-vit-quickgelu": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": VIT,
        "text_cfg": TEXT,
    },
    "tiny-vit-large": {
        "embed_dim": 24,
        "vision_cfg": {**VIT, "image_size": 40},
        "text_cfg": TEXT,
    },
    "tiny-resnet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": TEXT,
    },
    "tiny-siglip": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": SIGLIP_TEXT,
    },
    "tiny-timm": {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_pool": "",
            "timm_proj": "linear",
        },
        "text_cfg": TEXT,
    },
    "tiny-coca": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {**VIT, "attentional_pool": True, "output_tokens": True},
        "text_cfg": {**TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "context_length": 76, "attn_pooler_heads": 8},
    },
}


def word_tokenizer(folder: Path) -> Path:
    """Write a tokenizer that, like SigLIP's, ends texts with the token that it also pads with."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [
        "<unk>",
        "</s>",
        *["this", "is", "a", "photo", "of", "the", "cat", "dog", "dam", "fish", "hammer", "panel"],
    ]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    return folder


def model_folder(
    folder: Path, arch: str, weights: Path, preprocess: dict[str, Any] | None = None
) -> Path:
    """Write a model as open_clip pushes it to the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": ARCHITECTURES[arch], "preprocess_cfg": preprocess or {}}
    (folder / CONFIG).write_text(json.dumps(config))
    shutil.copy(weights, folder / WEIGHTS)
    return folder
