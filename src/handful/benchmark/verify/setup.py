"""What is verified: a data set's features, of the images or out of a file, and who made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from handful.benchmark.listing import Listing, Needed
from handful.benchmark.opened import needed_by
from handful.benchmark.source import Source
from handful.benchmark.sources import features_source, images_source
from handful.benchmark.verify.measure import PROTOCOL
from handful.benchmark.verify.published import (
    Number,
    checkpoint_named,
    checkpoint_of,
    numbers_for,
    published,
)
from handful.datasets.catalogue import Entry, entry_named
from handful.datasets.imagenet import imagenet_classes
from handful.datasets.missing import refuse_missing
from handful.datasets.names import readable
from handful.encoders.protocol import Encoder
from handful.encoders.spec import load_encoder
from handful.encoders.templates import resolve_templates, template_sets
from handful.errors import InputError
from handful.features.store import FeatureStore
from handful.features.texts import class_embeddings, refuse_blind
from handful.functional.pooling import pool_templates

__all__ = ["Setup", "open_setup", "read_by"]


@dataclass(frozen=True, eq=False)
class Setup:
    """A user's set-up.

    Attributes:
        entry: the data set.
        checkpoint: whose published numbers it should give.
        numbers: these.
        source: features with a test split and class embeddings.
        encoder: made the features; None where there is a features file alone.
        root: the folder of the data sets; None for a features file.
    """

    entry: Entry
    checkpoint: str
    numbers: tuple[Number, ...]
    source: Source
    encoder: Encoder | None
    root: Path | None

    @property
    def test(self) -> npt.NDArray[np.int64]:
        """Rows of the test images."""
        split = self.source.features.split
        assert split is not None
        return np.flatnonzero(split == 2)

    @property
    def words(self) -> tuple[str, ...]:
        """The class names as prompts have them."""
        return tuple(readable(name) for name in self.source.class_names)

    @property
    def official_words(self) -> tuple[str, ...]:
        """The names that papers give the same classes, as prompts have them."""
        known = imagenet_classes()
        numbered = dict(zip(map(str, range(len(known))), known.values(), strict=True))
        found: list[str] = []
        for name in self.source.class_names:
            name = self.entry.rename.get(name, name)
            if self.entry.layout in ("wordnet", "numbered"):
                name = known.get(name, numbered.get(name, name))
            found.append(readable(name))
        return tuple(found)

    @property
    def templates(self) -> tuple[str, ...] | None:
        """What the class names were read in; None where the features file does not tell."""
        return self.source.features.templates

    @property
    def published_templates(self) -> tuple[str, ...]:
        """What they were read in where the published numbers were made."""
        return template_sets()[published().templates_of(self.entry.name)]

    @property
    def style(self) -> str | None:
        """Style of the preprocessing; None where nobody tells."""
        if self.encoder is not None:
            return self.encoder.preprocess.style
        return "coop" if "style=coop" in (self.source.features.encoder or "") else None


def open_setup(
    name: str,
    *,
    root: Path | None = None,
    encoder: str | None = None,
    checkpoint: str | None = None,
    templates: Sequence[str] | None = None,
    features: Path | None = None,
    head: bool = True,
) -> Setup:
    """Encode a data set, or read its features.

    Args:
        name: of the data set in the catalogue.
        root: the folder of the data sets; either this or ``features``.
        encoder: spec; with ``root`` that of the checkpoint where it is left out.
        checkpoint: a name in ``published.toml``; where it is left out the encoder tells.
        templates: as for ``handful fit``; left out: those of the published numbers, or of the
            features file.
        features: a features file with a test split.
        head: false leaves the numbers of heads out: then only test images are encoded.

    Raises:
        InputError: both or neither of ``root`` and ``features``; there are no numbers; nothing
            tells the checkpoint, or two things tell different ones; the data cannot be read; the
            features are of another encoder, have no test split, or no text, and no encoder is given
            to read one.
    """
    entry = entry_named(name)
    if (root is None) == (features is None):
        raise InputError(
            "give either --root DIR, where the data sets lie, or --features FILE.safetensors, which"
            " was embedded earlier."
        )
    default = template_sets()[published().templates_of(entry.name)]
    if features is not None:
        source = _with_test(features_source(features), entry)
        told = _checkpoint(checkpoint, encoder or source.features.encoder)
        numbers = _numbers(entry, told, head)
        opened = None if encoder is None else load_encoder(encoder)
        source = _with_text(source, entry, opened, templates, default)
        return Setup(entry, told, numbers, source, opened, None)
    assert root is not None
    if encoder is None:
        told = checkpoint_named(checkpoint) if checkpoint else next(iter(published().checkpoints))
        encoder = published().checkpoints[told]
    else:
        told = _checkpoint(checkpoint, encoder)
    # Before the encoder, which may be large and far away.
    numbers = _numbers(entry, told, head)
    home = root / entry.folder
    refuse_missing(home, f"the folder of {entry.title} in the folder of all data sets")
    opened = load_encoder(encoder)
    refuse_blind(opened)
    wanted = resolve_templates(templates, default)
    shots = [number.shots for number in numbers if number.shots]
    seeds = sorted({seed for number in numbers for seed in number.seeds})
    source = images_source(
        f"data:{entry.name}@{root}",
        opened,
        wanted,
        needed=_as_far_as_there(needed_by(PROTOCOL, shots, seeds, "val")),
        only_test=not head,
    )
    return Setup(entry, told, numbers, _with_test(source, entry), opened, root)


def _as_far_as_there(needed: Needed | None) -> Needed | None:
    """Return what asks for the test images alone where there are too few to learn from.

    Zero-shot is then still measured, and the head says what it lacks.
    """

    def asked(listing: Listing) -> npt.NDArray[np.int64]:
        assert needed is not None
        try:
            return needed(listing)
        except InputError:
            return np.flatnonzero(listing.split == 2)

    return None if needed is None else asked


def _numbers(entry: Entry, checkpoint: str, head: bool) -> tuple[Number, ...]:
    found = tuple(n for n in numbers_for(entry.name, checkpoint) if head or not n.shots)
    if not found:
        raise InputError(
            f"no zero-shot accuracy of {checkpoint} on {entry.name} is published, only that of a"
            " head: leave --no-head out."
        )
    return found


def _checkpoint(given: str | None, spec: str | None) -> str:
    """Return the checkpoint that is named, or that the encoder tells.

    Raises:
        InputError: neither, or both and they differ.
    """
    by_spec = checkpoint_of(spec) if spec else None
    if given is not None:
        named = checkpoint_named(given)
        if by_spec not in (None, named):
            raise InputError(f"the encoder '{spec}' is {by_spec}, not {named}: leave one out.")
        return named
    if by_spec is None:
        known = " and ".join(published().checkpoints)
        what = f"the encoder '{spec}' is" if spec else "the features file tells no encoder: it is"
        raise InputError(
            f"{what} none of the checkpoints with published numbers, {known}, as far as its name"
            " says: if it is one of them, say which with --checkpoint."
        )
    return by_spec


def read_by(
    encoder: Encoder, source: Source, words: Sequence[str], templates: Sequence[str]
) -> Source:
    """Return a source whose classes an encoder has read in other words.

    Args:
        encoder: of the source.
        source: with any text, or none.
        words: C names as prompts have them.
        templates: that they are read in.
    """
    text = class_embeddings(encoder, words, templates, FeatureStore())
    pooled = pool_templates(torch.from_numpy(text)).numpy()
    read = replace(
        source.features,
        text_features=text,
        class_embeddings=pooled,
        templates=tuple(templates),
        sentences=None,
        logit_scale=encoder.logit_scale,
    )
    return replace(source, features=read)


def _with_test(source: Source, entry: Entry) -> Source:
    split = source.features.split
    if split is None or not (split == 2).any():
        raise InputError(
            f"{source.name} has no test split, and published numbers are of one: embed"
            f" data:{entry.name}@ROOT, which keeps the splits."
        )
    return source


def _with_text(
    source: Source,
    entry: Entry,
    encoder: Encoder | None,
    templates: Sequence[str] | None,
    default: Sequence[str],
) -> Source:
    f = source.features
    if encoder is None:
        if templates is not None:
            raise InputError(
                f"{source.name} has its texts already: to read the names in other templates give"
                " --encoder, too."
            )
        if f.class_embeddings is None:
            raise InputError(
                f"{source.name} has no class embeddings: give --encoder SPEC, which reads the"
                " names."
            )
        return source
    refuse_blind(encoder)
    made, dim = f.fingerprint, f.image_features.shape[1]
    if made is None and dim != encoder.dim:
        raise InputError(
            f"{source.name} has features of {dim} numbers, and {encoder.spec} gives"
            f" {encoder.dim}: give the encoder of the features."
        )
    if made not in (None, encoder.fingerprint):
        raise InputError(
            f"{source.name} was made by {f.encoder or 'another encoder'}, not by {encoder.spec}:"
            " give the encoder of the features."
        )
    if f.class_names is None and entry.layout != "wordnet":  # ImageNet's are told by their numbers
        raise InputError(
            f"{source.name} has no class names, so that {encoder.spec} has nothing to read: embed"
            f" data:{entry.name}@ROOT, which keeps them, or leave --encoder out."
        )
    if templates is None and f.class_embeddings is not None:
        return source
    wanted = resolve_templates(templates, default)
    return read_by(encoder, source, [readable(name) for name in source.class_names], wanted)
