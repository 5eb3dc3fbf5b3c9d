"""Does a correction help on classes that it never saw? One JSON line for each correction trained.

Drawn scenes, trained on the 48 generic combinations, judged on held-out ones in both styles:

    python benchmarks/correction/run.py scenes --encoder dir:benchmarks/scenes/model --out R.jsonl

Any labelled images or features file, some of its classes for training, the others for judging:

    python benchmarks/correction/run.py classes IMAGES --encoder lite --train 13 --out R.jsonl
    python benchmarks/correction/run.py classes FEATURES.safetensors --train 13 --out R.jsonl

Trained on one set, judged on another one (features of one encoder, or images and an encoder):

    python benchmarks/correction/run.py classes FEATURES --generic OTHERS --out R.jsonl

``--set lr=1e-3`` changes a setting, ``--vary width=4,16,64`` trains one correction for each value;
``classes=12,24`` and ``images=5,20`` (of each class) vary the training set.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from judge import judge

from handful import load_encoder
from handful.datasets.images import LabelledImages
from handful.datasets.source import is_features_file, open_images
from handful.encoders.protocol import Encoder
from handful.features.contents import Features
from handful.features.extract import encode_images
from handful.features.file import load_features
from handful.features.store import FeatureStore
from handful.features.texts import class_embeddings, readable_names
from handful.functional.pooling import pool_templates
from handful.tuning.corrected_encoder import correct_features, corrected
from handful.tuning.correction import Correction, default_form

SCENES = Path(__file__).resolve().parents[1] / "scenes" / "draw.py"
TEMPLATE = "a photo of a {}."


@dataclass(frozen=True)
class Problem:
    """What a correction is trained on, and what it is judged on."""

    name: str
    train: LabelledImages | Features
    tests: dict[str, LabelledImages | Features]


def scenes(images: int, seed: int, folder: Path) -> Problem:
    """Draw the generic classes, and held-out ones in both styles."""

    def drawn(task: str, style: str, first: int) -> LabelledImages:
        out = folder / f"{task}-{style}"
        words = [task, "--images", images, "--seed", first, "--style", style]
        subprocess.run([sys.executable, SCENES, out, "--task", *map(str, words)], check=True)
        return open_images(str(out)).train

    tests = {style: drawn("held-out", style, 1000 + seed) for style in ("plain", "sketch")}
    return Problem("scenes", drawn("generic", "plain", seed), tests)


def labelled(given: str) -> Any:
    """Return the training images, or all rows of a features file with names for their classes."""
    if not is_features_file(given):
        return open_images(given).train
    source = load_features(given)
    assert source.labels is not None
    names = source.class_names or tuple(map(str, range(int(source.labels.max()) + 1)))
    return replace(source, class_names=names, split=None)


def classes(given: str, count: int, split: int) -> Problem:
    """Train on ``count`` classes, judge on the others; which, ``split`` decides."""
    source = labelled(given)
    chosen = np.random.default_rng(split).permutation(len(source.class_names))
    parts = [_classes(source, np.sort(part)) for part in (chosen[:count], chosen[count:])]
    return Problem(f"{Path(given).stem}-{split}", parts[0], {"other classes": parts[1]})


def _classes(source: Any, chosen: npt.NDArray[np.int64]) -> Any:
    rows = np.flatnonzero(np.isin(source.labels, chosen))
    names = tuple(source.class_names[c] for c in chosen)
    labels = np.searchsorted(chosen, source.labels[rows])
    if isinstance(source, LabelledImages):
        return LabelledImages([source.paths[row] for row in rows], labels, names)
    return Features(
        image_features=source.image_features[rows],
        labels=labels,
        class_names=names,
        class_embeddings=source.class_embeddings[chosen],
        logit_scale=source.logit_scale,
        encoder=source.encoder,
        fingerprint=source.fingerprint,
    )


def fewer(source: Any, what: str, count: int) -> Any:
    """Keep so many classes, or so many images of each class."""
    if what == "classes":
        kept = np.random.default_rng(0).permutation(len(source.class_names))[:count]
        return _classes(source, np.sort(kept))
    rows = [np.flatnonzero(source.labels == c)[:count] for c in range(len(source.class_names))]
    chosen = np.concatenate(rows)
    if isinstance(source, LabelledImages):
        return source.take(chosen)
    return replace(
        source, image_features=source.image_features[chosen], labels=source.labels[chosen]
    )


def judged(
    problem: Problem,
    encoder: Encoder | None,
    correction: Correction,
    store: FeatureStore,
    validated: bool,
) -> Iterator[dict[str, Any]]:
    """Yield what is found on each test set."""
    for name, test in problem.tests.items():
        if isinstance(test, Features):
            both = correct_features(test.image_features, correction)
            text, scale = test.class_embeddings, test.logit_scale
        else:
            assert encoder is not None
            made = corrected(encoder, correction)
            both = encode_images(made, test.paths, store=store).features[:, 0]
            prompts = class_embeddings(
                encoder, readable_names(test.class_names), (TEMPLATE,), store
            )
            text = pool_templates(torch.from_numpy(prompts)).numpy()
            scale = encoder.logit_scale
        assert test.labels is not None
        found = judge(both, test.labels, text, scale, validated=validated)
        yield {"test": name, "validated": validated, **found}


def value_of(text: str) -> Any:
    """Return a number, a truth value, or the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> None:
    """Train and judge what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=["scenes", "classes"])
    parser.add_argument("given", nargs="?", help="of classes: images or a features file")
    parser.add_argument("--encoder")
    parser.add_argument("--objective", choices=["supervised", "dino"], default="supervised")
    parser.add_argument("--form", choices=["blocks", "projection"])
    parser.add_argument("--train", type=int, default=13, help="classes to train on")
    parser.add_argument("--generic", help="train on all classes of this instead")
    parser.add_argument("--splits", default="0", help="of classes, such as 0,1,2")
    parser.add_argument("--images", type=int, default=40, help="drawn of each class")
    parser.add_argument("--seeds", default="0", help="of the training, such as 0,1,2")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--vary", action="append", default=[], metavar="NAME=VALUE,VALUE")
    parser.add_argument("--without-validation", action="store_true", help="images to choose on")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    encoder = load_encoder(asked.encoder) if asked.encoder else None
    form = asked.form or default_form(encoder)
    file = "correct_supervised" if asked.objective == "supervised" else "dino"
    train = getattr(importlib.import_module(f"handful.tuning.{file}"), f"train_{asked.objective}")
    given = {n: value_of(v) for n, _, v in (one.partition("=") for one in asked.set)}
    variants: list[tuple[str, Any]] = [("", None)] * (not asked.vary)
    for one in asked.vary:
        name, _, values = one.partition("=")
        variants += [(name, value_of(value)) for value in values.split(",")]
    store = FeatureStore()
    with tempfile.TemporaryDirectory() as folder:
        if asked.task == "scenes":
            problems = [scenes(asked.images, 0, Path(folder))]
        elif asked.generic:
            name = f"{Path(asked.given).stem} after {Path(asked.generic).stem}"
            problems = [Problem(name, labelled(asked.generic), {"all": labelled(asked.given)})]
        else:
            problems = [classes(asked.given, asked.train, int(s)) for s in asked.splits.split(",")]
        for problem in problems:
            for name, value in variants:
                source, settings = problem.train, dict(given)
                if name in ("classes", "images"):
                    source = fewer(source, name, value)
                elif name:
                    settings[name] = value
                for seed in map(int, asked.seeds.split(",")):
                    correction = train(
                        encoder, source, form=form, settings=settings, seed=seed, store=store
                    )
                    about = {
                        "task": problem.name,
                        "encoder": correction.encoder,
                        "objective": asked.objective,
                        "form": form,
                        "varied": name or None,
                        "value": value,
                        "settings": dict(correction.settings),
                        "classes": len(source.class_names),
                        **correction.record,
                    }
                    with asked.out.open("a", encoding="utf-8") as out:
                        validated = not asked.without_validation
                        for found in judged(problem, encoder, correction, store, validated):
                            out.write(json.dumps({**about, **found}) + "\n")
                            print(name, value, short(found), flush=True)


def short(found: dict[str, Any]) -> str:
    """Return the numbers that matter, in one line."""
    pairs = [("overlap", found["overlap_before"], found["overlap_after"], 3)]
    pairs += [(name, found[name], found[f"{name.replace('tip', 'tip++')}"], 2) for name in ("tip",)]
    pairs += [("mean", found["mean"], found["mean++"], 2)]
    told = [f"{name} {a:.{n}f} > {b:.{n}f}" for name, a, b, n in pairs]
    return f"{found['test']}: {', '.join(told)}, zero-shot {found['zero_shot']:.2f}"


if __name__ == "__main__":
    main()
