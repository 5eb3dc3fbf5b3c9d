"""Why a number is not the published one: split, class names, template, crop, head or checkpoint.

What can be tried is tried; what cannot is said, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from handful.benchmark.verify.measure import measure
from handful.benchmark.verify.published import Number, checkpoint_of, published
from handful.benchmark.verify.setup import Setup
from handful.benchmark.verify.trials import Kind, Trial, crop_trials, has_images, text_trials
from handful.datasets.catalogue_check import check_dataset
from handful.encoders.known_answers import name_of_spec

__all__ = ["TOLERANCE", "Findings", "Reason", "find_reasons", "reaches"]

TOLERANCE = 0.01  # a point
MOST = 3  # problems of a split that are told


@dataclass(frozen=True)
class Reason:
    """What differs from the published set-up, in a sentence without its full stop."""

    kind: Kind
    sentence: str


@dataclass(frozen=True)
class Findings:
    """What was found out about a number that is off.

    Attributes:
        reasons: the most likely first; there is always one.
        tried: other set-ups, and what they give.
        not_tried: kind, and why.
    """

    reasons: tuple[Reason, ...]
    tried: tuple[Trial, ...]
    not_tried: tuple[Reason, ...]


def reaches(ours: float, theirs: float) -> bool:
    """Return whether two accuracies are within a point of each other."""
    return abs(ours - theirs) <= TOLERANCE + 1e-9


def find_reasons(setup: Setup, number: Number, ours: float, *, text_right: bool) -> Findings:
    """Look for why a number is off.

    Args:
        setup: what was measured.
        number: that it was compared with.
        ours: accuracy.
        text_right: whether zero-shot, as published of the same checkpoint, is right: names,
            template and crop are, then.
    """
    aim = number.by[setup.entry.name]
    tried: list[Trial] = []
    not_tried: list[Reason] = []
    if not text_right:
        _try(setup, number, ours, tried, not_tried)
    met = [one for one in tried if reaches(one.accuracy, aim)]
    split, unsure, aside = _split(setup, number)
    solved = [one for one in met if one.as_published]
    found = [
        *(_met(one, aim) for one in solved),
        *split,
        *([] if text_right or solved else _differing(setup, tried, ours, aim)),
        *(_met(one, aim) for one in met if not one.as_published),
        *(_head(setup, number) if text_right else []),
        *unsure,
        *([] if solved else [_checkpoint(setup)]),
        *aside,
    ]
    return Findings(tuple(found), tuple(tried), tuple(not_tried))


def _try(
    setup: Setup, number: Number, ours: float, tried: list[Trial], not_tried: list[Reason]
) -> None:
    """Try until something that the published numbers were made with reaches them."""
    aim = number.by[setup.entry.name]
    if setup.encoder is None:
        why = "a features file alone cannot be read or cropped anew: give --encoder SPEC, too"
        not_tried += [Reason(kind, why) for kind in ("class names", "template", "crop")]
        return

    def texts(*, as_published: bool) -> Iterator[Trial]:
        return text_trials(
            setup, lambda source: measure(number, source, setup.test), as_published=as_published
        )

    ways = [texts(as_published=True), texts(as_published=False)]
    if has_images(setup):
        # Images take longest: where nothing speaks for the crop, it comes last.
        ways.insert(1 if setup.style != published().style else 2, crop_trials(setup, ours))
    else:
        why = "the image files that the features were made of are not there"
        not_tried.append(Reason("crop", why))
    for trial in chain(*ways):
        tried.append(trial)
        if trial.as_published and reaches(trial.accuracy, aim):
            return


def _met(trial: Trial, aim: float) -> Reason:
    about = f", estimated on {trial.images:,} test images" if trial.images else ""
    said = f"with {trial.what} it is {100 * trial.accuracy:.1f}{about}"
    if trial.as_published:
        return Reason(trial.kind, f"{said}, and so were the published numbers made")
    return Reason(
        trial.kind,
        f"{said}, near the published {100 * aim:.1f}, though that is said to be made otherwise",
    )


def _split(setup: Setup, number: Number) -> tuple[list[Reason], list[Reason], list[Reason]]:
    """Return what is wrong, what nobody has confirmed, and what the number does not depend on."""
    entry, features = setup.entry, setup.source.features
    if setup.root is not None:
        checked = check_dataset(entry.name, setup.root)
        concern: dict[bool, list[str]] = {True: [], False: []}
        for one in checked.problems:
            of_others = any(f" {word} images" in one for word in ("train", "val"))
            concern[number.shots > 0 or not of_others].append(one)
        return (_short(concern[True]), _short(checked.doubts), _short(concern[False]))
    found = []
    if len(setup.source.class_names) != entry.classes:
        found.append(
            Reason(
                "class names",
                f"{setup.source.name} has {len(setup.source.class_names)} classes: expected"
                f" {entry.classes}",
            )
        )
    assert features.split is not None
    count, expected = int((features.split == 2).sum()), entry.counts["test"]
    if count != expected:  # of the others somebody may have embedded some
        doubt = entry.unverified.get("counts")
        said = f"{setup.source.name} has {count:,} test images: expected {expected:,}"
        found.append(Reason("split", said + (f" (not verified: {doubt})" if doubt else "")))
    return found, [], []


def _short(sentences: Sequence[str]) -> list[Reason]:
    found = [Reason("split", one) for one in sentences[:MOST]]
    if len(sentences) > MOST:
        more = (
            f"there are {len(sentences) - MOST:,} more such problems: see 'handful datasets check'"
        )
        found.append(Reason("split", more))
    return found


def _differing(setup: Setup, tried: list[Trial], ours: float, aim: float) -> list[Reason]:
    """Return how the set-up differs from the published one; not where trying it did not help."""
    found = []
    used, official = setup.words, setup.official_words
    if official != used:
        pair = next((a, b) for a, b in zip(used, official, strict=True) if a != b)
        said = f"the class names are not those of the papers: '{pair[1]}' is '{pair[0]}' here"
        found.append(Reason("class names", said))
    own, wanted = setup.templates, setup.published_templates
    published_ones = f"published numbers were made with '{wanted[0]}'"
    if len(wanted) > 1:
        published_ones += f" and {len(wanted) - 1} more"
    if setup.source.features.sentences is not None:
        found.append(Reason("template", f"sentences about the classes were read: {published_ones}"))
    elif own is None:
        said = f"{setup.source.name} does not tell its templates: {published_ones}"
        found.append(Reason("template", said))
    elif own != wanted:
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        found.append(Reason("template", f"the template is '{own[0]}'{more}: {published_ones}"))
    if setup.style not in (None, published().style):
        said = f"the preprocessing is style={setup.style}: expected style={published().style}"
        found.append(Reason("crop", said))
    return [one for one in found if _may_matter(one.kind, tried, ours, aim)]


def _may_matter(kind: Kind, tried: list[Trial], ours: float, aim: float) -> bool:
    gaps = [abs(t.accuracy - aim) for t in tried if t.as_published and t.kind == kind]
    return not gaps or min(gaps) < abs(ours - aim)


def _head(setup: Setup, number: Number) -> list[Reason]:
    found = []
    if number.views and setup.source.view_features is None:
        said = (
            "zero-shot is right, and so are test images, names, template and crop; the published"
            f" {number.method} learnt from {number.views} random views of each image, yours from"
            f" one: 'handful embed --views {number.views}' writes a file with views for --features"
        )
        found.append(Reason("head", said))
    # Of the trust, what stands behind its first word.
    for doubt in (number.doubts.get(setup.entry.name), number.trust.partition(": ")[2]):
        if doubt:
            found.append(Reason("head", f"of the published {number.method}, {doubt}"))
    return found


def _checkpoint(setup: Setup) -> Reason:
    told = setup.encoder.spec if setup.encoder else setup.source.features.encoder or ""
    if checkpoint_of(told):
        words = told
    else:
        words = f"{setup.encoder.spec if setup.encoder else 'SPEC'} --as"
        words += f" {name_of_spec(published().checkpoints[setup.checkpoint])}"
    return Reason(
        "checkpoint",
        f"the weights may not be those of {setup.checkpoint}: 'handful encoders check {words}'"
        " compares them with known answers",
    )
