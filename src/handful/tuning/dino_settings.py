"""The settings of DINO: what they are, their defaults, and what they may be.

Of both forms:

- ``width``, ``scale``, ``dropout``: of the adapter.
- ``epochs``, ``batch`` (of all processes together), ``warm_up`` in epochs.
- ``lr``, for batches of 256 (others in proportion), a cosine to ``lowest_lr``; ``weight_decay``, a
  cosine to ``last_weight_decay``; ``clip``, the longest gradient of each array.
- ``momentum`` of the teacher, a cosine to 1. It begins at 1 − 2/steps where that is less: an
  average with a memory of 5,000 steps (0.9998, published) is, at the end of 100 steps, still the
  encoder that it began as. From 10,000 steps on the published number is what counts.
- ``teacher_temperature`` to ``last_teacher_temperature`` in ``teacher_warm_up`` epochs,
  ``student_temperature``, ``centre_momentum``.
- ``local_crops``: number of small ones. ``large_least``, ``small_least``, ``small_most``: parts of
  the picture that crops cover.
- ``head_input``: ``raw`` features, or ``unit`` ones times the logit scale; ``head_hidden``,
  ``head_narrow``, ``head_outputs``: widths of the random head.

``layers`` and ``distort`` (factor on the probabilities of changed colours, grey, blur and
solarisation) are those of the form ``blocks``, ``large_crops`` (how many are encoded, of which two
are drawn for each epoch) that of ``projection``.

``blocks`` has the published values, which were made for a long run. With a few hundred images, the
rate and the number of steps are too small for anything to change: ``lr=8e-3`` and more epochs.

The values of ``projection`` are ours, for a few hundred images and seconds on a processor. They
were chosen on drawn scenes, half of the generic classes teaching and the other half judging: small
crops, and large ones from 50 %, left more overlap; three times the rate was as good, ten times the
rate worse.
"""

from __future__ import annotations

from typing import Any

__all__ = ["DEFAULTS", "LEAST", "MOST"]

_PUBLISHED: dict[str, Any] = {
    "width": 64,
    "scale": 0.1,
    "dropout": 0.1,
    "layers": "all",
    "epochs": 10,
    "batch": 120,
    "lr": 8e-4,
    "lowest_lr": 2e-6,
    "warm_up": 2,
    "weight_decay": 0.04,
    "last_weight_decay": 0.4,
    "clip": 0.3,
    "momentum": 0.9998,
    "teacher_temperature": 0.04,
    "last_teacher_temperature": 0.07,
    "teacher_warm_up": 3,
    "student_temperature": 0.1,
    "centre_momentum": 0.9,
    "local_crops": 10,
    "large_least": 0.25,
    "small_least": 0.05,
    "small_most": 0.25,
    "distort": 1.0,
    "head_input": "raw",
    "head_hidden": 2048,
    "head_narrow": 256,
    "head_outputs": 65536,
}
_OURS: dict[str, Any] = {
    "scale": 1.0,
    "epochs": 20,
    "batch": 60,
    "lr": 8e-3,
    "large_crops": 4,
    "local_crops": 0,
    "head_input": "unit",
    "head_hidden": 256,
    "head_narrow": 64,
    "head_outputs": 1024,
}
_ONLY_BLOCKS = ("layers", "distort")

DEFAULTS: dict[str, dict[str, Any]] = {
    "blocks": _PUBLISHED,
    "projection": {n: v for n, v in (_PUBLISHED | _OURS).items() if n not in _ONLY_BLOCKS},
}

LEAST: dict[str, float] = {
    "clip": 1e-6,
    "teacher_temperature": 1e-3,
    "last_teacher_temperature": 1e-3,
    "teacher_warm_up": 1,
    "student_temperature": 1e-3,
    "large_crops": 2,
    "large_least": 1e-3,
    "small_least": 1e-3,
    "small_most": 1e-3,
    "head_hidden": 1,
    "head_narrow": 1,
    "head_outputs": 2,
}
MOST: dict[str, float] = {
    "momentum": 1,
    "centre_momentum": 1,
    "local_crops": 100,
    "large_crops": 100,
    "large_least": 1,
    "small_least": 1,
    "small_most": 1,
    "distort": 1,
}
