"""LP++ (Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", CVPR 2024,
arXiv 2404.02285).

Where we differ from the published code, and why:

- The gradient of the blends is that of the current step. The published code never clears it, so
  that each step uses the sum over the whole run; ``alpha_grad="accumulate"`` does so too.
- The bias starts at 0, so that nothing is left to chance; the published code starts it as a linear
  layer, which ``random_bias=True`` does, from the seed.
- The number of steps is chosen among 30, 100 and 300 on validation images or by cross-validation;
  the published code keeps the step that is best on K validation images.
- Views are samples, instead of one view drawn for each image. The start sums over images.
- The images may have fewer dimensions than the features: then everything is computed in the space
  that they span, which changes nothing, for start and gradients lie in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from handful.functional.normalise import unit
from handful.functional.step_sizes import blend_step, first_blend, weight_step
from handful.methods.head import Head, Support
from handful.methods.search import Search
from handful.methods.training import batches_by_size, seed_of, weights_of

__all__ = ["LPPlusPlus"]

_MOMENTUM = 0.9
_BLEND_EVERY = 10  # steps


class LPPlusPlus(Head):
    """logits = xᵀu_c + b_c + α_c·xᵀw_c, a linear probe beside the text, blended class by class.

    No logit scale. u starts as the *sum* of the features of each class, α at one number for all.
    Full batch, momentum 0.9 for u and b, a plain step of α on every 10th; step sizes and α₀ come
    from the data: see :mod:`handful.functional.step_sizes`.

    Parameters:
        steps: of the full batch. The default is the published 300; on pool rows of Stanford Cars
            and WHU-RS19, 1 to 8 shots, it is within 3 points of the best number of steps.
        alpha_grad: ``fresh``, or ``accumulate``, as the published code.
        random_bias: start b uniformly within ±1/√D.

    Attributes:
        weight_: u ``(C, D)``, float32.
        bias_: b ``(C,)``, float32.
        blend_: α ``(C,)``, float32.

    Others: see :class:`~handful.methods.head.Head`.

    Examples:
        >>> import numpy as np
        >>> head = LPPlusPlus(class_embeddings=np.eye(2))
        >>> head.fit([[1.0, 0.2], [0.1, 1.0]], [0, 1]).predict([[0.2, 0.9]])
        array([1])
    """

    name = "lp++"
    summary = "a linear probe beside the text, with a learned weight of each name"
    paper = "Huang et al. 2024, arXiv 2404.02285"
    search = Search(train={"steps": (30, 100, 300)})
    learned = trained = ("weight_", "bias_", "blend_")
    choices = {**Head.choices, "alpha_grad": ("fresh", "accumulate")}

    weight_: npt.NDArray[np.float32]
    bias_: npt.NDArray[np.float32]
    blend_: npt.NDArray[np.float32]

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        steps: int = 300,
        alpha_grad: str = "fresh",
        random_bias: bool = False,
        class_weight: str = "balanced",
        class_names: Any = None,
        logit_scale: float = 100.0,
        random_state: int | None = 0,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.steps = steps
        self.alpha_grad = alpha_grad
        self.random_bias = random_bias
        self.class_weight = class_weight
        self.class_names = class_names
        self.logit_scale = logit_scale
        self.random_state = random_state

    @classmethod
    def _learn_many(cls, heads: Sequence[Self], supports: Sequence[Support]) -> None:
        for run in batches_by_size(heads, supports, ("alpha_grad", "random_bias", "class_weight")):
            first = run.heads[0]
            # Heads that differ in the number of steps only are one run, read at several steps.
            biases = [_first_bias(h, s) for h, s in zip(run.heads, run.supports, strict=True)]
            place: list[int] = []
            distinct: list[int] = []
            for i, support in enumerate(run.supports):
                same = (
                    d
                    for d, j in enumerate(distinct)
                    if torch.equal(biases[i], biases[j]) and _equal(support, run.supports[j])
                )
                place.append(next(same, len(distinct)))
                if place[-1] == len(distinct):
                    distinct.append(i)
            found = _descend(
                [run.supports[i] for i in distinct],
                torch.stack([biases[i] for i in distinct]),
                {h.steps for h in run.heads},
                accumulate=first.alpha_grad == "accumulate",
            )
            for head, row in zip(run.heads, place, strict=True):
                weight, bias, blend = (part[row].clone().numpy() for part in found[head.steps])
                head.weight_, head.bias_, head.blend_ = weight, bias, blend

    def _logits(self, features: Tensor) -> Tensor:
        x = unit(features)
        weight, bias, blend, text = (
            torch.from_numpy(a).double()
            for a in (self.weight_, self.bias_, self.blend_, self.text_)
        )
        return x @ weight.T + bias + blend * (x @ text.T)

    def _names(self, features: Tensor) -> Tensor:
        blend, text = (torch.from_numpy(a).double() for a in (self.blend_, self.text_))
        return blend * (unit(features) @ text.T)


Parameters = tuple[Tensor, Tensor, Tensor]


def _descend(
    supports: Sequence[Support], bias: Tensor, wanted: set[int], *, accumulate: bool
) -> dict[int, Parameters]:
    """Descend on R supports of one shape; return (u, b, α), each ``(R, …)``, after wanted steps."""
    samples = torch.stack([s.samples() for s in supports])
    n_views = samples.shape[2]
    x = samples.flatten(1, 2)
    labels = torch.stack([s.labels for s in supports]).repeat_interleave(n_views, dim=1)
    text = torch.stack([s.text for s in supports])
    targets = torch.nn.functional.one_hot(labels, text.shape[1]).to(x)
    weights = weights_of(supports)
    if weights is None:
        weights = torch.ones(len(x), supports[0].labels.shape[0])
    weights = weights.repeat_interleave(n_views, dim=1)[..., None]
    similarity = x @ text.mT
    n = x.shape[1]
    basis = None
    if n < x.shape[2]:
        left, spread, basis = torch.linalg.svd(x, full_matrices=False)
        x = left * spread[:, None]
    weight = (weights * targets).mT @ x / n_views
    blend = first_blend(similarity, labels)[:, None].expand_as(bias).clone()
    weight_rate = weight_step(weights.sqrt() * x).float()[:, None, None]
    blend_rate = blend_step(weights.sqrt() * similarity)[:, None]
    weight_speed, bias_speed, slope = map(torch.zeros_like, (weight, bias, blend))
    found = {}
    for step in range(max(wanted) + 1):
        if step in wanted:
            full = weight if basis is None else weight @ basis
            found[step] = (full, bias.clone(), blend.clone())
        logits = x @ weight.mT + bias[:, None] + blend[:, None] * similarity
        error = (torch.softmax(logits, dim=2) - targets) / (n / weights)
        weight_speed = _MOMENTUM * weight_speed + error.mT @ x
        bias_speed = _MOMENTUM * bias_speed + error.sum(dim=1)
        now = (error * similarity).sum(dim=1)
        slope = slope + now if accumulate else now
        weight = weight - weight_rate * weight_speed
        bias = bias - weight_rate[..., 0] * bias_speed
        if (step + 1) % _BLEND_EVERY == 0:
            blend = blend - blend_rate * slope
    return found


def _first_bias(head: LPPlusPlus, support: Support) -> Tensor:
    if not head.random_bias:
        return torch.zeros(support.n_classes)
    generator = torch.Generator().manual_seed(seed_of(head))
    uniform = torch.rand(support.n_classes, generator=generator) * 2 - 1
    return uniform / math.sqrt(support.features.shape[1])


def _equal(one: Support, other: Support) -> bool:
    return (
        torch.equal(one.features, other.features)
        and torch.equal(one.labels, other.labels)
        and torch.equal(one.text, other.text)
        and (one.views is None or torch.equal(one.views, other.views))  # type: ignore[arg-type]
    )
