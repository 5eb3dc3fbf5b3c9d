"""Corrections with random weights, as if they had been trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from handful.encoders.protocol import Encoder
from handful.tuning.correction import Correction
from handful.tuning.corrector import open_corrector
from handful.tuning.towers import open_towers


def shaken(encoder: Encoder, form: str, *, by: float = 0.3, **settings: Any) -> Correction:
    """Return a correction of an encoder; ``by`` 0: one that changes nothing."""
    asked = {"width": 5, "scale": 0.7, "dropout": 0.4, "layers": "all", **settings}
    towers = open_towers(encoder) if form == "blocks" else None
    corrector = open_corrector(towers, form, asked, dim=encoder.dim, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in corrector.adapter.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return Correction(
        form=form,
        objective="supervised",
        settings=asked,
        arrays=corrector.arrays(),
        encoder=encoder.spec,
        encoder_fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        class_names=("cat", "naïve"),
        digests=np.arange(64, dtype=np.uint8).reshape(2, 32),
        record={"images": 2, "losses": [1.5, 0.25]},
    )
