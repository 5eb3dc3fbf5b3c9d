"""``FewShotTask``: everything that a method and its selection may see.

Test features and labels are not in it, and nothing that takes a task takes anything else: a method
cannot leak what it was never given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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

    def __post_init__(self) -> None:
        for name in ("X", "y", "X_val", "y_val", "class_embeddings", "views", "groups"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, np.asarray(value))
        if self.X.ndim != 2:
            raise InputError(f"support features have shape {self.X.shape}: expected (N, D).")
        rows, width = self.X.shape
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
        if text is not None and (text.ndim not in (2, 3) or text.shape[-1] != width):
            raise InputError(
                f"class embeddings have shape {text.shape}: expected (C, {width}) or "
                f"(C, T, {width}), the width of the support features."
            )
        if text is not None and self.class_names is not None and len(self.class_names) != len(text):
            raise InputError(
                f"there are {len(text)} class embeddings but {len(self.class_names)} class names: "
                "each row needs its name."
            )
        views = self.views
        if views is not None and (
            views.ndim != 3 or views.shape[0] != rows or views.shape[2] != width
        ):
            raise InputError(f"views have shape {views.shape}: expected ({rows}, V, {width}).")
        if self.groups is not None and self.groups.shape != (rows,):
            raise InputError(f"groups have shape {self.groups.shape}: expected ({rows},).")

    def head_arguments(self) -> dict[str, Any]:
        """Return what the constructor of every head takes from a task."""
        return {
            "class_embeddings": self.class_embeddings,
            "class_names": self.class_names,
            "logit_scale": self.logit_scale,
        }
