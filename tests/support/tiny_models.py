"""Tiny checkpoints of every family, as ``save_pretrained`` and the hub lay them out.

Random weights: they stand for nothing but the code paths.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch

WORDS = [
    *("a", "photo", "of", "this", "is", "cat", "dog", "dam", "fish", "hammer", "solar", "panel"),
    *("longer", "text", "in", "the", "evening"),
]
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 120,
}
PIXELS: dict[str, Any] = {
    "clip": {
        "feature_extractor_type": "CLIPFeatureExtractor",
        "size": 32,
        "crop_size": 32,
        "do_center_crop": True,
        "resample": 3,
    },
    "siglip": {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 32, "width": 32},
        "resample": 2,
    },
    "siglip2": {
        "image_processor_type": "Siglip2ImageProcessor",
        "patch_size": 8,
        "max_num_patches": 16,
    },
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 40},
        "crop_size": {"height": 32, "width": 32},
    },
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}},
    "dinov3_vit": {
        "image_processor_type": "DINOv3ViTImageProcessorFast",
        "size": {"height": 32, "width": 32},
    },
    "convnext": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_pct": 0.875,
    },
}
TWO_TOWER = ("clip", "clip-legacy", "metaclip_2", "siglip", "siglip2", "altclip", "chinese_clip")
VISION_ONLY = ("dinov2", "dinov3_vit", "vit", "vit-classifier", "convnext")


def make(name: str, folder: Path) -> Path:
    """Write the tiny checkpoint ``name`` into ``folder`` and return it."""
    torch.manual_seed(len(name))
    model = _model(name)
    for parameter in model.parameters():
        # Away from the small random start, where every feature is nearly the same.
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    kind = name.partition("-")[0]
    pixels = PIXELS.get(kind, PIXELS["clip"])
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    if name in TWO_TOWER:
        _tokenizer(kind, folder)
    return folder


def _model(name: str) -> Any:
    import transformers as t

    if name in ("clip", "clip-legacy"):
        text = TEXT | {"bos_token_id": 118, "eos_token_id": 119, "pad_token_id": 119}
        if name == "clip-legacy":
            text["eos_token_id"] = 2  # as all configurations published by OpenAI say
        return t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))
    if name == "metaclip_2":
        text = TEXT | {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
        config = t.MetaClip2Config(text_config=text, vision_config=VISION, projection_dim=24)
        return t.MetaClip2Model(config)
    if name == "siglip":
        text = TEXT | {"max_position_embeddings": 16, "projection_size": 32, "vocab_size": 80}
        return t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=VISION))
    if name == "siglip2":
        text = TEXT | {"max_position_embeddings": 16, "projection_size": 32}
        vision = VISION | {"num_patches": 16}
        del vision["image_size"]
        return t.Siglip2Model(t.Siglip2Config(text_config=text, vision_config=vision))
    if name == "altclip":
        text = TEXT | {"project_dim": 24, "max_position_embeddings": 90, "pad_token_id": 1}
        config = t.AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)
        return t.AltCLIPModel(config)
    if name == "chinese_clip":
        text = TEXT | {"max_position_embeddings": 64, "pad_token_id": 0}
        config = t.ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)
        return t.ChineseCLIPModel(config)
    if name == "dinov2":
        vision = {k: v for k, v in VISION.items() if k != "intermediate_size"}
        return t.Dinov2Model(t.Dinov2Config(**vision))
    if name == "dinov3_vit":
        return t.DINOv3ViTModel(t.DINOv3ViTConfig(**VISION))
    if name == "vit":
        return t.ViTModel(t.ViTConfig(**VISION))
    if name == "vit-classifier":
        return t.ViTForImageClassification(t.ViTConfig(**VISION, num_labels=5))
    sizes = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}
    return t.ConvNextModel(t.ConvNextConfig(**sizes))


def _tokenizer(kind: str, folder: Path) -> None:
    import transformers as t

    if kind == "clip":
        # The alphabet of bytes alone: "solar" is five tokens. Start and end are the highest ids.
        letters = list("abcdefghijklmnopqrstuvwxyz0123456789.,!?'-")
        pieces = ["!pad", *letters, *(c + "</w>" for c in letters)]
        vocabulary = {piece: i for i, piece in enumerate(pieces)}
        vocabulary |= {"<|startoftext|>": 118, "<|endoftext|>": 119}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    elif kind in ("metaclip_2", "altclip"):
        pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
        pieces += [(f"▁{word}", -3.0) for word in WORDS]
        pieces += [(c, -5.0) for c in "abcdefghijklmnopqrstuvwxyz.,"]
        t.XLMRobertaTokenizer(vocab=pieces).save_pretrained(folder)
    elif kind == "siglip":
        import sentencepiece

        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(WORDS)] * 5),
            model_writer=model,
            vocab_size=60,
            hard_vocab_limit=False,
            unk_id=2,
            eos_id=1,
            bos_id=-1,
            pad_id=0,
            minloglevel=2,
        )
        (folder / "spiece.model").write_bytes(model.getvalue())
        settings = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 16}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    elif kind == "siglip2":
        names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁"]
        letters = [*"abcdefghijklmnopqrstuvwxyz.,"]
        vocabulary = {piece: i for i, piece in enumerate(names + letters)}
        t.Siglip2Tokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    else:
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"一张的照片。.,"]
        (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
