"""Probabilities that mean what they say, learnt from a handful of held-out images.

The held-out images are those of :func:`handful.selection.select.held_out`: validation images, or
images of the support judged by heads that were not fitted on them. :func:`calibrate` divides the
logits by the temperature that fits them best (:mod:`handful.functional.temperature`). What makes
that work with few images was settled on images that are no test images of any benchmark: 20 images
per class of WHU-RS19 with three encoders and the example photographs with ``lite``, nine methods, 1
to 16 shots drawn from them, judged on those that were not drawn:

* **Half a pseudo-error.** If all held-out images are right, likelihood wants T = 0, that is 100 %
  for everything, and it is nearly so where one is wrong. So it is as if a further half image had
  been seen whose label is the runner-up; as in Jeffreys' interval, n right of n count as
  (n + ½) / (n + 1). Mean loss, from 0.426 as the heads are: 0.316 with it (0.301 is the least that
  any T can reach), 0.405 without, 0.318 with a quarter, 0.317 with one and 0.326 with two
  pseudo-errors, 0.347 where T makes the mean confidence the accuracy. Spread over all classes, as
  in Platt's targets (1999), or given to the least certain image, a pseudo-error did worse.
* **Fewer shots in the folds are not corrected for.** Heads in the folds are a little worse than
  the final one, but their logits are a little flatter too, and T of the folds suits the final head
  on average, at two shots already. Weighting right and wrong images so that the accuracy is the one
  expected of the final head (:mod:`handful.functional.learning_curve`) changed the mean loss by
  less than 0.001; making it the mean confidence did harm.
* **Near duplicates count once**, and there must be ``LEAST`` distinct images, of at least half of
  the classes: from four images T was worse than none, from six it was better.
* **At one shot** nothing can be held out from a head that learns, but the class names have seen
  none of the images. T of the names alone, on the support images, also suits the heads that start
  from the names: it nearly halved their calibration error on CLIP features. It only sharpens them:
  names that claim too much (with ``lite``) say nothing against a head that is right more often.
  Without text there is no help, and the probabilities stay as they are.
* **A head that fits its logits to likelihood itself** (``best``, from two images per class) is left
  alone where those in the folds had too few images to do so: they are of another kind.
* **Vector scaling**, a scale and a bias for each class, where there are ``PER_CLASS`` images per
  class, some classes clearly get too much or too little probability (a score test), and the
  cross-fitted likelihood is better by two standard errors, which is rare. It alone may change
  answers, so it is not for zero-shot, which must stay what it is.
"""

from __future__ import annotations

import math

import numpy as np

from handful.evaluation.calibrated import (
    Calibration,
    Kind,
    Quality,
    Source,
    cross_fitted,
    fitted,
    image_weights,
)
from handful.methods.head import Head
from handful.methods.zero_shot import ZeroShot
from handful.selection.candidates import HeldOut, Judge, Trial
from handful.task import FewShotTask

__all__ = ["LEAST", "PER_CLASS", "Calibration", "Quality", "calibrate"]

LEAST = 6  # distinct held-out images
PER_CLASS = 8  # distinct held-out images per class for vector scaling, on average
_CLEARLY = 2.0  # standard errors


def calibrate(
    held: HeldOut | None, *, head: Head | None = None, task: FewShotTask | None = None
) -> Calibration:
    """Learn how to turn the logits of a head into probabilities.

    Args:
        held: what :func:`handful.selection.select.held_out` says of the head.
        head, task: the head and its task. Where too little could be held out, the class names are
            calibrated on the support images, if the head starts from them.

    Returns:
        Of kind ``none`` where too few images could be held out and there are no names to go by.
    """
    if held is not None and head is not None and _is_likely_already(head, held):
        return Calibration(source="method")
    if held is not None and _speaks(held):
        # What learns nothing from images must not do so here.
        vector = not isinstance(head, ZeroShot) and _vector_is_better(held)
        kind: Kind = "vector" if vector else "temperature"
        learnt = fitted(kind, held.logits, held.labels, held.groups)
        return _told(learnt, held, held.source)
    if head is None or task is None or task.class_embeddings is None or not head.starts_from_text:
        return Calibration()
    names = _names_alone(task)
    if not _speaks(names):
        return Calibration()
    learnt = fitted("temperature", names.logits, names.labels, names.groups)
    if isinstance(head, ZeroShot):
        return _told(learnt, names, "support")
    # What is measured of the names says nothing about a head that learnt from these very images,
    # but that it is right more often: it needs no softening that they need.
    temperature = min(learnt.temperature, 1.0)
    return Calibration("temperature", temperature, None, None, names.distinct, "support")


def _is_likely_already(head: Head, held: HeldOut) -> bool:
    """Whether the head has fitted its logits to likelihood, which the heads in the folds had not.

    Their temperature would say nothing about it.
    """
    classes = len(np.unique(held.labels))
    in_fold, in_all = held.fitted / classes, held.support / classes
    return held.source == "cross-validation" and in_fold < head.likely_from <= in_all


def _told(learnt: Calibration, held: HeldOut, source: Source) -> Calibration:
    return Calibration(
        learnt.kind,
        learnt.temperature,
        learnt.scale,
        learnt.bias,
        held.distinct,
        source,
        Quality.of(Calibration().probabilities(held.logits), held.labels),
        Quality.of(learnt.cross_fitted(held), held.labels),
    )


def _speaks(held: HeldOut) -> bool:
    """Whether there are enough images, and of enough classes."""
    enough_classes = 2 * len(np.unique(held.labels)) >= held.logits.shape[1]
    return held.distinct >= LEAST and enough_classes


def _names_alone(task: FewShotTask) -> HeldOut:
    """What zero-shot, which learns nothing from it, says of the support."""
    first = task.in_text_space()
    judge = Judge(ZeroShot, first, Trial.support(first), {}, 0)
    judge.remember({}, [ZeroShot(**first.head_arguments()).fit(first.X, first.y)])
    return judge.held_out({})


def _vector_is_better(held: HeldOut) -> bool:
    """Whether a scale and a bias for each class clearly predict held-out images better."""
    n_classes = held.logits.shape[1]
    if held.distinct < PER_CLASS * n_classes:
        return False
    weights = image_weights(held.groups)
    one = fitted("temperature", held.logits, held.labels, held.groups)
    # A test that costs nothing comes first: how far from their expectation are the counts of the
    # classes? Squared over their variance they add up to about C - 1, ± √(2(C - 1)), by chance.
    p = one.probabilities(held.logits)
    counts = np.bincount(held.labels, weights, n_classes)
    variances = np.maximum(weights @ (p * (1 - p)), 1e-12)
    score = float(((counts - weights @ p) ** 2 / variances).sum())
    if score < n_classes - 1 + _CLEARLY * math.sqrt(2 * (n_classes - 1)):
        return False
    rows = np.arange(len(held.labels))
    single, vector = (cross_fitted(k, held)[rows, held.labels] for k in ("temperature", "vector"))
    gain = np.log(np.maximum(vector, 1e-12)) - np.log(np.maximum(single, 1e-12))
    mean = float(np.average(gain, weights=weights))
    error = math.sqrt(float(np.average((gain - mean) ** 2, weights=weights)) / held.distinct)
    return mean > _CLEARLY * error
