"""Make the text features that ``handful encoders check`` compares with.

    python benchmarks/known_answers.py ../shared

Takes the five prompts of ``known_answers.toml`` out of the features that RS-TransCLIP publishes
(MIT licence; OpenAI's own towers, 106 templates × 19 class names) and writes them beside it, for
each model as they are: fp16, unit length.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

DATA = Path(__file__).resolve().parent.parent / "src" / "handful" / "encoders" / "data"
FILES = {
    "openai/clip-vit-base-patch32": "clip-vit-b-32",
    "openai/clip-vit-large-patch14": "clip-vit-l-14",
    "open_clip:RN50/openai": "clip-rn50",
}


def chosen(path: Path, prompts: list[str]) -> tuple[np.ndarray, str]:
    """Return the features of the prompts, fp16 ``(P, D)``, and where the file says they are from.

    A prompt is a template with a class name in it; ``text_features`` is ``(T, C, D)``.
    """
    with safe_open(path, "numpy") as file:
        metadata, features = file.metadata(), file.get_tensor("text_features")
    places = {
        template.format(name): (t, c)
        for t, template in enumerate(json.loads(metadata["templates"]))
        for c, name in enumerate(json.loads(metadata["class_names"]))
    }
    return np.stack([features[places[prompt]] for prompt in prompts]), metadata["source"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="folder of development data")
    folder = parser.parse_args().shared / "data" / "whu-rs19" / "features"
    prompts = tomllib.loads((DATA / "known_answers.toml").read_text("utf-8"))["openai"]["prompts"]
    features, source = {}, ""
    for name, file in FILES.items():
        features[name], source = chosen(folder / f"{file}.safetensors", prompts)
    metadata = {"prompts": json.dumps(prompts), "source": source}
    save_file(features, DATA / "known_answers.safetensors", metadata)
    print({name: rows.shape for name, rows in features.items()})


if __name__ == "__main__":
    main()
