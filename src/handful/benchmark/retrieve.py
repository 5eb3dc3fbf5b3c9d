"""Text-image retrieval: how well an encoder finds what belongs together, plain and adapted.

What a classifier has learnt can adapt either side. A head of CLIP-Adapter turns features of images
by its visual branch and features of captions by its branch for class embeddings, which is given
them in the same way; an encoder that was trained inside encodes the images, the captions or both.
A corrected encoder plays no part: its second space is for comparing images with images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.benchmark.text_table import TextTable
from handful.classifier.few_shot import FewShotClassifier
from handful.datasets.captions import CaptionedImages
from handful.encoders.derived import DerivedEncoder
from handful.encoders.joint import refuse_several
from handful.encoders.protocol import Encoder
from handful.encoders.templates import resolve_templates
from handful.encoders.unprojected import UnprojectedEncoder
from handful.errors import InputError, did_you_mean
from handful.evaluation.retrieval import Retrieval, retrieval
from handful.features.extract import encode_images
from handful.features.store import FeatureStore
from handful.features.texts import encode_prompts
from handful.methods.clip_adapter import ClipAdapter
from handful.tuning.tuned_encoder import TunedEncoder

__all__ = ["ADAPT", "RetrievalRun", "adapted_sides", "retrieval_table", "run_retrieval"]

ADAPT: dict[str, tuple[str, ...]] = {
    "images": ("images",),
    "texts": ("texts",),
    "both": ("images", "texts"),
    "none": (),
}
AS_THEY_STAND = "{}"
Floats = npt.NDArray[np.floating[Any]]
_BRANCHES = {"visual": "images", "text": "texts", "both": "both"}


@dataclass(frozen=True)
class RetrievalRun:
    """What was measured.

    Attributes:
        captions: on what.
        template: that they were read in.
        encoder: its spec.
        method: of the classifier that adapts; None where nothing is adapted.
        sides: that are adapted: ``images``, ``texts``, both or none.
        plain: with the features of the encoder.
        adapted: with those that the classifier adapts; None where it adapts none.
        seen_in_training: of the images, how many the classifier has learnt from.
    """

    captions: CaptionedImages
    template: str
    encoder: str
    method: str | None
    sides: tuple[str, ...]
    plain: Retrieval
    adapted: Retrieval | None
    seen_in_training: int


def run_retrieval(
    captions: CaptionedImages,
    model: Encoder | FewShotClassifier,
    *,
    adapt: str | None = None,
    template: str = AS_THEY_STAND,
    at: Sequence[int] = (1, 5, 10),
    store: FeatureStore | None = None,
) -> RetrievalRun:
    """Encode images and captions, each once, and measure recall both ways.

    Args:
        captions: and their images.
        model: an encoder; or a fitted classifier, whose encoder is measured plain, and with what
            the classifier has learnt.
        adapt: ``images``, ``texts``, ``both`` or ``none``; None: every side that the classifier
            adapts.
        template: captions are read in it; published tables of CLIP have ``a photo of {}``.
        at: numbers K.
        store: where features are kept between calls.

    Raises:
        InputError: an image cannot be read, the template has no place for a caption, the encoder
            reads no texts or is several, or the classifier adapts nothing on a side that is asked
            for.
    """
    read = _read_in(template, captions.texts)
    if adapt is not None and adapt not in ADAPT:
        raise InputError(
            f"adapt is '{adapt}'.{did_you_mean(adapt, ADAPT)} Expected {', '.join(ADAPT)}."
        )
    classifier = model if isinstance(model, FewShotClassifier) else None
    encoder = model.own_encoder() if isinstance(model, FewShotClassifier) else model
    sides = _sides(classifier, adapt)
    tuned = None if classifier is None else classifier.tuned_
    base = tuned.base if isinstance(tuned, TunedEncoder) else _underneath(encoder)
    refuse_several(base, "retrieval")
    if not base.has_text:
        raise InputError(
            f"the encoder {base.spec} has no text tower, so there is nothing to read captions with:"
            " use a CLIP or SigLIP model."
        )
    seen = encode_images(base, captions.paths, store=store, label="encoding images")
    images: Floats = seen.features[:, 0]
    texts: Floats = encode_prompts(base, read, store)
    plain = retrieval(images, texts, captions.image_of_text, at)
    adapted = None
    if classifier is not None and sides:
        images, texts = _adapted(classifier, sides, captions, read, images, texts, store)
        adapted = retrieval(images, texts, captions.image_of_text, at)
    known = classifier.digests_ if classifier is not None else frozenset[str]()
    return RetrievalRun(
        captions,
        template,
        base.spec,
        classifier.method if classifier is not None and sides else None,
        sides,
        plain,
        adapted,
        sum(digest in known for digest in seen.digests),
    )


def _read_in(template: str, texts: Sequence[str]) -> list[str]:
    found = resolve_templates(template, ())
    if len(found) != 1:
        raise InputError(
            f"the set '{template}' has {len(found)} templates, and a caption is read in one: give a"
            " template such as 'a photo of {}'."
        )
    return [found[0].replace("{}", text) for text in texts]


def adapted_sides(classifier: FewShotClassifier) -> tuple[str, ...]:
    """Return the sides on which a classifier has features of its own, its encoder being open."""
    tuned = classifier.tuned_
    if isinstance(tuned, TunedEncoder):
        trained = {"images": tuned.sees_as is tuned, "texts": tuned.reads_as is tuned}
        return tuple(side for side, own in trained.items() if own)
    if isinstance(classifier.head_, ClipAdapter):
        return ADAPT[_BRANCHES[classifier.head_.branch]]
    return ()


def _sides(classifier: FewShotClassifier | None, adapt: str | None) -> tuple[str, ...]:
    """Return the sides to adapt.

    Raises:
        InputError: nothing is adapted there.
    """
    if classifier is None:
        if adapt not in (None, "none"):
            raise InputError(
                f"adapt is '{adapt}', and there is no classifier that would: give one that 'handful"
                " fit' wrote."
            )
        return ()
    able = adapted_sides(classifier)
    wanted = ADAPT[adapt] if adapt is not None else able or ADAPT["both"]
    if lacking := [side for side in wanted if side not in able]:
        raise InputError(
            f"the classifier's method '{classifier.method}', as it was fitted, adapts no features"
            f" of {' or '.join(lacking)}: expected clip-adapter (--set branch=both for both"
            " sides), or a method that trains the tower, such as clip-lora; fit one of these, or"
            f" use --adapt {' and '.join(able) or 'none'}."
        )
    return wanted


def _adapted(
    classifier: FewShotClassifier,
    sides: Sequence[str],
    captions: CaptionedImages,
    read: Sequence[str],
    images: Floats,
    texts: Floats,
    store: FeatureStore | None,
) -> tuple[Floats, Floats]:
    """Return features of images and texts, adapted on some sides, plain on the other."""
    tuned, head = classifier.tuned_, classifier.head_
    if isinstance(tuned, TunedEncoder):
        if "images" in sides:
            label = "encoding images by the trained tower"
            images = encode_images(tuned, captions.paths, store=store, label=label).features[:, 0]
        if "texts" in sides:
            texts = encode_prompts(tuned, read, store)
        return images, texts
    assert isinstance(head, ClipAdapter)
    return (
        head.transform(images) if "images" in sides else images,
        head.transform_text(texts) if "texts" in sides else texts,
    )


def _underneath(encoder: Encoder) -> Encoder:
    """Return the encoder whose images and texts share one space."""
    return encoder.base if isinstance(encoder, DerivedEncoder | UnprojectedEncoder) else encoder


def retrieval_table(run: RetrievalRun) -> TextTable:
    """Return recall in percent, each way plain and adapted."""
    found = {"plain": run.plain}
    if run.adapted is not None:
        found[f"{' and '.join(run.sides)} by {run.method}"] = run.adapted
    ways = {
        "image→text": {name: one.image_to_text for name, one in found.items()},
        "text→image": {name: one.text_to_image for name, one in found.items()},
    }
    split = f", {run.captions.split}" if run.captions.split else ""
    return TextTable(
        f"Retrieval on {run.captions.name}{split} with {run.encoder}",
        _note(run),
        ("search", "features", *(f"R@{k}" for k in run.plain.image_to_text)),
        tuple(
            (way, name, *(f"{100 * share:.1f}" for share in recalls.values()))
            for way, both in ways.items()
            for name, recalls in both.items()
        ),
    )


def _note(run: RetrievalRun) -> str:
    sentences = [
        f"Recall at K in percent, {run.plain.images:,} images and {run.plain.texts:,} captions:"
        " image→text counts the images of which a caption is among the first K captions, text→image"
        " the captions whose image is among the first K images."
    ]
    if run.template != AS_THEY_STAND:
        sentences.append(f'Captions are read as "{run.template}".')
    if run.captions.left_out:
        sentences.append(
            f"{run.captions.left_out:,} captions are left out, being more than five of an image."
        )
    if run.sides and run.seen_in_training:
        sentences.append(
            f"{run.seen_in_training:,} of the images were learnt from: on them the adapted features"
            " are no test."
        )
    return " ".join(sentences)
