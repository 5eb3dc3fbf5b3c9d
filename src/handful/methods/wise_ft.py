"""WiSE-FT (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, arXiv
2109.01903): the mean of a model before and after fine-tuning. This is its form for heads: the
encoder stays as it is.

Where we differ from the published code, and why:

- Any head of ours that starts from text can be what is fine-tuned. Where its logits are linear in
  the features, the mean of the logits taken here is the mean of the two weight matrices, which is
  the paper's; where they are not it is a mean of logits, an ensemble of two (:data:`LOGITS`).
- The blend is ½, the paper's advice, or chosen exactly on validation images or folds; figures with
  the best blend on the test images are not comparable.
- The variant with Fisher weights is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from torch import Tensor

from handful.errors import InputError
from handful.functional.bottleneck import residual_blend
from handful.methods import registry
from handful.methods.head import Head, Support
from handful.methods.search import Search

__all__ = ["LOGITS", "WEIGHTS", "WiseFT"]

WEIGHTS = ("zs-lp", "clap", "cross-modal", "task-res", "lp++")
"""Bases whose logits are linear in the unit features: weights are interpolated."""

LOGITS = ("clip-adapter", "tip-adapter-f")
"""Bases whose logits are not: logits are interpolated."""


_BASES = [registry.get(name) for name in (*WEIGHTS, *LOGITS)]


class WiseFT(Head):
    """logits = (1 − α)·Z + α·L, where Z is zero-shot and L a trained head.

    Parameters:
        base: the method that L is of, with its documented settings. Of ``zs-lp``, ``clap``,
            ``cross-modal``, ``task-res``, ``lp++`` weights are interpolated, of ``clip-adapter``
            and ``tip-adapter-f`` logits.
        blend: α: 0 is zero-shot, 1 the trained head.
        epochs: of the base; 0: as many as it has by default.

    Attributes:
        prototypes_, weight_, …: the learned arrays of the base, see there; those of other bases are
            empty.

    Others: see :class:`~handful.methods.head.Head`.

    Examples:
        >>> import numpy as np
        >>> head = WiseFT(class_embeddings=np.eye(2), base="cross-modal")
        >>> head.fit([[1.0, 0.2], [0.1, 1.0]], [0, 1]).predict([[0.2, 0.9]])
        array([1])
        >>> head.interpolates
        'weights'
    """

    name = "wise-ft"
    summary = "the mean of zero-shot and of a head trained from it"
    paper = "Wortsman et al. 2022, arXiv 2109.01903"
    search = Search(blend="blend", blend_limit=1.0)
    most = {"blend": 1}
    choices = {**Head.choices, "base": (*WEIGHTS, *LOGITS)}
    uses_prompts = True  # cross-modal does
    learned = tuple(dict.fromkeys(name for base in _BASES for name in base.learned))
    trained = tuple(dict.fromkeys(name for base in _BASES for name in base.trained))

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        base: str = "zs-lp",
        blend: float = 0.5,
        epochs: int = 0,
        class_weight: str = "balanced",
        class_names: Any = None,
        logit_scale: float = 100.0,
        random_state: int | None = 0,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.base = base
        self.blend = blend
        self.epochs = epochs
        self.class_weight = class_weight
        self.class_names = class_names
        self.logit_scale = logit_scale
        self.random_state = random_state

    def check_settings(self) -> None:
        """As of every head; and refuse epochs for a base that is not trained in epochs."""
        super().check_settings()
        if self.epochs and "epochs" not in registry.get(self.base)().settings():
            raise InputError(
                f"setting 'epochs' of method '{self.name}' is {self.epochs}, but its base "
                f"'{self.base}' is not trained in epochs: leave it at 0."
            )

    @property
    def interpolates(self) -> str:
        """What is interpolated with this base: ``weights`` or ``logits``."""
        return "weights" if self.base in WEIGHTS else "logits"

    @property
    def base_(self) -> Head:
        """The trained head."""
        arrays = {name: getattr(self, name) for name in ("text_", *registry.get(self.base).learned)}
        like = self._untrained()
        return like.from_arrays(arrays, self.classes_, like.settings(), self.logit_scale)

    def _untrained(self) -> Head:
        epochs = {"epochs": self.epochs} if self.epochs else {}
        kind = registry.get(self.base)
        return kind(
            class_weight=self.class_weight,
            logit_scale=self.logit_scale,
            random_state=self.random_state,
            **epochs,
        )

    @classmethod
    def _learn_many(cls, heads: Sequence[Self], supports: Sequence[Support]) -> None:
        for name in dict.fromkeys(head.base for head in heads):
            pairs = [p for p in zip(heads, supports, strict=True) if p[0].base == name]
            bases = [head._untrained() for head, _ in pairs]
            for base, (head, _) in zip(bases, pairs, strict=True):
                base.classes_, base.text_ = head.classes_, head.text_
                base.n_features_in_ = head.n_features_in_
            registry.get(name)._learn_many(bases, [support for _, support in pairs])
            for base, (head, _) in zip(bases, pairs, strict=True):
                for array in cls.learned:
                    setattr(head, array, getattr(base, array, np.zeros(0, np.float32)))

    def _logits(self, features: Tensor) -> Tensor:
        return residual_blend(self.base_._logits(features), self._zero_shot(features), self.blend)

    def _names(self, features: Tensor) -> Tensor:
        base = self._zero_shot(features)
        return residual_blend(self.base_._names(features), base, self.blend)

    def _sweep(
        self, features: Tensor, points: Sequence[Mapping[str, float]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        base = self._zero_shot(features)
        change = self.base_._logits(features) - base
        for _ in points:
            yield base, change

    def trained_parameters(self) -> int:
        """Return those of the base."""
        return self.base_.trained_parameters()
