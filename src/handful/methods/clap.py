"""ZS-LP and CLAP (Silva-Rodríguez et al., "A Closer Look at the Few-Shot Adaptation of Large
Vision-Language Models", CVPR 2024, arXiv 2312.12730): a linear probe that starts at the class
embeddings, and the same with a pull of every class towards them.

The recipe is the published one: SGD, lr 0.1, momentum 0.9, no weight decay, 300 epochs, batch 256,
cosine after one epoch at 1e-5. Nothing is searched.

Where we differ from the published code, and why:

- The length of the prototypes is a named setting. The published code trains raw text features, so
  that its learning rate and the strength of its pull depend on a length that differs between
  encoders, and that files of unit features do not hold. 9 is the length that OpenAI's ViT-B/32
  gives (8.7 to 9.1); with length 1 a step turns a prototype 81 times as far.
- The pull is a proximal step after each step of the optimiser. Its gradient, as published, makes
  training diverge where λ is large. The step is lr / (1 − momentum), so that both stand still at
  the minimum of the same loss.
- A class without images keeps its class embedding; the published code pushes it away from the
  images of all others.
- Left out: the outer loop that adapts λ, and the cosine distance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from handful.functional.cosine import cosine_logits
from handful.functional.normalise import unit
from handful.functional.prototype_pull import MULTIPLIERS, class_multipliers, pulled
from handful.methods.head import Head, Support
from handful.methods.search import Search
from handful.methods.training import Recipe, batches_by_size, seed_of, train, weights_of

__all__ = ["Clap", "ZeroShotLinearProbe"]

Proximal = Callable[[list[Tensor], float], None]


class ZeroShotLinearProbe(Head):
    """logits = s · xᵀ unit(P_c), trained by cross-entropy from P = n·W.

    Parameters:
        text_norm: n, the length that the prototypes start with. The logits do not depend on it,
            but the longer they are the slower they turn.
        epochs: passes over the support set, one view of each image in a pass.
        lr: learning rate.

    Attributes:
        prototypes_: P ``(C, D)``, float32.

    Others: see :class:`~handful.methods.head.Head`.

    Examples:
        >>> import numpy as np
        >>> head = ZeroShotLinearProbe(class_embeddings=np.eye(2))
        >>> head.fit([[1.0, 0.2], [0.1, 1.0]], [0, 1]).predict([[0.2, 0.9]])
        array([1])
    """

    name = "zs-lp"
    summary = "a linear classifier trained from the class embeddings"
    paper = "Silva-Rodríguez et al. 2024, arXiv 2312.12730"
    search = Search()
    learned = trained = ("prototypes_",)
    least = {"text_norm": 1e-3}

    prototypes_: npt.NDArray[np.float32]

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        text_norm: float = 9.0,
        epochs: int = 300,
        lr: float = 0.1,
        class_weight: str = "balanced",
        class_names: Any = None,
        logit_scale: float = 100.0,
        random_state: int | None = 0,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.text_norm = text_norm
        self.epochs = epochs
        self.lr = lr
        self.class_weight = class_weight
        self.class_names = class_names
        self.logit_scale = logit_scale
        self.random_state = random_state

    @classmethod
    def _learn_many(cls, heads: Sequence[Self], supports: Sequence[Support]) -> None:
        for run in batches_by_size(heads, supports, ("epochs", "lr")):
            first = run.heads[0]
            seen = torch.stack([s.counts() > 0 for s in run.supports])[..., None]
            starts = zip(run.heads, run.supports, strict=True)
            start = torch.stack([head.text_norm * s.text for head, s in starts])

            def logits(
                x: Tensor,
                prototypes: Tensor,
                seen: Tensor = seen,
                start: Tensor = start,
                scale: float = first.logit_scale,
            ) -> Tensor:
                return scale * x @ unit(torch.where(seen, prototypes, start)).mT

            recipe = Recipe(epochs=first.epochs, lr=first.lr, weight_decay=0.0, optimiser="sgd")
            (prototypes,) = train(
                [start],
                logits,
                [s.samples() for s in run.supports],
                torch.stack([s.labels for s in run.supports]),
                recipe,
                [seed_of(h) for h in run.heads],
                weights=weights_of(run.supports),
                proximal=cls._proximal(run.heads, run.supports, start, recipe.momentum),
            )
            for head, row in zip(run.heads, prototypes, strict=True):
                head.prototypes_ = row.numpy()

    @classmethod
    def _proximal(
        cls, heads: Sequence[Self], supports: Sequence[Support], start: Tensor, momentum: float
    ) -> Proximal | None:
        """Return what is done to the prototypes after each step of the optimiser."""
        return None

    def _logits(self, features: Tensor) -> Tensor:
        prototypes = torch.from_numpy(self.prototypes_).double()
        return cosine_logits(features, prototypes, self.logit_scale)


class Clap(ZeroShotLinearProbe):
    """ZS-LP with a pull: loss = CE + strength · mean_c λ_c·‖P_c − n·w_c‖².

    λ_c is how right the text is: the mean zero-shot probability of class c over the support images
    of class c. As λ grows the prototypes stay nearer to the class embeddings; at a strength of
    1e30 they are the class embeddings.

    Parameters:
        text_norm: n. The pull is measured on vectors of this length.
        strength: factor on all λ, up to 1e30; 0 is ZS-LP.
        multipliers: ``class``: λ_c as above; ``corrected``: scaled so that their mean is 1;
            ``constant``: their mean for every class; ``balanced``: 1.
        epochs, lr: as in :class:`ZeroShotLinearProbe`.
    """

    name = "clap"
    summary = "zs-lp with each class held near its name, the more the better the name works"
    choices = {**Head.choices, "multipliers": MULTIPLIERS}
    most = {"strength": 1e30}  # beyond all that float32 tells from infinity

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        text_norm: float = 9.0,
        strength: float = 1.0,
        multipliers: str = "class",
        epochs: int = 300,
        lr: float = 0.1,
        class_weight: str = "balanced",
        class_names: Any = None,
        logit_scale: float = 100.0,
        random_state: int | None = 0,
    ) -> None:
        super().__init__(
            class_embeddings,
            text_norm=text_norm,
            epochs=epochs,
            lr=lr,
            class_weight=class_weight,
            class_names=class_names,
            logit_scale=logit_scale,
            random_state=random_state,
        )
        self.strength = strength
        self.multipliers = multipliers

    @classmethod
    def _proximal(
        cls, heads: Sequence[Self], supports: Sequence[Support], start: Tensor, momentum: float
    ) -> Proximal | None:
        multipliers = torch.stack(
            [head._multipliers(support) for head, support in zip(heads, supports, strict=True)]
        )

        def proximal(parameters: list[Tensor], lr: float) -> None:
            (prototypes,) = parameters
            prototypes.copy_(pulled(prototypes, start, multipliers, lr / (1 - momentum)))

        return proximal

    def _multipliers(self, support: Support) -> Tensor:
        zero_shot = cosine_logits(support.keys(), support.text, self.logit_scale)
        how: Any = self.multipliers
        return self.strength * class_multipliers(zero_shot, support.labels, how)
