"""The bridge from the text tower to the image tower, fitted on the names of the ImageNet classes.

DeViSE (Frome et al., NeurIPS 2013) maps images to word vectors; this goes the other way, which
keeps image features as they are. For the 1,000 ImageNet classes both sides are known: the embedding
of the name, and the row of the image classifier. A ridge regression between the two carries any
text into the space of image features.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import resources

import torch
import torch.nn.functional as F  # noqa: N812

from handful.encoders.lite.weights import IMAGE_SHA256, TEXT_SHA256, TOKENIZER_SHA256

__all__ = ["RIDGE", "apply_map", "centred_unit_rows", "imagenet_names", "join_recipe", "ridge_map"]

# Chosen by retrieval: fit on 800 classes, and see how often the mapped name of one of the other 200
# is nearest to its own classifier row among all 200. benchmarks/lite_join.py measures it.
RIDGE = 3.0

Map = dict[str, torch.Tensor]


@cache
def imagenet_names() -> tuple[str, ...]:
    """Return the names of the 1,000 ImageNet classes in index order."""
    file = resources.files("handful.encoders").joinpath("data/imagenet-classnames.txt")
    return tuple(line.split(" ", 1)[1] for line in file.read_text("utf-8").splitlines())


def centred_unit_rows(classifier: torch.Tensor) -> torch.Tensor:
    """Return the classifier's unit rows minus their mean; float64 ``(C, D)``."""
    rows = F.normalize(classifier.double(), dim=1)
    return rows - rows.mean(0)


def ridge_map(texts: torch.Tensor, targets: torch.Tensor, ridge: float = RIDGE) -> Map:
    """Fit M = (XᵀX + λI)⁻¹XᵀY on centred texts X = E − μ.

    Args:
        texts: E, unit text embeddings ``(C, E)``.
        targets: Y, centred rows ``(C, D)``.
        ridge: λ.

    Returns:
        ``mean`` μ ``(E,)`` and ``matrix`` M ``(E, D)``, float64.
    """
    e = texts.double()
    mean = e.mean(0)
    x = e - mean
    gram = x.T @ x + ridge * torch.eye(x.shape[1], dtype=torch.float64)
    return {"mean": mean, "matrix": torch.linalg.solve(gram, x.T @ targets.double())}


def apply_map(texts: torch.Tensor, fitted: Map) -> torch.Tensor:
    """Return (E − μ)M: texts in the space of image features; float64 ``(M, D)``."""
    return (texts.double() - fitted["mean"]) @ fitted["matrix"]


def join_recipe() -> str:
    """Return the hex digest of everything that the map depends on, the same on every machine."""
    names = hashlib.sha256("\n".join(imagenet_names()).encode()).hexdigest()
    parts = {
        "version": 1,
        "image": IMAGE_SHA256,
        "text": TEXT_SHA256,
        "tokenizer": TOKENIZER_SHA256,
        "names": names,
        "ridge": RIDGE,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
