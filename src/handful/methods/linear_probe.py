"""Linear probe: logistic regression on image features alone, the baseline of CLIP and CoOp.

Where we differ from CoOp's script, and why: the same support images as every other method instead
of a draw of its own; a test accuracy is not computed on the way.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from handful.errors import InputError
from handful.methods.head import Head, Support
from handful.methods.search import Search

__all__ = ["LinearProbe"]

_SMALL = 30_000_000  # multiplications in one product of the solver: some milliseconds


class LinearProbe(Head):
    """logits = zᵀU + b, minimising Σᵢ wᵢ·CEᵢ + ‖U‖² / (2·C), b not penalised.

    The text plays no part. ``C`` multiplies the data term, which is a sum, as in scikit-learn.
    Where there are fewer images than features the problem is solved in the space that the images
    span, which is exact for this penalty (representer theorem).

    Parameters:
        C: inverse strength of the penalty on *raw* features (CoOp and CLIP: 0.316).
        unit_norm: the length that features had, if all of them come at unit length: they are
            multiplied by it, so that ``C`` means the same. About 10 for CLIP's ViT models.

    Attributes:
        weight_: U ``(C, D)``, float32, for the features as they are given.
        bias_: b ``(C,)``, float32.

    Others: see :class:`~handful.methods.head.Head`.
    """

    name = "linear-probe"
    summary = "logistic regression on the image features; ignores the text"
    paper = "Radford et al. 2021; search as in CoOp, arXiv 2109.01134"
    search = Search(train={"C": (1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6)}, halvings=8)
    learned = trained = ("weight_", "bias_")
    least = {"C": 1e-12, "unit_norm": 1e-6}
    starts_from_text = False

    weight_: npt.NDArray[np.float32]
    bias_: npt.NDArray[np.float32]

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        C: float = 0.316,
        unit_norm: float = 10.0,
        class_weight: str = "balanced",
        class_names: Any = None,
        logit_scale: float = 100.0,
        random_state: int | None = 0,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.C = C
        self.unit_norm = unit_norm
        self.class_weight = class_weight
        self.class_names = class_names
        self.logit_scale = logit_scale
        self.random_state = random_state

    def _learn(self, support: Support) -> None:
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        features = support.features.double()
        lengths = torch.linalg.vector_norm(features, dim=1)
        scale = self.unit_norm if bool(((lengths - 1).abs() < 5e-3).all()) else 1.0
        # Coordinates in the span of the images: z = basis · coordinates.
        left, spread, basis = torch.linalg.svd(features * scale, full_matrices=False)
        present, targets = np.unique(support.labels.numpy(), return_inverse=True)
        if len(present) == 1:
            raise InputError(
                "the linear probe learns from images alone, and all of them are of one class "
                f"({self.classes_.tolist()[present[0]]!r}): add images of another class"
            )
        binary = len(present) == 2
        # Of two classes scikit-learn fits the difference u of the rows ±u/2, whose penalty is half.
        model = LogisticRegression(C=2 * self.C if binary else self.C, max_iter=1000, tol=1e-5)
        coordinates = (left * spread).numpy()
        # Threads cost more than they give on products as small as these.
        small = coordinates.size * len(present) < _SMALL
        with threadpool_limits(1 if small else None), warnings.catch_warnings():
            # One image per class is what few-shot means, not a mistaken regression.
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            weights = None if support.weights is None else support.weights.double().numpy()
            model.fit(coordinates, targets, sample_weight=weights)
        rows = torch.from_numpy(model.coef_) @ basis * scale
        intercepts = torch.from_numpy(model.intercept_)
        if binary:
            rows = torch.cat([-rows, rows]) / 2
            intercepts = torch.cat([-intercepts, intercepts]) / 2
        # A class without images is never predicted: its logit lies below all others.
        weight = torch.zeros(support.n_classes, features.shape[1], dtype=torch.float64)
        bias = torch.full((support.n_classes,), -1e9, dtype=torch.float64)
        weight[present], bias[present] = rows, intercepts
        self.weight_, self.bias_ = weight.float().numpy(), bias.float().numpy()

    def _logits(self, features: Tensor) -> Tensor:
        weight = torch.from_numpy(self.weight_).double()
        return features @ weight.T + torch.from_numpy(self.bias_).double()
