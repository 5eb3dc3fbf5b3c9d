"""The same weights through open_clip and through transformers: one model, whoever computes it.

Two implementations by other people, each with its own preprocessing, tokenizer, pooling and
activation, agree only if we call both of them rightly.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_twin import write_twin

from handful.encoders.spec import load_encoder

TEXTS = ["a photo of a cat", "A Diagram, 3.14 × 2!", "naïve café — 東京 🙂", "dog " * 100, ""]


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

    def ours(activation: str) -> Any:
        folder, tokenizer = tmp_path / activation, clip_tokenizer_folder
        write_twin(folder, config, file, tokenizer, activation=activation, end=end)
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
