"""The committed model: small, read by ``dir:``, and as good as its README says."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from draw import STYLES
from evaluate import MODEL, zero_shot
from safetensors import safe_open
from vocabulary import TASKS

from handful.encoders.protocol import Encoder
from handful.encoders.spec import load_encoder

FOLDER = Path(MODEL.removeprefix("dir:"))
README_IMAGES, IMAGES, SEED = 40, 8, 77  # per class; a seed that the README's numbers did not use


@cache
def model() -> Encoder:
    return load_encoder(MODEL)


def stated(task: str, style: str) -> float:
    """Return the accuracy in the README's table."""
    for line in FOLDER.with_name("README.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if cells[0] == task:
            number = re.match(r"[\d.]+", cells[3 + list(STYLES).index(style)])
            assert number is not None
            return float(number[0]) / 100
    raise AssertionError(f"the README has no row for {task}")


def test_it_is_small_and_in_half_precision() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8e6
    with safe_open(FOLDER / "model.safetensors", "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    assert {str(tensor.dtype) for tensor in tensors} == {"torch.float16"}
    assert sum(tensor.numel() for tensor in tensors) <= 4_000_000


def test_it_has_the_towers_that_the_tables_need() -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(FOLDER)
    assert config.vision_config.num_hidden_layers == 12
    assert config.text_config.eos_token_id == config.text_config.vocab_size - 1 != 2


def test_padding_does_not_change_a_text() -> None:
    short = "a red circle"
    long = "a photo of three large red striped circles on a black background."
    alone, beside = model().encode_texts([short]), model().encode_texts([short, long])
    np.testing.assert_allclose(alone[0], beside[0], atol=1e-5)
    assert not np.allclose(beside[0], beside[1], atol=0.1)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("task", ["held-out", "trained"])
def test_it_knows_what_the_readme_says(task: str, style: str) -> None:
    p, classes = stated(task, style), len(TASKS[task])
    assert p > 3 / classes  # well above chance, which the next line holds it to
    # Four binomial standard errors of the difference between the README's sample and this one.
    error = math.sqrt(p * (1 - p) / classes * (1 / README_IMAGES + 1 / IMAGES))
    assert abs(zero_shot(model(), task, style, IMAGES, SEED) - p) < 4 * error
