"""One digest for everything that a feature depends on, whatever file the weights came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from handful.encoders.preprocess import Preprocess

__all__ = ["PROBE", "fingerprint"]

# Texts whose token ids stand for the tokenizer: two tokenizers that agree on them are the same
# for our purposes, whatever files they were read from.
PROBE = (
    "a photo of a cat",
    "A Diagram, 3.14 × 2!",
    "naïve café — 東京 🙂",
    "it's  the dog's\tbone",
    "antidisestablishmentarianism_x-y.z",
)


def fingerprint(
    tensors: Mapping[str, torch.Tensor],
    facts: Mapping[str, Any],
    preprocess: Preprocess,
    probe: Sequence[Sequence[int]] = (),
) -> str:
    """Digest an encoder.

    Tensors are hashed by name, shape and float32 values, so that copies in another file format or
    number format agree. Integer buffers (position ids, batch counters) are left out: some savers
    write them and some do not, and no feature depends on them.

    Args:
        tensors: the weights by name, on any device.
        facts: what the weights do not tell, such as the activation function; JSON values.
        preprocess: of the images.
        probe: token ids of ``PROBE``; nothing for a vision-only encoder.

    Returns:
        64 hex digits.
    """
    digest = hashlib.sha256(b"encoder-1\n")
    about = json.dumps([facts, preprocess.identity, [list(ids) for ids in probe]], sort_keys=True)
    digest.update(about.encode() + b"\n")
    for name, tensor in sorted(tensors.items()):
        if tensor.is_floating_point():
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()
