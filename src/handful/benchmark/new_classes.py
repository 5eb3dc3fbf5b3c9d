"""What a method that has learnt some classes says of images of other classes.

Of few methods what was learnt reaches classes by their names: CLIP-Adapter's adapters work on any
feature, and a trained encoder reads any name. All others have learnt a row, a key or a distribution
for each class they saw: a class they did not see keeps its zero-shot row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from handful.benchmark.inside import Inside
from handful.benchmark.source import Source
from handful.classifier.tuned import is_tuning
from handful.features.store import FeatureStore
from handful.functional.cosine import cosine_logits
from handful.methods.clip_adapter import ClipAdapter
from handful.methods.head import Head
from handful.methods.zero_shot import ZeroShot
from handful.tuning.prompts import Prompts
from handful.tuning.tuned_encoder import TunedEncoder, open_tuned

__all__ = ["new_class_logits", "reaches_new_classes"]


def reaches_new_classes(method: str, settings: Mapping[str, Any]) -> bool:
    """Return whether a method has answers of its own for classes that it has not seen.

    Args:
        method: its name.
        settings: that it is given; CoOp with vectors for each class has none for others.
    """
    if is_tuning(method):
        return not settings.get("class_specific", False)
    return method in (ZeroShot.name, ClipAdapter.name)


def new_class_logits(
    learnt: Head | Inside, source: Source, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return logits of images among the classes of their own source, ``(n, C)``.

    Args:
        learnt: from other classes, with the same encoder. CLIP-Adapter's cache has no votes here.
        source: with class embeddings; as the method sees it.
        rows: images in it.
    """
    if isinstance(learnt, Inside):
        if reaches_new_classes(learnt.encoder.tuning.name, learnt.settings()):
            assert source.pictures is not None
            reads = _reading(learnt.encoder, source.pictures.prompts)
            images = source.pictures.of(rows, source.labels)
            return reads.logits(images, FeatureStore()).astype(np.float64)
    elif isinstance(learnt, ClipAdapter):
        text = learnt.transform_text(source.features.class_embeddings)
        found: npt.NDArray[np.float64] = (
            learnt.logit_scale * learnt.transform(source.image_features[rows]) @ text.T
        )
        return found
    f = source.features
    X, W = (torch.from_numpy(a).double() for a in (f.image_features[rows], f.class_embeddings))
    return cosine_logits(X, W, f.logit_scale).numpy()


def _reading(learnt: TunedEncoder, prompts: Prompts) -> TunedEncoder:
    """Return a trained encoder that has read the names of other classes."""
    tuned = open_tuned(learnt.tuning, learnt.base, prompts, learnt.seed)
    tuned.load(learnt.tuned.arrays())
    return TunedEncoder(learnt.base, learnt.tuning, tuned, learnt.seed)
