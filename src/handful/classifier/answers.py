"""What is answered about an image, with as much of the reasons as was asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from handful.errors import InputError, did_you_mean
from handful.evaluation.evidence import shares
from handful.evaluation.priors import with_prior
from handful.evaluation.thresholds import below_threshold

if TYPE_CHECKING:
    from handful.classifier.few_shot import FewShotClassifier

__all__ = ["Answer", "Ask", "answers", "check_ask"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ask:
    """What to answer beside the label.

    Attributes:
        top: so many most probable labels.
        coverage: a set of labels that holds the true one with this probability.
        unsure: share of images of the classes that may be called unsure, so that images of none of
            the classes are, too; None: nothing is.
        why: so many nearest support images, and the share of names and images in the answer; 0: no.
        prior: share of each class where the answers are used, or None: as in the support set.
        thresholds: least probability of each class, under the empty label that of all others, or
            one number for all; an answer below it is unsure.
    """

    top: int = 1
    coverage: float | None = None
    unsure: float | None = None
    why: int = 0
    prior: Mapping[str, float] | None = None
    thresholds: Mapping[str, float] | float | None = None


@dataclass(frozen=True)
class Answer:
    """About one image.

    Attributes:
        image: its name.
        top: labels and probabilities, the most probable first.
        set: labels of the prediction set, the most probable first; None if not asked for.
        unsure: None if not asked for.
        reason: why it is unsure, else empty.
        evidence: see :class:`Ask`; None if not asked for.
    """

    image: str
    top: tuple[tuple[str, float], ...]
    set: tuple[str, ...] | None = None
    unsure: bool | None = None
    reason: str = ""
    evidence: Mapping[str, Any] | None = None

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.top[0][0]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object; what was not asked for is not in it."""
        ranked = [{"label": label, "probability": p} for label, p in self.top]
        told: dict[str, Any] = {"image": self.image, **ranked[0], "top": ranked}
        if self.set is not None:
            told["set"] = list(self.set)
        if self.unsure is not None:
            told |= {"unsure": self.unsure, "reason": self.reason}
        if self.evidence is not None:
            told["evidence"] = dict(self.evidence)
        return told


def check_ask(classifier: FewShotClassifier, ask: Ask) -> None:
    """Refuse what a classifier cannot answer, before any image is looked at.

    Raises:
        InputError: it held out too few images, a prior or a threshold names no class of it, or a
            number is out of range.
    """
    trust, classes = classifier.trust_, classifier.classes_
    for name, value, least in (("top", ask.top, 1), ("why", ask.why, 0)):
        if value < least:
            raise InputError(f"{name} is {value}: expected {least} or more.")
    if ask.prior is not None and _of_classes(ask.prior, classes, "prior").sum() == 0:
        raise InputError("the prior is 0 for every class: give the share of each class.")
    _least(ask, classes)
    if ask.prior is not None and ask.coverage is not None:
        raise InputError(
            "the coverage of sets was measured where classes are as frequent as among the held-out "
            "images: ask for sets without another prior, or leave the sets out."
        )
    if ask.coverage is None and ask.unsure is None and not ask.why:
        return
    if trust is None:
        raise InputError(
            "this classifier was saved before handful kept what sets, 'unsure' and the reasons of "
            "an answer need: fit it again."
        )
    if ask.coverage is not None:
        if trust.sets is None:
            raise _held_nothing(classifier, "no prediction set can be measured")
        trust.sets.how(ask.coverage)
    if ask.unsure is not None:
        if trust.strangers is None:
            raise _held_nothing(classifier, "it cannot tell what is none of its classes")
        trust.strangers.threshold(ask.unsure)


def _held_nothing(classifier: FewShotClassifier, so: str) -> InputError:
    more = "validation images"
    # Inside the encoder, every training image was learnt from.
    if classifier.tuned_ is None:
        more += ", or more images per class,"
    return InputError(f"this classifier held no image out, so {so}: give {more} and fit again.")


