"""Pictures for miniature data sets, and a checkpoint with as many blocks as the papers' ViT-B."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_datasets import FOLDERS, WORDNET, make
from tiny_models import TEXT, VISION

PICTURES = {".jpg", ".jpeg", ".png"}


def make_with_pictures(name: str, root: Path, imagenet_classes: int = 1000) -> None:
    """Write a miniature data set whose files are pictures of 8 × 12 random pixels, none twice.

    Of ImageNet's training images there are two in each class. Of ImageNet, and of its shifted test
    sets, there are the first classes alone; who opens them must be told how many.
    """
    make(name, root)
    kept = {*WORDNET[:imagenet_classes], *map(str, range(imagenet_classes))}
    for folder in FOLDERS[name].values() if name.startswith("imagenet") else ():
        for path in (root / folder).iterdir():
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path)
    empty = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in PICTURES]
    if name == "imagenet":
        more = [path for path in empty if "train" in path.parts]
        empty += [path.with_name(f"second_{path.name}") for path in more]
    for number, path in enumerate(empty):
        if not path.exists() or not path.stat().st_size:
            path.write_bytes(_picture(f"{name} {number}"))


def _picture(seed: str) -> bytes:
    generator = np.random.default_rng(list(seed.encode()))
    pixels = generator.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def twelve_blocks(like: Path, folder: Path) -> Path:
    """Write a tiny CLIP of twelve image blocks, with the tokenizer of another one."""
    import transformers as t

    torch.manual_seed(12)
    text = TEXT | {"bos_token_id": 118, "eos_token_id": 119, "pad_token_id": 119}
    vision = VISION | {"num_hidden_layers": 12}
    config = t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    folder.mkdir(parents=True)
    for path in like.iterdir():
        if path.suffix != ".safetensors" and path.name != "config.json":
            shutil.copy(path, folder)
    t.CLIPModel(config).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "clip"
    return folder
