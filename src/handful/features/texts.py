"""From prompts to text features: each prompt is encoded once, and kept."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from handful.datasets.names import readable
from handful.encoders.protocol import Encoder
from handful.encoders.templates import prompts as fill_templates
from handful.features.store import FeatureStore
from handful.progress import progress

__all__ = ["class_embeddings", "encode_prompts", "readable_names"]

BATCH_SIZE = 256


def readable_names(labels: Sequence[str]) -> list[str]:
    """Return the labels as words for prompts; warn where two of them become the same words.

    Upper and lower case count as the same: most text towers see no difference.
    """
    names = [readable(label) for label in labels]
    first: dict[str, str] = {}
    for label, name in zip(labels, names, strict=True):
        other = first.setdefault(name.casefold(), label)
        if other != label:
            warnings.warn(
                f"the classes '{other}' and '{label}' are read alike: only their images can tell "
                "them apart; if they are one class, give them one label.",
                stacklevel=2,
            )
    return names


def encode_prompts(
    encoder: Encoder, prompts: Sequence[str], store: FeatureStore | None = None
) -> npt.NDArray[np.float32]:
    """Encode prompts; equal ones and those that the store knows are not encoded again.

    Returns:
        float32 ``(M, D)``, as the encoder gives them (not normalised), in the order given.

    Raises:
        InputError: the encoder has no text side.
    """
    wanted = list(dict.fromkeys(prompts))
    known = store.texts(encoder.fingerprint, wanted, encoder.dim) if store is not None else {}
    missing = [prompt for prompt in wanted if prompt not in known]
    with progress("encoding prompts", len(missing), "prompts") as advance:
        for start in range(0, len(missing), BATCH_SIZE):
            some = missing[start : start + BATCH_SIZE]
            batch = dict(zip(some, encoder.encode_texts(some), strict=True))
            if store is not None:
                store.add_texts(encoder.fingerprint, batch)
            known |= batch
            advance(len(some))
    features = np.empty((len(prompts), encoder.dim), np.float32)
    for row, prompt in enumerate(prompts):
        features[row] = known[prompt]
    return features


def class_embeddings(
    encoder: Encoder,
    class_names: Sequence[str],
    templates: Sequence[str],
    store: FeatureStore | None = None,
) -> npt.NDArray[np.float32]:
    """Encode every class name in every template.

    Returns:
        float32 ``(C, T, D)``, raw: one text feature per class and template, not pooled.

    Raises:
        InputError: the encoder has no text side.
    """
    features = encode_prompts(encoder, fill_templates(class_names, templates), store)
    return features.reshape(len(class_names), len(templates), encoder.dim)
