"""What another reading of the names, or another crop of the images, would give: by trying it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from handful.benchmark.source import Source
from handful.benchmark.verify.measure import zero_shot_accuracy
from handful.benchmark.verify.published import published
from handful.benchmark.verify.setup import Setup, read_by
from handful.datasets.names import readable
from handful.encoders.options import split_options
from handful.encoders.preprocess import STYLES
from handful.encoders.spec import load_encoder
from handful.encoders.templates import template_sets
from handful.features.extract import encode_images
from handful.features.store import FeatureStore

__all__ = ["Kind", "Trial", "crop_trials", "text_trials"]

Kind = Literal["split", "class names", "template", "crop", "head", "checkpoint"]

MOST_PROMPTS = 20_000  # of one trial
MOST_IMAGES = 2_000

Accuracy = Callable[[Source], float]
Way = tuple[Kind, str, tuple[str, ...], tuple[str, ...]]
"""What is changed, to what in words, and then the names and templates."""


@dataclass(frozen=True)
class Trial:
    """Another set-up, and what it gives.

    Attributes:
        kind: what was changed.
        what: it was changed to, in words.
        accuracy: with it, 0 to 1.
        as_published: whether the published numbers were made so.
        images: for how many test images the accuracy stands; None: for all of them.
    """

    kind: Kind
    what: str
    accuracy: float
    as_published: bool
    images: int | None = None


def text_trials(setup: Setup, accuracy: Accuracy, *, as_published: bool) -> Iterator[Trial]:
    """Yield what other names and templates give.

    Args:
        setup: with an encoder.
        accuracy: of a source.
        as_published: those of the published numbers; else others, which say how much hangs on it.
    """
    assert setup.encoder is not None
    tried = {(setup.words, setup.templates)}
    for kind, what, words, templates in (_right if as_published else _others)(setup):
        if (words, templates) not in tried:  # two sets may hold the same
            tried.add((words, templates))
            read = read_by(setup.encoder, setup.source, words, templates)
            yield Trial(kind, what, accuracy(read), as_published)


def _right(setup: Setup) -> Iterator[Way]:
    used, official = setup.words, setup.official_words
    wanted = setup.published_templates
    names = f"the papers' names{_example(used, official)}"
    template = f"template {_shown(published().templates_of(setup.entry.name), wanted)}"
    if setup.templates and official != used:
        yield "class names", names, official, setup.templates
    yield "template", template, used, wanted
    if official != used:
        yield "class names", f"{names} and {template}", official, wanted


def _others(setup: Setup) -> Iterator[Way]:
    used, official = setup.words, setup.official_words
    folders = {name: folder for folder, name in setup.entry.rename.items()}
    raw = tuple(readable(folders.get(name, name)) for name in setup.source.class_names)
    if raw != official:
        names = f"the folders' names{_example(official, raw)}"
        yield "class names", names, raw, setup.published_templates
    for name in (setup.entry.templates, "photo", "name", "imagenet-7", "imagenet-80"):
        templates = template_sets()[name]
        seen = templates == setup.published_templates  # with these names, or with the user's
        if not seen and len(used) * len(templates) <= MOST_PROMPTS:
            yield "template", f"template {_shown(name, templates)}", official, templates


def crop_trials(setup: Setup, ours: float) -> Iterator[Trial]:
    """Yield what other styles of preprocessing give on some of the test images.

    Zero-shot is measured on these images, as they are and otherwise, and the difference added to
    ``ours``. The published style is tried with the published names and template, too.

    Args:
        setup: with an encoder and image files.
        ours: accuracy on all test images.
    """
    assert setup.encoder is not None
    source, test = setup.source, setup.test
    rows = test[np.linspace(0, len(test) - 1, min(len(test), MOST_IMAGES)).astype(int)]
    paths = [Path((source.features.paths or ())[row]) for row in rows]
    before = zero_shot_accuracy(source, source.features.image_features[rows], rows)
    right = (setup.official_words, setup.published_templates)
    named, options = split_options(setup.encoder.spec)
    for style in sorted(STYLES, key=lambda style: style != published().style):
        # A features file may have been made with either, whatever is said of its encoder.
        if setup.root is not None and style == setup.style:
            continue
        encoder = load_encoder(f"{named}{replace(options, style=style)}")
        encoded = encode_images(encoder, paths, store=FeatureStore(), strict=True)
        said = f"style={style}" if setup.root else f"the images encoded anew, style={style}"
        texts = {said: source}
        as_published = style == published().style
        if as_published and (setup.words, setup.templates) != right:
            texts[f"{said}, and the papers' names and template"] = read_by(encoder, source, *right)
        for what, read in texts.items():
            after = zero_shot_accuracy(read, encoded.features[:, 0], rows)
            estimate = min(1.0, max(0.0, ours + after - before))
            yield Trial("crop", what, estimate, as_published, len(rows))


def has_images(setup: Setup) -> bool:
    """Return whether the files of the test images are there."""
    paths = setup.source.features.paths
    return paths is not None and all(os.path.isfile(paths[row]) for row in setup.test)  # noqa: PTH113


def _example(used: Sequence[str], other: Sequence[str]) -> str:
    pair = next(((a, b) for a, b in zip(used, other, strict=True) if a != b), None)
    return f" ('{pair[1]}' for '{pair[0]}')" if pair else ""


def _shown(name: str, templates: Sequence[str]) -> str:
    return f"'{templates[0]}'" if len(templates) == 1 else name
