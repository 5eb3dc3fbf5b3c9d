"""What ``fit`` says in plain words when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handful.datasets.names import readable
from handful.evaluation.estimate import Estimate

if TYPE_CHECKING:
    from handful.classifier.few_shot import FewShotClassifier

__all__ = ["next_step", "summary"]

_POLICIES = {
    "val": "on the validation images",
    "cv": "by cross-validation over the training images",
    "fixed": "documented defaults",
}


def summary(classifier: FewShotClassifier, images: str) -> list[str]:
    """Return the lines: classes, images, encoder, method, settings, estimated accuracy."""
    head = classifier.head_
    assert head is not None
    names, counts = classifier.classes_, classifier.counts_
    listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    per_class = (
        f"{counts[0]} each"
        if len(set(counts)) == 1
        else f"{min(counts)} to {max(counts)} per class"
    )
    searched = head.search.settings()
    selection = classifier.selection_
    chosen = {k: v for k, v in head.settings().items() if k in searched}
    settings = ", ".join(f"{k} {v:.3g}" for k, v in chosen.items())
    how = _POLICIES[selection["policy"]] if searched else ""
    identity = classifier.encoder_
    encoder = (identity.spec if identity else "") or "unknown (features file)"
    lines = [
        f"Classes       {len(names)}: {listed}",
        f"Images        {sum(counts)} ({per_class}) from {images}",
        f"Encoder       {encoder}",
        f"Method        {classifier.method}" + (f": {settings}, {how}" if searched else ""),
        f"Accuracy      {_in_words(classifier.estimate_)}",
    ]
    if classifier.zero_shot_ is not None and classifier.method != "zero-shot":
        lines.append(f"  names only  {_in_words(classifier.zero_shot_)}")
    respelt = [(name, readable(name)) for name in names if readable(name) != name]
    if respelt and classifier.templates_:
        name, read = respelt[0]
        lines.append(f"Names         '{name}' is read as '{read}'")
    for setting in selection["border"]:
        lines.append(f"Note          {setting} was chosen at the end of its range")
    return lines


def next_step(classifier: FewShotClassifier, images: str, out: str) -> str:
    """Return the one most useful next step."""
    estimate, zero_shot = classifier.estimate_, classifier.zero_shot_
    if min(classifier.counts_) == 1 or estimate is None:
        return "add a second image per class: then the accuracy can be measured"
    if (
        zero_shot is not None
        and classifier.method != "zero-shot"
        and (estimate.accuracy < zero_shot.accuracy)
    ):
        return f"the names alone may do better: handful fit {images} --method zero-shot --out NEW"
    if estimate.high - estimate.low > 0.2 or estimate.accuracy < 0.8:
        fewest = min(zip(classifier.counts_, classifier.classes_, strict=True))
        return f"add images, first of '{fewest[1]}' ({fewest[0]} now), and fit again"
    return f"test it on images that it has not seen: handful evaluate {out} OTHER_FOLDER"


def _in_words(estimate: Estimate | None) -> str:
    if estimate is None:
        return "cannot be estimated from one image per class"
    return (
        f"{estimate.accuracy:.1%} on new images (90 % interval {estimate.low:.1%} to "
        f"{estimate.high:.1%}; {estimate.source}, {estimate.images} images)"
    )
