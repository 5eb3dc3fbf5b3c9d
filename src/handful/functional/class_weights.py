"""Weights under which every class counts the same, however many images it has."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["balanced_weights"]


def balanced_weights(labels: Tensor, n_classes: int) -> Tensor:
    """w_i = n / (P · n_c), P being the number of classes with images, n_c that of i's class.

    Their mean is 1, and where all classes have equally many images each of them is exactly 1; the
    weights of each class add up to n / P. They are scikit-learn's ``class_weight="balanced"``.

    Args:
        labels: class of each image, int64 ``(n,)``.
        n_classes: C.

    Returns:
        float32 ``(n,)``.
    """
    counts = torch.bincount(labels, minlength=n_classes)
    present = int((counts > 0).sum())
    weights: Tensor = len(labels) / (present * counts[labels]).float()
    return weights
