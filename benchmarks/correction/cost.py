"""What a second image space costs: measured time against the blocks that are computed twice.

    python benchmarks/correction/cost.py --encoder dir:benchmarks/scenes/model
    python benchmarks/correction/cost.py                        # ViT-B/32's shape, random weights

For adapters in all, the last 4, 2 and 1 blocks: time of both spaces over time of one, beside
1 + (blocks from the first adapted one) / (all blocks). To be run on an idle machine; arms are
measured in turn, and the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from handful import load_encoder
from handful.encoders.protocol import Encoder
from handful.tuning.corrected_encoder import corrected
from handful.tuning.correction import Correction
from handful.tuning.corrector import BlocksCorrector, open_corrector
from handful.tuning.towers import open_towers

SCENES = Path(__file__).resolve().parents[1] / "scenes" / "model"
LAYERS = ("all", "last-4", "last-2", "last-1")


def vit_b_32(folder: Path) -> Encoder:
    """Return a CLIP with ViT-B/32's vision tower and the text tower of the scenes."""
    import transformers as t

    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(SCENES / name, folder / name)
    text = json.loads((SCENES / "config.json").read_text())["text_config"]
    config = t.CLIPConfig(text_config=text, vision_config={}, projection_dim=512)
    torch.manual_seed(0)
    t.CLIPModel(config).save_pretrained(folder)
    side = config.vision_config.image_size
    pictures = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    return load_encoder(f"dir:{folder}")


def correction_of(encoder: Encoder, layers: str, width: int) -> Correction:
    """Return an untrained correction: its numbers do not change what it costs."""
    settings = {"width": width, "scale": 0.03, "dropout": 0.1, "layers": layers}
    towers = open_towers(encoder)
    made = open_corrector(towers, "blocks", settings, dim=encoder.dim, seed=0)
    assert isinstance(made, BlocksCorrector)
    return Correction(
        form="blocks",
        objective="supervised",
        settings=settings,
        arrays=made.arrays(),
        encoder=encoder.spec,
        encoder_fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        class_names=(),
        digests=np.empty((0, 32), np.uint8),
        record={"blocks": len(towers.image.blocks), "first": made.first},
    )


def main() -> None:
    """Measure, and print one JSON line for each choice of layers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", help="a CLIP or SigLIP; none: ViT-B/32's shape")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--width", type=int, default=64)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        encoder = load_encoder(asked.encoder) if asked.encoder else vit_b_32(Path(folder))
        made = {n: corrected(encoder, correction_of(encoder, n, asked.width)) for n in LAYERS}
    side = encoder.preprocess.size
    shape = (asked.images, side, side, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    arms: dict[str, Encoder] = {"one space": encoder, **made}
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(asked.rounds + 1):
        for name, arm in arms.items():
            began = time.perf_counter()
            arm.encode_images(pixels)
            if turn:  # the first warms up
                times[name].append(time.perf_counter() - began)
    base = statistics.median(times["one space"])
    for name, encoder_of in made.items():
        about = encoder_of.correction.record
        blocks = (about["blocks"] - about["first"]) / about["blocks"]
        extra = statistics.median(times[name]) / base - 1
        row = {
            "encoder": encoder.spec if asked.encoder else "ViT-B/32, random weights",
            "layers": name,
            "extra_blocks": round(blocks, 4),
            "extra_time": round(extra, 4),
            "above": round(extra - blocks, 4),
            "ms_per_image": round(1000 * base * (1 + extra) / asked.images, 2),
            "ms_of_one_space": round(1000 * base / asked.images, 2),
            "threads": torch.get_num_threads(),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
