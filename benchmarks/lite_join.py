"""Measure how the ridge of the lite encoder's join was chosen.

For each λ, five times: fit the map on the names of 800 ImageNet classes, map the names of the other
200, and count how often a name is nearest to the classifier row of its own class among those 200.
No image is seen. Run it with ``python benchmarks/lite_join.py``; takes under a minute.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from handful.encoders.lite.join import apply_map, centred_unit_rows, imagenet_names, ridge_map
from handful.encoders.lite.text_tower import TextTower
from handful.encoders.lite.weights import image_weights, text_files

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FOLDS = 5


def retrieval(texts: torch.Tensor, targets: torch.Tensor, ridge: float) -> float:
    """Return the share of held-out classes whose mapped name finds its own row."""
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))
    hits = 0
    for fold in range(FOLDS):
        held_out = torch.zeros(len(texts), dtype=torch.bool)
        held_out[order[fold::FOLDS]] = True
        fitted = ridge_map(texts[~held_out], targets[~held_out], ridge)
        mapped = F.normalize(apply_map(texts[held_out], fitted), dim=1)
        nearest = (mapped @ F.normalize(targets[held_out], dim=1).T).argmax(1)
        hits += int((nearest == torch.arange(len(nearest))).sum())
    return hits / len(texts)


def main() -> None:
    texts = TextTower(*text_files())(imagenet_names())
    targets = centred_unit_rows(image_weights()["_fc.weight"])
    for ridge in RIDGES:
        print(f"ridge {ridge:5g}: {retrieval(texts, targets, ridge):.1%} of held-out classes found")


if __name__ == "__main__":
    main()
