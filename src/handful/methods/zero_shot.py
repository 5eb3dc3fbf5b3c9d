"""Zero-shot classification (Radford et al., "Learning Transferable Visual Models From Natural
Language Supervision", 2021): the base predictor of every other method."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from handful.methods.head import Head

__all__ = ["ZeroShot"]


class ZeroShot(Head):
    """Z = s · unit(z)ᵀ W: scaled cosines between the image and the class embeddings.

    ``fit`` learns nothing but the classes. Without class embeddings, unit class means stand in,
    which makes it the nearest class mean by cosine. Parameters and attributes: see
    :class:`~handful.methods.head.Head`.

    Examples:
        >>> import numpy as np
        >>> head = ZeroShot(class_embeddings=np.eye(2)).fit([[1.0, 0.2], [0.1, 1.0]], [0, 1])
        >>> head.predict([[3.0, 1.0]])
        array([0])
    """

    name = "zero-shot"
    summary = "scaled cosines between images and class names; learns nothing"
    paper = "Radford et al. 2021, arXiv 2103.00020"

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        class_names: Any = None,
        logit_scale: float = 100.0,
        random_state: int | None = 0,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.class_names = class_names
        self.logit_scale = logit_scale
        self.random_state = random_state

    def _logits(self, features: Tensor) -> Tensor:
        return self._zero_shot(features)
