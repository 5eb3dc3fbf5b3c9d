"""The tiny CLIP: its shape, and the files that ``dir:`` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from draw import SIDE
from tokens import CONTEXT

WIDTH, BLOCKS, TEXT_BLOCKS, HEADS, PATCH, FEATURES = 96, 12, 4, 4, 8, 128


def make_model(tokenizer: Any) -> Any:
    """Return the model with random weights; the state of torch's generator decides which."""
    from transformers import CLIPConfig, CLIPModel

    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_attention_heads": HEADS,
        "hidden_act": "gelu",
    }
    text = tower | {
        "num_hidden_layers": TEXT_BLOCKS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = tower | {"num_hidden_layers": BLOCKS, "image_size": SIDE, "patch_size": PATCH}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=FEATURES)
    return CLIPModel(config)


def save(model: Any, tokenizer: Any, out: Path) -> None:
    """Write the model in half precision with its tokenizer and preprocessing."""
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
    }
    (out / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