def answers(
    classifier: FewShotClassifier, names: Sequence[str], X: npt.NDArray[Any], ask: Ask
) -> list[Answer]:
    """Answer about images.

    Args:
        classifier: a fitted one, which ``check_ask`` finds able to.
        names: of the images.
        X: their features ``(N, D)``.
        ask: what to answer.
    """
    head, classes = classifier.head_, classifier.classes_
    assert head is not None
    if not len(X):
        return []
    logits = head.logits(X)
    probabilities = classifier.probabilities(logits)
    if ask.prior is not None:
        new = _of_classes(ask.prior, classes, "prior")
        probabilities = with_prior(probabilities, classifier.prior, new / new.max())
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sets = None
    if ask.coverage is not None:
        assert classifier.trust_ is not None and classifier.trust_.sets is not None
        sets = classifier.trust_.sets.sets(probabilities, ask.coverage)
    reasons = _reasons(classifier, X, probabilities, ask)
    evidence = _evidence(classifier, X, ask)
    return [
        Answer(
            image=str(name),
            top=tuple((classes[c], float(probabilities[row, c])) for c in order[row, : ask.top]),
            set=None if sets is None else tuple(classes[c] for c in order[row] if sets[row, c]),
            unsure=None if reasons is None else bool(reasons[row]),
            reason="" if reasons is None else reasons[row],
            evidence=None if evidence is None else evidence[row],
        )
        for row, name in enumerate(names)
    ]


def _reasons(
    classifier: FewShotClassifier,
    X: npt.NDArray[Any],
    probabilities: Floats,
    ask: Ask,
) -> list[str] | None:
    """Return for each image why it is unsure, an empty text where it is not."""
    least = _least(ask, classifier.classes_)
    if ask.unsure is None and least is None:
        return None
    reasons = [""] * len(X)
    if least is not None:
        top = probabilities.argmax(axis=1)
        for row in np.flatnonzero(below_threshold(probabilities, least)):
            reasons[row] = (
                f"its probability {probabilities[row, top[row]]:.0%} is below the threshold "
                f"{least[top[row]]:.0%} of '{classifier.classes_[top[row]]}'"
            )
    if ask.unsure is not None:
        assert classifier.trust_ is not None and classifier.trust_.strangers is not None
        strangers = classifier.trust_.strangers
        assert classifier.head_ is not None
        score = strangers.score(X, classifier.head_, classifier.trust_.evidence)
        for row in np.flatnonzero(score < strangers.threshold(ask.unsure)):
            reasons[row] = strangers.reason(float(score[row]))
    return reasons


def _least(ask: Ask, classes: Sequence[str]) -> Floats | None:
    """Return the least probability of each class, where some are asked for."""
    if ask.thresholds is None:
        return None
    given = ask.thresholds
    if isinstance(given, int | float):
        least = np.full(len(classes), float(given))
    else:
        own = {label: value for label, value in given.items() if label}
        rest = float(given.get("", 0.0))
        least = _of_classes({**dict.fromkeys(classes, rest), **own}, classes, "threshold")
    wrong = np.flatnonzero(~((least >= 0) & (least <= 1)))
    if len(wrong):
        raise InputError(
            f"the threshold of '{classes[wrong[0]]}' is {least[wrong[0]]:g}: expected a "
            "probability from 0 to 1."
        )
    return least


def _evidence(
    classifier: FewShotClassifier, X: npt.NDArray[Any], ask: Ask
) -> list[dict[str, Any]] | None:
    if not ask.why:
        return None
    assert classifier.trust_ is not None and classifier.head_ is not None
    known, classes = classifier.trust_.evidence, classifier.classes_
    nearest, cosines = known.nearest(X, ask.why)
    told: list[dict[str, Any]] = [
        {
            "nearest": [
                {"image": known.names[i], "label": classes[known.labels[i]], "similarity": float(s)}
                for i, s in zip(nearest[row], cosines[row], strict=True)
            ]
        }
        for row in range(len(X))
    ]
    # A trained encoder has learnt from the images what it makes of the names.
    if classifier.tuned_ is None:
        share = shares(classifier.head_, X, named=known.named)
        for row, one in enumerate(told):
            names = float(share.names[row])
            alone = classes[share.names_alone[row]]
            one |= {"names_alone": alone, "names": names, "images": 1 - names}
    return told


def _of_classes(given: Mapping[str, float], classes: Sequence[str], what: str) -> Floats:
    """Return a number for each class; classes that are not named have 0."""
    strangers = [label for label in given if label not in classes]
    if strangers:
        raise InputError(
            f"a {what} is given for '{strangers[0]}', which is none of the classes: leave it out."
            f"{did_you_mean(strangers[0], classes)}"
        )
    for label, value in given.items():
        if not 0 <= value < math.inf:
            raise InputError(f"the {what} of '{label}' is {value}: expected a number from 0 to 1.")
    return np.array([float(given.get(label, 0.0)) for label in classes])
