"""What ``fit`` says in plain words when it is done."""

from __future__ import annotations

import re
import shlex
import textwrap
from os import PathLike
from typing import TYPE_CHECKING, Any

from handful.classifier.card import calibration_in_words, in_words
from handful.classifier.correction import told_of
from handful.classifier.tuned import is_tuning
from handful.datasets.names import readable
from handful.encoders.joint import specs_of, split_specs
from handful.methods.registry import DEFAULT_METHOD
from handful.tuning import registry as tunings

if TYPE_CHECKING:
    from handful.classifier.few_shot import FewShotClassifier
    from handful.methods.head import Head

__all__ = ["next_step", "summary"]

_POLICIES = {
    "val": "on the validation images",
    "cv": "by cross-validation over the training images",
    "fixed": "documented defaults",
}


def summary(classifier: FewShotClassifier, images: str) -> list[str]:
    """Return lines of 80 columns: classes, images, encoder, method, settings, accuracy."""
    head = classifier.head_
    assert head is not None
    names, counts = classifier.classes_, classifier.counts_
    listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    per_class = (
        f"{counts[0]} each"
        if len(set(counts)) == 1
        else f"{min(counts)} to {max(counts)} per class"
    )
    estimate, zero_shot = classifier.estimate_, classifier.zero_shot_
    lines = [
        ("Classes", f"{len(names)}: {listed}"),
        ("Images", f"{sum(counts)} ({per_class}) from {images}"),
        ("Encoder", _encoder(classifier)),
        *_correction(classifier),
        *_prompts(classifier),
        ("Method", ", ".join([classifier.method, *_settings(classifier, head)])),
        ("Accuracy", in_words(estimate) if estimate else "not known: no image could be held out"),
    ]
    if zero_shot is not None and classifier.method != "zero-shot":
        only = "  names only" if classifier.sentences_ is None else "  texts only"
        lines.append((only, in_words(zero_shot)))
    lines.append(("Probabilities", calibration_in_words(classifier.calibration)))
    respelt = [(name, readable(name)) for name in names if readable(name) != name]
    if respelt and classifier.templates_:
        name, read = respelt[0]
        lines.append(("Names", f"'{name}' is read as '{read}'"))
    for setting in classifier.selection_["border"]:
        lines.append(("Note", f"{setting} was chosen at the end of its range"))
    return [
        textwrap.fill(
            text,
            80,
            initial_indent=label.ljust(14),
            subsequent_indent=" " * 14,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for label, text in lines
    ]


def _encoder(classifier: FewShotClassifier) -> str:
    """Return the encoder, the reason for it, and whether it can read."""
    identity, gathered = classifier.encoder_, classifier.gathered_
    if identity is None or not identity.spec:
        return "unknown (features file)"
    # Ten digits of a commit are enough for people; the classifier keeps all.
    spec = re.sub(r"@([0-9a-f]{10})[0-9a-f]{30}", r"@\1", " and ".join(split_specs(identity.spec)))
    notes = [classifier.encoder_why_] if classifier.encoder_why_ else []
    if gathered is not None and gathered.task.class_embeddings is None:
        notes.append("without text: it learns from the images alone")
    return f"{spec} ({'; '.join(notes)})" if notes else spec


def _correction(classifier: FewShotClassifier) -> list[tuple[str, str]]:
    """Return which second space there is, what taught it, and whether that spoils the accuracy."""
    told, gathered = told_of(classifier.correction_), classifier.gathered_
    if told is None:
        return []
    classes = f" of {len(told['classes'])} classes" if told["classes"] else ""
    by = f"{told['objective']}, {told['form']}"
    lines = [("Correction", f"{by}; from {told['images']} images{classes}")]
    assert classifier.correction_ is not None
    seen = classifier.correction_.taught(gathered.digests) if gathered is not None else 0
    if seen:
        lines.append(
            ("  of these", f"{seen} taught the correction, too: the accuracy below is too high")
        )
    return lines


def _prompts(classifier: FewShotClassifier) -> list[tuple[str, str]]:
    """Return what was read of the classes, where it was not templates alone."""
    if classifier.sentences_ is None:
        return []
    templates = len(classifier.templates_)
    also = f", and {templates} template{'s' if templates > 1 else ''}" if templates else ""
    return [("Prompts", f"{classifier.sentences_}{also}")]


def _settings(classifier: FewShotClassifier, head: Head) -> list[str]:
    """Return what was searched or given, and how it was chosen."""
    given = classifier.settings
    kind: Any = tunings.get(classifier.method) if is_tuning(classifier.method) else head
    searched = kind.searched(given).settings()
    words = [
        f"{name} {_short(value)}" + (" (given)" if name in given else "")
        for name, value in classifier.settings_.items()
        if name in given or name in searched
    ]
    if set(searched) - set(given):
        words.append(_POLICIES[classifier.selection_["policy"]])
    return words


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def next_step(classifier: FewShotClassifier, images: str, out: str) -> str:
    """Return the one most useful next step."""
    estimate, zero_shot = classifier.estimate_, classifier.zero_shot_
    again = f"handful fit {shlex.quote(images)} {_named(classifier)}--out NEW"
    if classifier.method == "zero-shot":
        return f"learn from the images, too: {again}"
    if classifier.gathered_ is not None and classifier.gathered_.unused:
        unused, alike = classifier.gathered_.unused, _method(classifier)
        return f"learn from the other {unused} images, too: {again}{alike}"
    if estimate is None and is_tuning(classifier.method):
        return "add validation images: then the accuracy can be measured"
    if estimate is None:
        return "add a second image per class: then the accuracy can be measured"
    if zero_shot is not None and estimate.accuracy < zero_shot.accuracy:
        return f"the names alone may do better: {again} --method zero-shot"
    if estimate.high - estimate.low > 0.2 or estimate.accuracy < 0.8:
        fewest = min(zip(classifier.counts_, classifier.classes_, strict=True))
        return f"add images, first of '{fewest[1]}' ({fewest[0]} now), and fit again"
    return f"test it on images that it has not seen: handful evaluate {shlex.quote(out)} OTHERS"


def _named(classifier: FewShotClassifier) -> str:
    """Return the encoders as flags, where they were named."""
    return "".join(f"--encoder {shlex.quote(spec)} " for spec in specs_of(classifier.encoder))


def _method(classifier: FewShotClassifier) -> str:
    """Return the method and the correction as flags, where they are others than those of all."""
    flags = "" if classifier.method == DEFAULT_METHOD else f" --method {classifier.method}"
    if isinstance(classifier.correction, str | PathLike):
        flags += f" --correction {shlex.quote(str(classifier.correction))}"
    return flags
