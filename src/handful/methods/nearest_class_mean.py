"""Nearest class mean: the simplest classifier that learns from images alone.

It has no paper of its own; prototypical networks (Snell et al., 2017) use it on learned features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from handful.errors import InputError
from handful.functional.cosine import cosine_logits
from handful.functional.normalise import unit
from handful.methods.head import Head, Support

__all__ = ["NearestClassMean"]


class NearestClassMean(Head):
    """logits = σ·s·xᵀM, with m_c = unit(mean over the images of class c of their unit features).

    The text plays no part. The default σ makes the probabilities right on average: on pool rows of
    Stanford Cars and WHU-RS19 (CLIP, s = 100) the likelihood is largest at scales σ·s of 35 to 100,
    growing with the shots; on photographs (``lite``, s = 30) at 25 to 30.

    Parameters:
        scale: σ, factor on the logit scale: two images are nearer to each other than an image is to
            a name. It changes probabilities, not labels.

    Attributes:
        means_: M, unit class means ``(C, D)``, float32; zeros for a class without images, which is
            never predicted.

    Others: see :class:`~handful.methods.head.Head`.

    Examples:
        >>> import numpy as np
        >>> head = NearestClassMean().fit([[1.0, 0.2], [0.9, 0.0], [0.1, 1.0]], [0, 0, 1])
        >>> head.predict([[0.2, 0.9]])
        array([1])
    """

    name = "nearest-class-mean"
    summary = "the class whose images are nearest on average; ignores the text"
    paper = "Snell et al. 2017, arXiv 1703.05175"
    learned = ("means_",)
    starts_from_text = False

    means_: npt.NDArray[np.float32]

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        scale: float = 0.5,
        similarity: str = "original",
        class_names: Any = None,
        logit_scale: float = 100.0,
        random_state: int | None = 0,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.scale = scale
        self.similarity = similarity
        self.class_names = class_names
        self.logit_scale = logit_scale
        self.random_state = random_state

    def _learn(self, support: Support) -> None:
        present = support.counts().nonzero()[:, 0]
        if len(present) == 1:
            raise InputError(
                "the nearest class mean learns from images alone, and all of them are of one class "
                f"({self.classes_.tolist()[int(present[0])]!r}): add images of another class"
            )
        self.means_ = unit(support.class_means(support.keys())).numpy()

    def _logits(self, features: Tensor) -> Tensor:
        means = torch.from_numpy(self.means_).double()
        logits = cosine_logits(self._compared(features), means, self.scale * self.logit_scale)
        # A class without images lies below all others.
        return logits.masked_fill((means == 0).all(dim=1), -1e9)
