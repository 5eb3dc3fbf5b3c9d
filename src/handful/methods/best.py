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
        names_weight_: how much of U is a multiple of the class embeddings, float32 ``(1,)``: the
            scale of the names times the trust in them, over the mixture.
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
    likely_from = 2  # below, nothing can be held out for the mixture
    learned = ("weight_", "bias_", "names_weight_")
    trained = ("weight_", "bias_")
    least = {"penalty": 1e-9, "shrinkage": 1e-3}
    most = {"shrinkage": 1}

    weight_: npt.NDArray[np.float32]
    bias_: npt.NDArray[np.float32]
    names_weight_: npt.NDArray[np.float32]
    mixture_: npt.NDArray[np.float32]
    text_scale_: float

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        penalty: float = 0.02,
        shrinkage: float = 0.5,
        class_weight: str = "balanced",
        class_names: Any = None,
        logit_scale: float = 100.0,
        random_state: int | None = 0,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.penalty = penalty
        self.shrinkage = shrinkage
        self.class_weight = class_weight
        self.class_names = class_names
        self.logit_scale = logit_scale
        self.random_state = random_state

    def _learn(self, support: Support) -> None:
        images = unit(support.features).double()
        samples = unit(support.samples()).double()
        text, labels = support.text.double(), support.labels
        balance = support.weights
        judged = self._evenly(labels)
        scale = self._scale_of_names(images, labels, text, balance)
        opinions = _Opinions(text * scale, self.penalty, self.shrinkage)
        weights, biases = opinions.learn(samples, labels, balance)
        mixture = torch.tensor(
            self._mixture(images[judged], samples[judged], labels[judged], opinions)
        ).double()
        self.weight_ = torch.tensordot(mixture, weights, 1).float().numpy()
        self.bias_ = (mixture @ biases).float().numpy()
        trusts = mixture.new_tensor((*_TRUSTS, 0.0))
        self.names_weight_ = (scale * mixture @ trusts).float().numpy()[None]
        self.mixture_ = mixture.float().numpy()
        self.text_scale_ = scale

    def _scale_of_names(
        self, images: Tensor, labels: Tensor, text: Tensor, weights: Tensor | None
    ) -> float:
        """Return the scale under which zero-shot finds the labels likeliest, at most s."""
        means = torch.zeros_like(text).index_add_(0, labels, images)
        if torch.allclose(unit(means), text, atol=1e-5):
            return 0.0  # class means, given or standing in, say nothing that the images do not
        (factor,) = expert_weights(
            self.logit_scale * (images @ text.T)[None],
            labels,
            [1.0],
            _SCALE_SPREAD,
            weights=weights,
        )
        return self.logit_scale * min(1.0, factor)

    def _evenly(self, labels: Tensor) -> Tensor:
        """Return the rows that the mixture is learnt from: all, or evenly many of each class.

        A class of one image is never judged. Where others have many, what would be judged is the
        answers to those, and they are best without the names that the classes of one image need.
        So a class has at most as many there as the harmonic mean of the numbers, or two.
        """
        if self._weights(labels) is None:
            return torch.arange(len(labels))
        counts = torch.bincount(labels)
        most = max(2, round(1 / float((1 / counts[counts > 0]).mean())))
        order = np.random.default_rng(self._seed).permutation(len(labels))
        own = [order[(labels[order] == c).numpy()][:most] for c in range(len(counts))]
        return torch.from_numpy(np.sort(np.concatenate(own)))

    @property
    def _seed(self) -> int:
        return 0 if self.random_state is None else int(self.random_state)

    def _mixture(
        self, images: Tensor, samples: Tensor, labels: Tensor, opinions: _Opinions
    ) -> Sequence[float]:
        weights = self._weights(labels)
        groups = duplicate_groups(None, images.float().numpy())
        folds = make_folds(labels.numpy(), groups, seed=self._seed)
        if not folds:
            return _ALONE
        judged = []
        for fold in folds:
            fit, judge = torch.from_numpy(fold.fit), torch.from_numpy(fold.judge)
            own = None if weights is None else weights[fit]
            rows, biases = opinions.learn(samples[fit], labels[fit], own)
            judged.append(images[judge] @ rows.mT + biases[:, None])
        order = torch.from_numpy(np.concatenate([fold.judge for fold in folds]))
        return expert_weights(
            torch.cat(judged, dim=1),
            labels[order],
            _PRIOR,
            _SPREAD,
            weights=None if weights is None else weights[order],
        )

    def _logits(self, features: Tensor) -> Tensor:
        weight, bias = torch.from_numpy(self.weight_), torch.from_numpy(self.bias_)
        return unit(features) @ weight.double().T + bias.double()

    def _names(self, features: Tensor) -> Tensor:
        text = torch.from_numpy(self.text_).double()
        return float(self.names_weight_[0]) * unit(features) @ text.T


class _Opinions:
    """The four linear classifiers, before they are weighed."""

    def __init__(self, scaled_text: Tensor, penalty: float, shrinkage: float) -> None:
        self._text = scaled_text
        self._penalty = penalty
        self._shrinkage = shrinkage

    def learn(
        self, samples: Tensor, labels: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return weights ``(4, C, D)`` and intercepts ``(4, C)``.

        Args:
            samples: ``(n, V, D)``.
            labels: int64 ``(n,)``.
            weights: how much each image counts ``(n,)``; None: 1.
        """
        n_views = samples.shape[1]
        shares = torch.full((len(labels),), 1 / n_views, dtype=samples.dtype)
        if weights is not None:
            shares = shares * weights
        rows, classes = samples.flatten(0, 1), labels.repeat_interleave(n_views)
        names = torch.stack([trust * self._text for trust in _TRUSTS])
        root = within_class_root(rows, classes, len(self._text), self._shrinkage)
        delta, intercepts = anchored_regression(
            rows,
            classes,
            rows @ names.mT,
            self._penalty,
            root=root,
            weights=shares.repeat_interleave(n_views),
        )
        linear, biases = names + delta, intercepts
        weight, bias = gaussian_discriminant(rows, classes, self._text)
        # Discriminant scores have a scale of their own: brought to that of the third opinion.
        size = row_spread(rows @ linear[2].T + biases[2])
        ratio = size / row_spread(rows @ weight.T + bias).clamp_min(1e-9)
        return torch.cat([linear, weight[None] * ratio]), torch.cat([biases, bias[None] * ratio])
