"""From prompts to text features: each prompt is encoded once, and kept.

What is read of a class are its prompts: its name in every template, and sentences that somebody,
mostly a language model, has written about it. All count alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from handful.datasets.imagenet import imagenet_classes
from handful.datasets.names import readable
from handful.datasets.sentences import ClassSentences
from handful.encoders.protocol import Encoder
from handful.encoders.templates import prompts as fill_templates
from handful.errors import InputError
from handful.features.store import FeatureStore
from handful.progress import progress

__all__ = ["class_embeddings", "encode_prompts", "read_classes", "readable_names", "refuse_blind"]

BATCH_SIZE = 256
LOOKUP_SIZE = 4096  # prompts that the store is asked for at once: 12 MB of 768 numbers each


def readable_names(labels: Sequence[str]) -> list[str]:
    """Return the labels as words for prompts; warn where two of them become the same words.

    Upper and lower case count as the same: most text towers see no difference. Of ImageNet's two
    pairs of classes with one name nothing is said: they are meant to be two.
    """
    names = [readable(label) for label in labels]
    first: dict[str, str] = {}
    for label, name in zip(labels, names, strict=True):
        other = first.setdefault(name.casefold(), label)
        if other != label and not _two_of_imagenet(other, label):
            warnings.warn(
                f"the classes '{other}' and '{label}' are read alike: only their images can tell "
                "them apart; if they are one class, give them one label.",
                stacklevel=2,
            )
    return names


def _two_of_imagenet(one: str, other: str) -> bool:
    return other == f"{one}_" and other in imagenet_classes().values()


def encode_prompts(
    encoder: Encoder, prompts: Sequence[str | None], store: FeatureStore | None = None
) -> npt.NDArray[np.float32]:
    """Encode prompts; equal ones and those that the store knows are not encoded again.

    Memory: the result, and little besides.

    Args:
        encoder: reads them; a text longer than its tokenizer takes is cut off there.
        prompts: M texts; None stands for no prompt.
        store: where text features are kept between calls.

    Returns:
        float32 ``(M, D)``, as the encoder gives them (not normalised), in the order given; zeros
        where there is no prompt.

    Raises:
        InputError: the encoder has no text side.
    """
    features = np.zeros((len(prompts), encoder.dim), np.float32)
    rows: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        if prompt is not None:
            rows.setdefault(prompt, []).append(row)
    missing = list(rows)
    if store is not None:
        missing = []
        waiting = iter(rows)
        while some := list(islice(waiting, LOOKUP_SIZE)):
            known = store.texts(encoder.fingerprint, some, encoder.dim)
            for prompt in some:
                if prompt in known:
                    features[rows[prompt]] = known[prompt]
                else:
                    missing.append(prompt)
    with progress("encoding prompts", len(missing), "prompts") as advance:
        for start in range(0, len(missing), BATCH_SIZE):
            some = missing[start : start + BATCH_SIZE]
            batch = dict(zip(some, encoder.encode_texts(some), strict=True))
            if store is not None:
                store.add_texts(encoder.fingerprint, batch)
            for prompt, vector in batch.items():
                features[rows[prompt]] = vector
            advance(len(some))
    return features


def class_embeddings(
    encoder: Encoder,
    class_names: Sequence[str],
    templates: Sequence[str],
    store: FeatureStore | None = None,
    sentences: ClassSentences | None = None,
) -> npt.NDArray[np.float32]:
    """Encode every class name in every template, and the sentences of every class.

    Args:
        encoder: reads them.
        class_names: C names, as words.
        templates: none where sentences are all that is read.
        store: where text features are kept between calls.
        sentences: of the same classes.

    Returns:
        float32 ``(C, T, D)``, raw and not pooled: of each class first the templates, then its
        sentences, then rows of zeros where another class has more sentences.

    Raises:
        InputError: the encoder has no text side.
    """
    filled = fill_templates(class_names, templates)
    of_class = sentences.of_class if sentences is not None else ((),) * len(class_names)
    most = max(map(len, of_class), default=0)
    prompts: list[str | None] = []
    for number, own in enumerate(of_class):
        prompts += filled[number * len(templates) : (number + 1) * len(templates)]
        prompts += own
        prompts += [None] * (most - len(own))
    features = encode_prompts(encoder, prompts, store)
    return features.reshape(len(class_names), len(templates) + most, encoder.dim)


def refuse_blind(encoder: Encoder) -> None:
    """Raise where prompts are given that nothing can read.

    Raises:
        InputError: the encoder has no text side.
    """
    if not encoder.has_text:
        raise InputError(
            f"the encoder {encoder.spec} has no text tower, so there is nothing to read prompts "
            "with: leave them out, or use a CLIP or SigLIP model."
        )


def read_classes(
    encoder: Encoder,
    labels: Sequence[str],
    templates: Sequence[str],
    store: FeatureStore | None = None,
    sentences: ClassSentences | None = None,
) -> npt.NDArray[np.float32]:
    """Encode what is read of classes, from the labels that the user gave.

    Where no template is filled, how a label reads plays no part, and nothing is said of it.
    Arguments, result and errors are those of :func:`class_embeddings`.
    """
    names = readable_names(labels) if templates else labels
    return class_embeddings(encoder, names, templates, store, sentences)
