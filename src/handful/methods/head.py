"""The contract of every head: a scikit-learn classifier on frozen features.

A head is written by subclassing :class:`Head` and giving ``learned`` (the names of its arrays),
``trained`` (those of them that an optimiser set, for counting parameters),
``least`` and ``most`` (of numeric settings; the least is 0 where not given), ``choices`` (of
settings that are words), ``_learn(support)`` and ``_logits(features)``. Validation, labels, text,
probabilities and the saved form are here, once.

Numbers: learned arrays are float32, as they are saved; prediction computes in float64, so that an
image's answer does not depend on the batch it came in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor

from handful.errors import InputError
from handful.functional.class_weights import balanced_weights
from handful.functional.cosine import cosine_logits
from handful.functional.normalise import unit
from handful.functional.pooling import pool_templates
from handful.functional.two_spaces import compared, original, unit_in_each
from handful.methods.search import Search
from handful.methods.settings import Settings

__all__ = ["Head", "Support"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Support:
    """The support set as tensors.

    Attributes:
        features: raw features ``(n, D)``, float32; with a correction the original and the corrected
            ones side by side, ``(n, 2·D)``, D being the width of the text.
        labels: index of each image's class, int64 ``(n,)``.
        views: raw features of augmented views ``(n, V, …)``, as wide, float32, or None.
        text: unit class embeddings W ``(C, D)``, float32; without text, unit class means.
        prompts: unit embeddings of every single prompt ``(C, T, D)``, float32, where the head was
            given them; a class with fewer than T has rows of zeros.
        weights: how much each image counts, of mean 1, float32 ``(n,)``; None: all the same.
    """

    features: Tensor
    labels: Tensor
    views: Tensor | None
    text: Tensor
    prompts: Tensor | None = None
    weights: Tensor | None = None

    @property
    def n_classes(self) -> int:
        """C."""
        return self.text.shape[0]

    @property
    def width(self) -> int:
        """D."""
        return self.text.shape[1]

    def keys(self) -> Tensor:
        """One unit vector per image: f = unit(mean over views of raw features), ``(n, D)``.

        With a correction that of the corrected space, where images are compared with images.
        """
        return unit(compared(self.shown(), self.width).mean(dim=1))

    def original_keys(self) -> Tensor:
        """The same in the original space, where images are compared with text."""
        return unit(original(self.shown(), self.width).mean(dim=1))

    def keys_in_each(self) -> Tensor:
        """Original and corrected keys side by side; without a correction :meth:`keys`."""
        if self.features.shape[1] == self.width:
            return self.keys()
        return torch.cat([self.original_keys(), self.keys()], dim=1)

    def shown(self) -> Tensor:
        """Raw features to learn from: the views, or the image itself, ``(n, V, …)``, V = 1."""
        return self.features[:, None] if self.views is None else self.views

    def samples(self) -> Tensor:
        """Unit features to train on ``(n, V, D)``; with a correction ``(n, V, 2·D)``.

        Each half then has length 1.
        """
        return unit_in_each(self.shown(), self.width)

    def counts(self) -> Tensor:
        """Number of images of each class, int64 ``(C,)``."""
        return torch.bincount(self.labels, minlength=self.n_classes)

    def class_means(self, keys: Tensor) -> Tensor:
        """Mean of the keys of each class ``(C, D)``; zeros for a class without images."""
        sums = torch.zeros_like(self.text).index_add_(0, self.labels, keys)
        return sums / self.counts().clamp_min(1)[:, None]


class Head(ClassifierMixin, Settings):  # type: ignore[misc]
    """Base of all heads. See the module for how to write one.

    Parameters common to all heads:
        class_embeddings: ``(C, D)``, or ``(C, T, D)`` for T prompts (pooled by
            ``norm_mean_norm``; rows of zeros are no prompts). Row c belongs to label c for integer
            labels, to ``class_names[c]`` for strings. Without it, unit class means stand in.
        class_names: names of the rows; without them, strings are taken in sorted order.
        class_weight: ``none``: every image counts the same, a class by its number of images;
            ``balanced``: every class the same. A head has it unless each class has the same say in
            it anyway.
        similarity: ``original``: images are compared with images in the space of the text;
            ``corrected``: in that of a correction. Features are ``[original | corrected]`` then,
            twice as wide as the text. A head has it if it compares images with images.
        logit_scale: s.
        random_state: seed of everything random in ``fit``.

    Attributes:
        classes_: labels in the order of the columns of ``predict_proba``.
        text_: unit class embeddings ``(C, D)``, float32.
        n_features_in_: D, or 2·D with a correction.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    search: ClassVar[Search] = Search()
    learned: ClassVar[tuple[str, ...]] = ()
    trained: ClassVar[tuple[str, ...]] = ()
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "class_weight": ("none", "balanced"),
        "similarity": ("original", "corrected"),
    }
    from_task = (
        "class_embeddings",
        "class_names",
        "logit_scale",
        "widths",
        "projection",
        "random_state",
    )
    starts_from_text: ClassVar[bool] = True
    uses_prompts: ClassVar[bool] = False
    several_encoders: ClassVar[bool] = False
    before_projection: ClassVar[bool] = False  # works on features before the visual projection
    needs_correction: ClassVar[bool] = False  # its similarity is always that of a correction
    # Images per class from which it fits its logits to held-out likelihood itself; 0: never.
    likely_from: ClassVar[int] = 0

    # Given by the constructor of each subclass, as scikit-learn asks.
    class_embeddings: Array | None
    class_names: Sequence[str] | None
    class_weight: str = "none"  # of heads without that setting
    similarity: str = "original"  # of heads without that setting
    logit_scale: float
    random_state: int | None

    classes_: Array
    text_: npt.NDArray[np.float32]
    n_features_in_: int

    # -- what a subclass gives -------------------------------------------------------------

    def _learn(self, support: Support) -> None:
        """Set the learned attributes from the support set."""

    def _logits(self, features: Tensor) -> Tensor:
        """Return logits ``(N, C)`` of raw float64 features ``(N, D)``."""
        raise NotImplementedError

    @classmethod
    def _learn_many(cls, heads: Sequence[Self], supports: Sequence[Support]) -> None:
        """Learn several heads; overridden, instead of ``_learn``, where they train as one batch."""
        for head, support in zip(heads, supports, strict=True):
            head._learn(support)

    def _sweep(
        self, features: Tensor, points: Sequence[Mapping[str, float]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (Z, Q) with logits Z + blend·Q for each point: values of the swept settings.

        A swept setting that a point leaves out has the head's own value.
        """
        raise NotImplementedError

    @classmethod
    def searched(cls, given: Mapping[str, Any]) -> Search:
        """Return what selection searches where the settings ``given`` are fixed.

        Overridden where one setting decides whether another is searched.
        """
        return cls.search.without(given)

    @classmethod
    def compares_images(cls) -> bool:
        """Return whether it compares images with images, so that a correction is of use to it."""
        return cls.needs_correction or "similarity" in cls().settings()

    # -- fitting -----------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, *, views: Any = None) -> Self:
        """Learn from support features.

        Args:
            X: ``(N, D)``, raw or unit length.
            y: labels ``(N,)``.
            views: several augmented encodings of the same images, ``(N, V, D)``.

        Raises:
            ValueError: shapes disagree, a label has no row, or there is only one class.
        """
        self._learn_many([self], [self._support(X, y, views)])
        return self

    @classmethod
    def fit_many(cls, heads: Sequence[Self], data: Sequence[tuple[Any, Any, Any]]) -> None:
        """Fit several heads of this class, each on its own ``(X, y, views)``, together.

        The result of each is what ``fit`` alone would give; together is faster where the class
        trains in batches.
        """
        cls._learn_many(heads, [h._support(*d) for h, d in zip(heads, data, strict=True)])

    def _support(self, X: Any, y: Any, views: Any) -> Support:
        self.check_settings()
        X, y = validate_data(self, X, y, dtype=np.float64)
        # Not scikit-learn's check, which warns where most classes have one image: here, often.
        if y.dtype.kind == "f" and not np.array_equal(y, np.rint(y)):
            raise ValueError("Unknown label type: continuous labels; expected classes")
        labels = self._set_classes(y)
        features = _tensor(X, np.float32)
        if views is not None:
            views = _tensor(check_array(views, allow_nd=True, input_name="views"), np.float32)
            if views.ndim != 3 or views.shape[0] != len(X) or views.shape[2] != X.shape[1]:
                raise ValueError(
                    f"views have shape {tuple(views.shape)}: expected ({len(X)}, V, {X.shape[1]})"
                )
        text, prompts = self._text(self._in_text_space(features), labels)
        self.text_ = text.numpy()
        return Support(features, labels, views, text, prompts, self._weights(labels))

    def _in_text_space(self, features: Tensor) -> Tensor:
        """Return the original half of corrected features of the support, before text is known."""
        width = features.shape[1]
        if self.similarity != "corrected":
            return features
        if width % 2:
            raise InputError(
                f"the features have width {width}: similarity 'corrected' needs original and "
                "corrected ones side by side, of equal width"
            )
        return original(features, width // 2)

    def _weights(self, labels: Tensor) -> Tensor | None:
        """Return how much images of these classes count ``(n,)``; None: all the same."""
        if self.class_weight == "none":
            return None
        weights = balanced_weights(labels, len(self.classes_))
        return None if bool((weights == 1).all()) else weights

    def _set_classes(self, y: Array) -> Tensor:
        """Set ``classes_`` and return the row of each label."""
        present = np.unique(y)
        if self.class_embeddings is None and self.class_names is None:
            self.classes_ = present
        else:
            rows = len(self.class_names if self.class_embeddings is None else self.class_embeddings)  # type: ignore[arg-type]
            if self.class_names is not None and len(self.class_names) != rows:
                raise InputError(
                    f"there are {rows} class embeddings but {len(self.class_names)} class names: "
                    "each row needs its name"
                )
            if np.issubdtype(y.dtype, np.integer):
                self.classes_ = np.arange(rows)
            elif self.class_names is not None:
                self.classes_ = np.asarray(self.class_names)
            else:
                self.classes_ = present
            if len(self.classes_) != rows:
                raise InputError(
                    f"there are {rows} class embeddings but {len(self.classes_)} classes "
                    "in the labels: give class_names, one for each row"
                )
        if len(self.classes_) < 2:
            raise InputError(
                f"{type(self).__name__} needs at least two classes, got one class: "
                f"{present.tolist()[0]!r}"
            )
        position = {label: row for row, label in enumerate(self.classes_.tolist())}
        if len(position) < len(self.classes_):
            twice = next(c for c, n in Counter(self.classes_.tolist()).items() if n > 1)
            raise InputError(
                f"class name {twice!r} is given twice: give labels as row numbers, "
                "or make the names different"
            )
        strangers = [label for label in present.tolist() if label not in position]
        if strangers:
            raise InputError(
                f"label {strangers[0]!r} belongs to no row of the class embeddings: "
                f"expected one of {self.classes_[:5].tolist()}"
                f"{' …' if len(self.classes_) > 5 else ''}"
            )
        return torch.tensor([position[label] for label in y.tolist()], dtype=torch.int64)

    def _text(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.class_embeddings is None:
            counts = torch.bincount(labels, minlength=len(self.classes_))
            if (counts == 0).any():
                empty = self.classes_.tolist()[int((counts == 0).nonzero()[0])]
                raise InputError(f"class {empty!r} has neither images nor a class embedding")
            sums = features.new_zeros(len(counts), features.shape[1])
            return unit(sums.index_add_(0, labels, unit(features))), None
        text = _tensor(
            check_array(self.class_embeddings, allow_nd=True, input_name="class_embeddings")
        )
        if text.ndim not in (2, 3) or text.shape[-1] != features.shape[1]:
            reason = "features; the encoders differ"
            if self.similarity == "corrected":
                reason = "original half of the features; the corrected half has the same width"
            raise InputError(
                f"class embeddings have shape {tuple(text.shape)}: expected (C, "
                f"{features.shape[1]}) to go with the {reason}"
            )
        if text.ndim == 2:
            return unit(text).float(), None
        return pool_templates(text).float(), unit(text).float() if self.uses_prompts else None

    # -- predicting ----------------------------------------------------------------------------

    def _features(self, X: Any) -> Tensor:
        check_is_fitted(self)
        return _tensor(validate_data(self, X, dtype=np.float64, reset=False))

    def logits(self, X: Any) -> npt.NDArray[np.float64]:
        """Return logits ``(N, C)``, columns in the order of ``classes_``."""
        return self._logits(self._features(X)).numpy()

    def decision_function(self, X: Any) -> npt.NDArray[np.float64]:
        """Return logits ``(N, C)``; of two classes their difference ``(N,)``, as scikit-learn."""
        logits = self.logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return softmax probabilities ``(N, C)``, columns in the order of ``classes_``."""
        return torch.softmax(torch.from_numpy(self.logits(X)), dim=1).numpy()

    def predict(self, X: Any) -> Array:
        """Return the most probable label of each row."""
        columns = self.logits(X).argmax(axis=1)
        labels: Array = self.classes_[columns]
        return labels

    def _original(self, features: Tensor) -> Tensor:
        """Return the part of the features that is compared with text ``(N, D)``."""
        return original(features, self.text_.shape[1])

    def _compared(self, features: Tensor) -> Tensor:
        """Return the part of the features that is compared with images ``(N, D)``."""
        return compared(features, self.text_.shape[1])

    def _zero_shot(self, features: Tensor) -> Tensor:
        """Z, the logits that every text-based head starts from."""
        text = torch.from_numpy(self.text_).double()
        return cosine_logits(self._original(features), text, self.logit_scale)

    def _names(self, features: Tensor) -> Tensor:
        """What the head makes of the names; overridden where it weighs them anew."""
        base = self._zero_shot(features)
        return base if self.starts_from_text else torch.zeros_like(base)

    def zero_shot_logits(self, X: Any) -> npt.NDArray[np.float64]:
        """Return Z ``(N, C)``, what the class embeddings alone say."""
        return self._zero_shot(self._features(X)).numpy()

    def names_logits(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the part of the logits that the class embeddings make ``(N, C)``.

        It is Z, unless the head gives them another weight; 0 where they play no part. The rest of
        the logits is what the images taught.
        """
        return self._names(self._features(X)).numpy()

    def sweep(
        self, X: Any, points: Sequence[Mapping[str, float]] = ({},)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(Z, Q)``, logits being Z + blend·Q, for each point of the swept settings.

        Selection uses it to judge many settings of one fitted head without refitting it.
        """
        return self._sweep(self._features(X), points)

    # -- the saved form -------------------------------------------------------------------------

    def trained_parameters(self) -> int:
        """Return how many numbers an optimiser set."""
        return sum(int(getattr(self, name).size) for name in self.trained)

    def arrays(self) -> dict[str, Array]:
        """Return the learned arrays by name, for saving."""
        check_is_fitted(self)
        return {name: getattr(self, name) for name in ("text_", *self.learned)}

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, Array],
        classes: Array,
        settings: Mapping[str, Any],
        logit_scale: float,
    ) -> Self:
        """Rebuild a fitted head from what :meth:`arrays` and :meth:`settings` gave."""
        head = cls(logit_scale=logit_scale, **settings)
        if "class_weight" not in settings:
            head.class_weight = "none"  # it was saved before there was such a setting
        for name in ("text_", *cls.learned):
            setattr(head, name, arrays[name])
        head.classes_ = classes
        spaces = 2 if head.similarity == "corrected" else 1
        head.n_features_in_ = spaces * arrays["text_"].shape[1]
        return head


def _tensor(values: Array, dtype: type[np.floating[Any]] = np.float64) -> Tensor:
    """Copy an array: PyTorch takes neither reversed nor, without a warning, read-only ones."""
    return torch.from_numpy(np.array(values, dtype=dtype, order="C"))
