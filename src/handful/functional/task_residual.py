"""TaskRes: class embeddings plus a free residual of each class."""

from __future__ import annotations

from torch import Tensor

from handful.functional.normalise import unit

__all__ = ["residual_text"]


def residual_text(
    embeddings: Tensor, residual: Tensor, blend: float | Tensor, text_norm: float | Tensor
) -> Tensor:
    """w'_c = unit(n·unit(t_c) + α·R_c) (Yu et al., 2023).

    Args:
        embeddings: t, ``(..., C, D)``, any length.
        residual: R, ``(..., C, D)``.
        blend: α; 0 leaves the directions as they are.
        text_norm: n, the length of t that α and R are meant for. Only α·R / n counts.

    Returns:
        ``(..., C, D)``, unit length.
    """
    return unit(text_norm * unit(embeddings) + blend * residual)
