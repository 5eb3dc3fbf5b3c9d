"""``FewShotTask``: everything that a method and its selection may see.

Test features and labels are not in it, and nothing that takes a task takes anything else: a method
cannot leak what it was never given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.errors import InputError

__all__ = ["FewShotTask"]

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class FewShotTask:
    """A support set, and what else is known before any test image is.

    Attributes:
        X: support features ``(N, D)``, raw or unit length.
        y: their labels ``(N,)``: integers into the rows of ``class_embeddings``, or strings.
        X_val, y_val: validation features ``(M, D)`` and labels, or None.
        class_embeddings: text side, ``(C, D)``, or ``(C, T, D)`` for T templates, or None.
        class_names: name of each row of ``class_embeddings``, needed where ``y`` holds names and
            some class has no image.
        logit_scale: factor s on the cosines.
        views: several augmented encodings of each support image, ``(N, V, D)``, or None.
        groups: images with equal group are near duplicates and stay in one fold; ``(N,)`` or None.
        prompts: the embedding of every single prompt, ``(C, T, D)``, for methods that use more than
            the pooled ``class_embeddings``; a class with fewer than T has rows of zeros. Or None.
        widths: of several encoders whose features stand side by side in ``X``, ``X_val`` and
            ``views``, the width of each; the text side is in the space of the first. None: one
            encoder.
        projection: Π ``(D_v, D)`` of the image tower, or None. With it, ``X``, ``X_val`` and
            ``views`` are features before it, D_v wide, and the text side lies behind it.
        corrected: whether ``X``, ``X_val`` and ``views`` are ``[original | corrected]``, 2·D wide,
            from an encoder with a correction; the text side is D wide, in the original space.
    """

    X: Floats
    y: npt.NDArray[Any]
    X_val: Floats | None = None
    y_val: npt.NDArray[Any] | None = None
    class_embeddings: Floats | None = None
    class_names: Sequence[str] | None = None
    logit_scale: float = 100.0
    views: Floats | None = None
    groups: npt.NDArray[np.int64] | None = field(default=None, kw_only=True)
    prompts: Floats | None = field(default=None, kw_only=True)
    widths: tuple[int, ...] | None = field(default=None, kw_only=True)
    projection: Floats | None = field(default=None, kw_only=True)
    corrected: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        for name in (
            *("X", "y", "X_val", "y_val", "class_embeddings", "views", "groups", "prompts"),
            "projection",
        ):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, np.asarray(value))
        if self.X.ndim != 2:
            raise InputError(f"support features have shape {self.X.shape}: expected (N, D).")
        rows, width = self.X.shape
        widths = (width,) if self.widths is None else tuple(int(part) for part in self.widths)
        if self.widths is not None:
            object.__setattr__(self, "widths", widths)
            if len(widths) < 2 or min(widths) < 1 or sum(widths) != width:
                raise InputError(
                    f"widths are {widths}, but the support features have width {width}: expected "
                    "those of two or more encoders, which add up to it."
                )
        projection = self.projection
        if projection is not None and (
            self.widths is not None
            or projection.ndim != 2
            or len(projection) != width
            or projection.shape[1] == 0
        ):
            raise InputError(
                f"the projection has shape {projection.shape}: expected ({width}, D), from the "
                "support features of one encoder to the space of the class embeddings."
            )
        if self.corrected and (width % 2 or self.widths is not None or projection is not None):
            raise InputError(
                f"the support features have width {width} and are said to be corrected: expected "
                "original and corrected ones of one encoder side by side, of equal width, behind "
                "its projection."
            )
        # What the text side is as wide as.
        joint = widths[0] if projection is None else projection.shape[1]
        joint = joint // 2 if self.corrected else joint
        if self.y.shape != (rows,):
            raise InputError(
                f"there are {rows} support features, but labels of shape {self.y.shape}."
            )
        if rows == 0:
            raise InputError("there are no support features: give at least one image per class.")
        if (self.X_val is None) != (self.y_val is None):
            raise InputError("validation features and labels go together: give both or neither.")
        if self.X_val is not None and self.y_val is not None:
            if self.X_val.ndim != 2 or self.X_val.shape[1] != width:
                raise InputError(
                    f"validation features have shape {self.X_val.shape}: expected (M, {width})."
                )
            if len(self.X_val) == 0:
                raise InputError("there are no validation features: leave them out, or give some.")
            if self.y_val.shape != self.X_val.shape[:1]:
                raise InputError(
                    f"there are {len(self.X_val)} validation features but labels of shape "
                    f"{self.y_val.shape}."
                )
        text = self.class_embeddings
        if text is not None and (text.ndim not in (2, 3) or text.shape[-1] != joint):
            of_first = "" if self.widths is None else " of the first encoder"
            behind = "" if projection is None else " behind the projection"
            half = "half " if self.corrected else ""
            raise InputError(
                f"class embeddings have shape {text.shape}: expected (C, {joint}) or "
                f"(C, T, {joint}), {half}the width of the support features{of_first}{behind}."
            )
        if text is not None and self.class_names is not None and len(self.class_names) != len(text):
            raise InputError(
                f"there are {len(text)} class embeddings but {len(self.class_names)} class names: "
                "each row needs its name."
            )
        prompts = self.prompts
        if prompts is not None and (
            text is None or prompts.ndim != 3 or prompts.shape[::2] != (len(text), joint)
        ):
            raise InputError(
                f"prompts have shape {prompts.shape}: expected (C, T, {joint}), with class "
                "embeddings of the same C classes."
            )
        views = self.views
        if views is not None and (
            views.ndim != 3 or views.shape[0] != rows or views.shape[2] != width
        ):
            raise InputError(f"views have shape {views.shape}: expected ({rows}, V, {width}).")
        if self.groups is not None and self.groups.shape != (rows,):
            raise InputError(f"groups have shape {self.groups.shape}: expected ({rows},).")

    def head_arguments(self, *, prompts: bool = False) -> dict[str, Any]:
        """Return what the constructor of every head takes from a task.

        Args:
            prompts: whether the head uses every single prompt, where the task has them.
        """
        single = prompts and self.prompts is not None
        some = {"widths": self.widths, "projection": self.projection}
        return {
            "class_embeddings": self.prompts if single else self.class_embeddings,
            "class_names": self.class_names,
            "logit_scale": self.logit_scale,
            **{name: value for name, value in some.items() if value is not None},
        }

    def of_first_encoder(self) -> FewShotTask:
        """Return the same task with the features of the first encoder alone."""
        return self if self.widths is None else self._narrowed(self.widths[0], widths=None)

    def original(self) -> FewShotTask:
        """Return the same task with the original features alone."""
        return self._narrowed(self.X.shape[1] // 2, corrected=False) if self.corrected else self

    def _narrowed(self, width: int, **changes: Any) -> FewShotTask:
        first = slice(0, width)
        return replace(
            self,
            X=self.X[:, first],
            X_val=None if self.X_val is None else self.X_val[:, first],
            views=None if self.views is None else self.views[..., first],
            **changes,
        )

    def projected(self) -> FewShotTask:
        """Return the same task with features behind the projection."""
        if self.projection is None:
            return self
        return replace(
            self,
            X=self.X @ self.projection,
            X_val=None if self.X_val is None else self.X_val @ self.projection,
            views=None if self.views is None else self.views @ self.projection,
            projection=None,
        )

    def in_text_space(self) -> FewShotTask:
        """Return the same task with features that can be compared with the text."""
        return self.of_first_encoder().original().projected()
