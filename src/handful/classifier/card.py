"""The model card that is saved beside a classifier."""

from __future__ import annotations

from typing import Any

from handful.classifier.tuned import is_tuning
from handful.datasets.sentences import SentenceRecord
from handful.encoders.joint import split_specs
from handful.evaluation.calibrate import Calibration
from handful.evaluation.estimate import Estimate

__all__ = ["calibration_in_words", "in_words", "model_card"]

_SOURCES = {
    "validation": "from {} validation images",
    "cross-validation": "from {} images by cross-validation",
    "support": "from the {} training images",
}
_WHY = {
    "validation": "Measured on the validation images, and corrected for the choice of settings on "
    "them.",
    "cross-validation": "Estimated from the training images alone, each judged by a classifier "
    "that had not seen it, and corrected for the choice of settings.",
    "support": "Measured on the training images, from which this method learns nothing.",
}


def in_words(estimate: Estimate) -> str:
    """Return ``91.2% on new images (90% interval 86.0% to 95.1%, from 76 validation images)``."""
    source = _SOURCES[estimate.source].format(estimate.images)
    return (
        f"{estimate.accuracy:.1%} on new images ({estimate.level:.0%} interval "
        f"{estimate.low:.1%} to {estimate.high:.1%}, {source})"
    )


_CALIBRATED_ON = {
    "validation": "{} validation images",
    "cross-validation": "{} training images, each judged by a classifier that had not seen it",
    "support": "what the class names alone say of the {} training images",
}


def calibration_in_words(calibration: Calibration) -> str:
    """Return ``calibrated on 76 validation images (temperature 0.72)``, or why they are not."""
    if calibration.source == "method":
        return "as the method gives them, which fits them to held-out images itself"
    if calibration.kind == "none":
        return "not calibrated: too few images could be held out"
    on = _CALIBRATED_ON[calibration.source].format(calibration.images)
    how = (
        f"temperature {calibration.temperature:.3g}"
        if calibration.kind == "temperature"
        else "a scale and a bias for each class"
    )
    return f"calibrated on {on} ({how})"


def model_card(
    config: dict[str, Any],
    estimate: Estimate | None,
    zero_shot: Estimate | None,
    calibration: Calibration,
) -> str:
    """Return the card in Markdown.

    Args:
        config: what is written to ``config.json``.
        estimate: accuracy expected on new images of the same kind.
        zero_shot: the same of the texts alone.
        calibration: of the probabilities.
    """
    classes = config["classes"]
    counts = config["support"]["counts"]
    encoder = config["encoder"]
    settings = ", ".join(f"{k} {v}" for k, v in config["settings"].items()) or "none"
    columns = {"class": [_cell(name) for name in classes], "training images": counts}
    texts, sentences = "class names", ""
    if config["sentences"]:
        record = SentenceRecord.from_json(config["sentences"])
        texts = "sentences, and names in templates," if config["templates"] else "sentences"
        sentences = f"- sentences: {record}; SHA-256 `{record.sha256[:16]}`\n"
        columns["prompts"] = [len(config["templates"]) + own for own in record.counts]
    rows = (columns, ["---"] * len(columns), *zip(*columns.values(), strict=True))
    table = "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
    if estimate is not None:
        why = (
            f"{_WHY[estimate.source]} It holds for new images of the same kind, not for other "
            "cameras, places or times."
        )
    elif is_tuning(config["method"]):
        why = (
            "Not measured: the encoder was trained on all images that there were. Give validation "
            "images to get an estimate."
        )
    else:
        why = (
            "Not measured: with one image per class none can be held out. Give validation images, "
            "or two images per class, to get an estimate."
        )
    measured = ""
    if calibration.before is not None and calibration.after is not None:
        before, after = calibration.before, calibration.after
        measured = (
            f" On these images the calibration error is {after.calibration_error:.1%} with it and "
            f"{before.calibration_error:.1%} without, the negative log-likelihood "
            f"{after.negative_log_likelihood:.3f} and {before.negative_log_likelihood:.3f}, each "
            "image calibrated without itself."
        )
    correction = ""
    if config["correction"]:
        correction = f"- correction: {_correction(config['correction'])}\n"
    encoders = " and ".join(f"`{spec}`" for spec in split_specs(encoder["spec"]))
    made_with = (
        f"{encoders} (fingerprint `{encoder['fingerprint'][:16]}`)"
        if encoder["fingerprint"]
        else f"{encoder['spec'] or 'unknown'}, as the features file says that it was fitted on"
    )
    return f"""---
library_name: handful
pipeline_tag: image-classification
tags: [few-shot, {config["method"]}]
---

# A classifier of {len(classes)} classes

Made by handful {config["versions"]["handful"]} with the method `{config["method"]}`.

```
handful predict THIS_FOLDER image.jpg
```

## How good it is

| | accuracy |
|---|---|
| this classifier | {in_words(estimate) if estimate else "not measured"} |
| {texts} alone (zero-shot) | {in_words(zero_shot) if zero_shot else "not measured"} |

{why}

Probabilities are {calibration_in_words(calibration)}.{measured} They are for images in which the
classes are as frequent as in the table below; `--prior` corrects them for others.

## What it was made from

- encoder: {made_with}
{correction}- method: `{config["method"]}`; settings: {settings}
- settings chosen by: `{config["selection"]["policy"]}`
- prompt templates: {", ".join(f"`{t}`" for t in config["templates"][:7]) or "none"}
{sentences}- seed: {config["seed"]}

{table}

## What it is not

Unless it is asked with `--unsure`, it answers with one of these classes, also for an image of
something else. Images of people, medical images and anything where a mistake does harm need a test
of their own.
"""


def _correction(told: dict[str, Any]) -> str:
    """Return what the second image space is, and what taught it."""
    names = ", ".join(_cell(name) for name in told["classes"][:20])
    more = ", …" if len(told["classes"]) > 20 else ""
    of = f" of {len(told['classes'])} classes ({names}{more})" if names else " without labels"
    return (
        f"images are compared with images in a second space, `correction.safetensors` (fingerprint "
        f"`{told['fingerprint'][:16]}`, form `{told['form']}`, objective `{told['objective']}`), "
        f"trained once on a generic set of {told['images']} images{of}. Accuracy on these images "
        "proves nothing; `handful evaluate` counts them"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
