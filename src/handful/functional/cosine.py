"""Zero-shot logits: scaled cosines between images and class embeddings."""

from __future__ import annotations

from torch import Tensor

from handful.functional.normalise import unit

__all__ = ["cosine_logits"]


def cosine_logits(features: Tensor, class_embeddings: Tensor, logit_scale: float) -> Tensor:
    """Z = s · unit(z)ᵀ unit(W) (Radford et al., 2021).

    Args:
        features: ``(..., N, D)``, any length.
        class_embeddings: ``(C, D)``, any length.
        logit_scale: s, 100 for the OpenAI models.

    Returns:
        ``(..., N, C)``.
    """
    return logit_scale * unit(features) @ unit(class_embeddings).mT
