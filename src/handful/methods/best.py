"""``best``: the head that people get who name none. Our own; no validation images, no search.

Four linear opinions on an image are mixed into one linear classifier:

1.–3. logistic regression that starts from the zero-shot logits times a trust in the names of 0,
   ½ and 1 (:mod:`handful.functional.anchored_regression`). With trust 1 it adds to the names only
   what the images ask for, which one image per class can already do; with trust 0 it knows images
   alone;
4. Gaussian discriminant analysis of the images (:mod:`handful.functional.discriminant`), without
   the names.

How much the names are to be trusted at all is seen without holding anything out, as zero-shot has
learnt nothing from the images: their logits are scaled to the likelihood of the support labels.
Product codes for names get next to no weight there. The weights of the four are those under which
the labels of held-out images (up to four folds over the shots) are likeliest, held near a prior:
likelihood uses every image, where accuracy would count the few that a setting decides. With one
image per class nothing can be held out, and opinion 3 speaks alone.

The constants (penalty, shrinkage, prior of the weights) were chosen on rows of the training pool
of Stanford Cars, ViT-B/32, and on no others: random tasks of 10, 19, 50 and 196 classes, 1 to 8
shots, with their names, with names blurred by noise or pushed towards the mean image, and with
names of other classes. The result hardly depends on them: at trust 1 and one or two shots, a
penalty of a third or of three times as much changed the mean accuracy there by 0.2 points with the
names, by 1.4 with blurred ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from handful.datasets.duplicates import duplicate_groups
from handful.functional.anchored_regression import anchored_regression, within_class_root
from handful.functional.discriminant import gaussian_discriminant
from handful.functional.expert_weights import expert_weights, row_spread
from handful.functional.folds import make_folds
from handful.functional.normalise import unit
from handful.methods.head import Head, Support

__all__ = ["Best"]

_TRUSTS = (0.0, 0.5, 1.0)
_PRIOR = (0.2, 0.2, 0.5, 0.1)
_ALONE = (0.0, 0.0, 1.0, 0.0)
_SPREAD = 1.0
_SCALE_SPREAD = 3.0  # wide: the scale of the names is measured, not guessed


class Best(Head):
    """logits = x·Uᵀ + b, the mixture of four linear opinions; see the module.

    Parameters:
        penalty: λ of the regressions.
        shrinkage: share of the identity in the covariance within classes.

    Attributes:
        weight_: U ``(C, D)``, float32.
        bias_: b ``(C,)``, float32.
        mixture_: weights of the four opinions, float32 ``(4,)``; not saved.
        text_scale_: factor on the cosines with the names, at most s, and 0 where there are no
            names; not saved.

    Others: see :class:`~handful.methods.head.Head`.

    Examples:
        >>> import numpy as np
        >>> head = Best(class_embeddings=np.eye(2))
        >>> head.fit([[1.0, 0.2], [0.1, 1.0]], [0, 1]).predict([[0.2, 0.9]])
        array([1])
    """

    name = "best"
    summary = "names and images weighed by how well each does on the images; no settings to choose"
    paper = "handful; LDA as in arXiv 2402.04087, anchored regression after arXiv 2312.12730"
    learned = trained = ("weight_", "bias_")
    least = {"penalty": 1e-9, "shrinkage": 1e-3}
    most = {"shrinkage": 1}

    weight_: npt.NDArray[np.float32]
    bias_: npt.NDArray[np.float32]
    mixture_: npt.NDArray[np.float32]
    text_scale_: float

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        penalty: float = 0.02,
        shrinkage: float = 0.5,
        class_names: Any = None,
        logit_scale: float = 100.0,
        random_state: int | None = 0,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.penalty = penalty
        self.shrinkage = shrinkage
        self.class_names = class_names
        self.logit_scale = logit_scale
        self.random_state = random_state

    def _learn(self, support: Support) -> None:
        images = unit(support.features).double()
        samples = unit(support.samples()).double()
        text, labels = support.text.double(), support.labels
        scale = self._scale_of_names(images, labels, text)
        opinions = _Opinions(text * scale, self.penalty, self.shrinkage)
        weights, biases = opinions.learn(samples, labels)
        mixture = torch.tensor(self._mixture(images, samples, labels, opinions)).double()
        self.weight_ = torch.tensordot(mixture, weights, 1).float().numpy()
        self.bias_ = (mixture @ biases).float().numpy()
        self.mixture_ = mixture.float().numpy()
        self.text_scale_ = scale

    def _scale_of_names(self, images: Tensor, labels: Tensor, text: Tensor) -> float:
        """Return the scale under which zero-shot finds the labels likeliest, at most s."""
        means = torch.zeros_like(text).index_add_(0, labels, images)
        if torch.allclose(unit(means), text, atol=1e-5):
            return 0.0  # class means, given or standing in, say nothing that the images do not
        (factor,) = expert_weights(
            self.logit_scale * (images @ text.T)[None], labels, [1.0], _SCALE_SPREAD
        )
        return self.logit_scale * min(1.0, factor)

    def _mixture(
        self, images: Tensor, samples: Tensor, labels: Tensor, opinions: _Opinions
    ) -> Sequence[float]:
        seed = 0 if self.random_state is None else int(self.random_state)
        groups = duplicate_groups(None, images.float().numpy())
        folds = make_folds(labels.numpy(), groups, seed=seed)
        judged, targets = [], []
        for fold in folds:
            fit, judge = torch.from_numpy(fold.fit), torch.from_numpy(fold.judge)
            weights, biases = opinions.learn(samples[fit], labels[fit])
            judged.append(images[judge] @ weights.mT + biases[:, None])
            targets.append(labels[judge])
        if not judged:
            return _ALONE
        return expert_weights(torch.cat(judged, dim=1), torch.cat(targets), _PRIOR, _SPREAD)

    def _logits(self, features: Tensor) -> Tensor:
        weight, bias = torch.from_numpy(self.weight_), torch.from_numpy(self.bias_)
        return unit(features) @ weight.double().T + bias.double()


class _Opinions:
    """The four linear classifiers, before they are weighed."""

    def __init__(self, scaled_text: Tensor, penalty: float, shrinkage: float) -> None:
        self._text = scaled_text
        self._penalty = penalty
        self._shrinkage = shrinkage

    def learn(self, samples: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights ``(4, C, D)`` and intercepts ``(4, C)`` from samples ``(n, V, D)``."""
        n_views = samples.shape[1]
        rows, classes = samples.flatten(0, 1), labels.repeat_interleave(n_views)
        names = torch.stack([trust * self._text for trust in _TRUSTS])
        root = within_class_root(rows, classes, len(self._text), self._shrinkage)
        delta, intercepts = anchored_regression(
            rows,
            classes,
            rows @ names.mT,
            self._penalty,
            root=root,
            weights=torch.full((len(rows),), 1 / n_views, dtype=rows.dtype),
        )
        weights, biases = names + delta, intercepts
        weight, bias = gaussian_discriminant(rows, classes, self._text)
        # Discriminant scores have a scale of their own: brought to that of the third opinion.
        size = row_spread(rows @ weights[2].T + biases[2])
        ratio = size / row_spread(rows @ weight.T + bias).clamp_min(1e-9)
        return torch.cat([weights, weight[None] * ratio]), torch.cat([biases, bias[None] * ratio])
