"""GraphAdapter (Li et al., "GraphAdapter: Tuning Vision-Language Models With Dual Knowledge Graph",
NeurIPS 2023, arXiv 2309.13625).

Every class embedding takes from its neighbours, in a graph of the class embeddings and in one of
the mean images of the classes; the graphs are fixed, what is made of them is trained. Prediction
reads only the class embeddings that come out.

Where we differ from the published code, and why:

- Any width, any number of classes, any number of images in each; the published code needs 512, a
  multiple of 4, and equal counts. All classes are nodes of one graph; ``groups=4`` deals them out
  as the published code does.
- The graphs are computed once, in closed form, without building them.
- Each Θ is trained within the span of the C rows that it is applied to: C × D numbers instead of
  D × D, the same functions and the same start. Adam's steps are √(D/C) times as long there, which
  makes up for their smaller number. On images that were not learnt from, WHU-RS19 with three
  encoders and Stanford Cars, this is as accurate as training Θ itself: 93.8 and 69.3 % against
  93.7 and 69.3 %.
- ``text_norm`` is the length of class embeddings in the equations. The output of tanh does not grow
  with it, so that it decides how much a blend is; the published code takes what the encoder gave.
- The recipe is ours, for theirs could not be read: that of TaskRes, with 100 epochs at any number
  of shots and no weight decay, which costs 0.5 point on such images.
- ``blend`` is the share of the new, 1 − η, so that 0 is zero-shot as everywhere here.
- A class without images is no node of the image graph, and keeps its class embedding.

With a correction the mean images are compared with each other in the corrected space, and with the
class embeddings, to which they are added, in the original one. Cosines among nodes only tell how
much a node with many neighbours counts, so that this makes a small difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from handful.functional.bottleneck import residual_blend
from handful.functional.class_graph import graph_output, grouped_graphs, in_own_span
from handful.functional.cosine import cosine_logits
from handful.functional.normalise import unit
from handful.functional.two_spaces import original
from handful.methods.head import Head, Support
from handful.methods.search import Search
from handful.methods.training import Recipe, batches_by_size, seed_of, train, weights_of

__all__ = ["GraphAdapter"]

# Numbers trained in one computation: more of them only take memory.
_TOGETHER = 2**20


class GraphAdapter(Head):
    """logits = s · xᵀ unit((1 − α)·n·w_c + α·o_c), with o_c = tanh(row_c·Θ + b_c) of two graphs.

    Parameters:
        blend: α = 1 − η, the share of what comes from the graphs: 0 is zero-shot.
        image_share: λ, the share of the graph of mean images in it.
        groups: into how many groups the nodes are dealt, class c into c mod ``groups``, each
            making graphs of its own.
        text_norm: n, the length of class embeddings and, nearly, of mean images in the graphs.
        epochs: passes over the support set, one view of each image in a pass.
        lr: learning rate.

    Attributes:
        adapted_: unit class embeddings after adaptation, ``(C, D)``, float32.
        weights_: Θ of the graphs of texts and of images in the basis of the rows that it is
            applied to, ``(2, r, D)``, float32; r is the number of those rows, at most D. Not saved,
            as nothing needs it any more.
        biases_: b of both, ``(2, C, D)``, float32; not saved.

    Others: see :class:`~handful.methods.head.Head`.

    Examples:
        >>> import numpy as np
        >>> head = GraphAdapter(class_embeddings=np.eye(2))
        >>> head.fit([[1.0, 0.2], [0.1, 1.0]], [0, 1]).predict([[0.2, 0.9]])
        array([1])
    """

    name = "graph-adapter"
    summary = "class names' embeddings learn from those of similar classes and their mean images"
    paper = "Li et al. 2023, arXiv 2309.13625"
    search = Search(train={"blend": (0.0, 0.2, 0.3, 0.4, 0.5, 0.6)})
    learned = ("adapted_",)
    least = {"groups": 1, "text_norm": 1e-3}
    most = {"blend": 1, "image_share": 1}

    adapted_: npt.NDArray[np.float32]
    weights_: npt.NDArray[np.float32]
    biases_: npt.NDArray[np.float32]

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        blend: float = 0.3,
        image_share: float = 0.3,
        groups: int = 1,
        text_norm: float = 9.0,
        epochs: int = 100,
        lr: float = 2e-3,
        similarity: str = "original",
        class_weight: str = "balanced",
        class_names: Any = None,
        logit_scale: float = 100.0,
        random_state: int | None = 0,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.blend = blend
        self.image_share = image_share
        self.groups = groups
        self.text_norm = text_norm
        self.epochs = epochs
        self.lr = lr
        self.similarity = similarity
        self.class_weight = class_weight
        self.class_names = class_names
        self.logit_scale = logit_scale
        self.random_state = random_state

    @classmethod
    def _learn_many(cls, heads: Sequence[Self], supports: Sequence[Support]) -> None:
        for run in batches_by_size(heads, supports, ("image_share", "groups", "epochs", "lr")):
            classes, width = run.supports[0].text.shape
            rows = min(width, classes * min(run.heads[0].groups, classes))
            step = max(1, _TOGETHER // (2 * (rows + classes) * width))
            for i in range(0, len(run.heads), step):
                cls._train(run.heads[i : i + step], run.supports[i : i + step])

    @classmethod
    def _train(cls, heads: Sequence[Self], supports: Sequence[Support]) -> None:
        first, seeds = heads[0], [seed_of(h) for h in heads]
        starts = [_start(*each) for each in zip(heads, supports, seeds, strict=True)]
        text, blend, rows, weights, biases = (torch.stack(p) for p in zip(*starts, strict=True))

        def adapted(weights: Tensor, biases: Tensor) -> Tensor:
            output = graph_output(rows, weights, biases, first.image_share)
            return unit(residual_blend(output, text, blend))

        def logits(x: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
            return first.logit_scale * x @ adapted(weights, biases).mT

        weights, biases = train(
            [weights, biases],
            logits,
            [original(s.samples(), s.width) for s in supports],
            torch.stack([s.labels for s in supports]),
            Recipe(epochs=first.epochs, lr=first.lr, weight_decay=0.0, optimiser="adam"),
            seeds,
            weights=weights_of(supports),
            rates=[math.sqrt(text.shape[-1] / rows.shape[-1]), 1.0],
        )
        found = zip(adapted(weights, biases), weights, biases, strict=True)
        for head, (embeddings, theta, b) in zip(heads, found, strict=True):
            head.adapted_ = embeddings.numpy()
            head.weights_, head.biases_ = theta.numpy(), b.numpy()

    def trained_parameters(self) -> int:
        """Return the numbers of Θ and b of both graphs."""
        return int(self.weights_.size + self.biases_.size)

    def _logits(self, features: Tensor) -> Tensor:
        adapted = torch.from_numpy(self.adapted_).double()
        return cosine_logits(self._original(features), adapted, self.logit_scale)


class _Start(NamedTuple):
    """What one head is trained from: n·w ``(C, D)``, α of each class ``(C, 1)``, the graphs' rows
    ``(2, G, C, r)``, Θ ``(2, r, D)`` and b ``(2, C, D)``."""

    text: Tensor
    blend: Tensor
    rows: Tensor
    weights: Tensor
    biases: Tensor


def _start(head: GraphAdapter, support: Support, seed: int) -> _Start:
    text = head.text_norm * support.text
    images = head.text_norm * support.class_means(support.original_keys())
    alike = head.text_norm * support.class_means(support.keys())
    graphs = torch.stack(
        [
            grouped_graphs(text, text, head.groups),
            grouped_graphs(text, images, head.groups, alike),
        ]
    )
    coordinates, basis = in_own_span(graphs.flatten(1, 2))
    weights, biases = _initial(len(text), text.shape[1], seed)
    return _Start(
        text=text,
        blend=head.blend * (support.counts() > 0).float()[:, None],
        rows=coordinates.reshape(*graphs.shape[:3], -1),
        weights=basis @ weights,
        biases=biases,
    )


def _initial(classes: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Θ and b of both graphs, as published: uniform within ±1/√D, and 0."""
    generator = torch.Generator().manual_seed(seed)
    weights = (torch.rand(2, width, width, generator=generator) * 2 - 1) / math.sqrt(width)
    return weights, torch.zeros(2, classes, width)
