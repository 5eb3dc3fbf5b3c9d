"""Measure what the README states: accuracy of every method, and how far to trust the estimate.

    python benchmarks/measure.py SHARED --out benchmarks/results/first.jsonl
    python benchmarks/measure.py --tables benchmarks/results/first.jsonl

SHARED is the folder of development data. One JSON line per fit; what is there is not fitted again.

Sources and protocols
- ``photos``: the vendored photographs, ``lite``; K images per class, tested on all others; 5 seeds.
- ``whu-lite``: the WHU-RS19 photographs, ``lite``; 20 images per class are set aside as the pool,
  K of them are learnt, all other images are the test; 3 seeds.
- ``rn50``, ``vit-b-32``, ``vit-l-14``: real CLIP features of WHU-RS19, drawn as in the published
  comparison: settings chosen on min(K, 4) validation images per class (``val``), or by
  cross-validation over the shots alone (``cv``); 625 test rows; 3 seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from handful import FewShotTask, load_encoder, load_features, select
from handful.classifier.gather import gather_images
from handful.datasets.sampling import few_shot
from handful.datasets.source import open_images
from handful.evaluation.estimate import estimate_accuracy
from handful.examples.demo import PHOTOS
from handful.features.store import FeatureStore
from handful.progress import progress

METHODS = ("zero-shot", "linear-probe", "clip-adapter", "tip-adapter", "tip-adapter-f", "best")
CLIP = ("rn50", "vit-b-32", "vit-l-14")
SHOTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Draw:
    """One task and its test rows, which only ``main`` sees."""

    source: str
    policy: str
    shots: int
    seed: int
    task: FewShotTask
    X_test: np.ndarray
    y_test: np.ndarray


def draws(shared: Path) -> Iterator[Draw]:
    """Yield every draw of every source."""
    yield from _image_draws("photos", PHOTOS, (1, 2), range(1, 6), pool=None)
    whu = shared / "data" / "whu-rs19"
    yield from _image_draws("whu-lite", whu / "images", SHOTS, range(1, 4), pool=20)
    for name in CLIP:
        yield from _clip_draws(name, whu / "features" / f"clip-{name}.safetensors")


def _image_draws(source, root, shots, seeds, pool) -> Iterator[Draw]:
    encoder = load_encoder("lite")
    everything = gather_images(open_images(root), encoder, store=FeatureStore()).task
    for k in shots:
        for seed in seeds:
            aside = few_shot(everything.y, pool or k, seed).support
            support = aside
            if pool:
                support = aside[few_shot(everything.y[aside], k, seed).support]
            test = np.setdiff1d(np.arange(len(everything.y)), aside)
            task = FewShotTask(
                everything.X[support],
                everything.y[support],
                class_embeddings=everything.class_embeddings,
                logit_scale=encoder.logit_scale,
                groups=None if everything.groups is None else everything.groups[support],
            )
            policy = "fixed" if k == 1 else "cv"
            yield Draw(source, policy, k, seed, task, everything.X[test], everything.y[test])


def _clip_draws(source: str, path: Path) -> Iterator[Draw]:
    features = load_features(path)
    x = features.image_features / np.linalg.norm(features.image_features, axis=1, keepdims=True)
    y = features.labels
    for k in SHOTS:
        for seed in (1, 2, 3):
            generator = np.random.RandomState(seed)
            orders = [generator.permutation(np.where(y == c)[0]) for c in range(19)]
            support = np.concatenate([p[:k] for p in orders])
            judged = np.concatenate([p[16 : 16 + min(k, 4)] for p in orders])
            test = np.setdiff1d(np.arange(len(y)), np.concatenate([p[:20] for p in orders]))
            text = features.class_embeddings
            val = FewShotTask(x[support], y[support], x[judged], y[judged], class_embeddings=text)
            yield Draw(source, "val", k, seed, val, x[test], y[test])
            if k > 1:
                cv = FewShotTask(x[support], y[support], class_embeddings=text)
                yield Draw(source, "cv", k, seed, cv, x[test], y[test])


def measure(shared: Path, out: Path) -> None:
    """Append one line per fit that is not there yet."""
    done = {tuple(row[key] for key in KEYS) for row in _rows(out)} if out.exists() else set()
    out.parent.mkdir(parents=True, exist_ok=True)
    todo = [(draw, method) for draw in draws(shared) for method in METHODS]
    with out.open("a") as file, progress("measuring", len(todo), "fits") as advance:
        for draw, method in todo:
            advance(1)
            key = (draw.source, draw.policy, draw.shots, draw.seed, method)
            if key in done:
                continue
            start = time.perf_counter()
            head = select(method, draw.task, draw.policy, random_state=draw.seed)
            seconds = time.perf_counter() - start
            estimate, _ = estimate_accuracy(head, draw.task, random_state=draw.seed)
            accuracy = float((head.predict(draw.X_test) == draw.y_test).mean())
            row = dict(zip(KEYS, key, strict=True)) | {
                "accuracy": accuracy,
                "settings": head.settings(),
                "on_selection_images": head.selection_.accuracy,
                "estimate": asdict(estimate) if estimate else None,
                "seconds": round(seconds, 3),
            }
            file.write(json.dumps(row) + "\n")
            file.flush()


KEYS = ("source", "policy", "shots", "seed", "method")


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def tables(path: Path) -> None:
    """Print the tables of the README in Markdown."""
    rows = _rows(path)
    for source, policy in (("photos", None), ("whu-lite", None), *((c, "val") for c in CLIP)):
        some = [r for r in rows if r["source"] == source and policy in (None, r["policy"])]
        shots = sorted({r["shots"] for r in some})
        print(f"\n{source}: test accuracy in %, mean ± standard deviation over seeds\n")
        print("| method | " + " | ".join(f"{k} shot{'s' * (k > 1)}" for k in shots) + " |")
        print("|---" * (len(shots) + 1) + "|")
        for method in METHODS:
            cells = []
            for k in shots:
                values = [
                    100 * r["accuracy"] for r in some if (r["method"], r["shots"]) == (method, k)
                ]
                cells.append(f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}")
            print(f"| `{method}` | " + " | ".join(cells) + " |")
    print("\nCLIP features, mean over the 15 cells (val) and the 12 cells of 2 to 16 shots (cv)\n")
    for method in METHODS:
        means = [
            np.mean([100 * r["accuracy"] for r in rows if r["source"] in CLIP
                     and r["policy"] == policy and r["method"] == method])
            for policy in ("val", "cv")
        ]  # fmt: skip
        print(f"| `{method}` | {means[0]:.1f} | {means[1]:.1f} |")
    print("\nEstimates: tasks, interval holds the test accuracy, bias in points, width in points\n")
    judged = [r for r in rows if r["estimate"] and r["method"] != "zero-shot"]
    groups = {"all": judged}
    for policy in ("cv", "val"):
        groups[policy] = [r for r in judged if r["policy"] == policy]
        for k in SHOTS:
            groups[f"{policy} {k}"] = [r for r in groups[policy] if r["shots"] == k]
    for method in METHODS:
        groups[method] = [r for r in judged if r["method"] == method]
    for source in ("photos", "whu-lite", *CLIP):
        groups[source] = [r for r in judged if r["source"] == source]
    groups["zero-shot"] = [r for r in rows if r["estimate"] and r["method"] == "zero-shot"]
    for name, some in groups.items():
        if some:
            e = [r["estimate"] for r in some]
            hit = np.mean(
                [a["low"] <= r["accuracy"] <= a["high"] for a, r in zip(e, some, strict=True)]
            )
            bias = np.mean([a["accuracy"] - r["accuracy"] for a, r in zip(e, some, strict=True)])
            width = np.mean([a["high"] - a["low"] for a in e])
            print(f"| {name} | {len(some)} | {hit:.0%} | {100 * bias:+.1f} | {100 * width:.1f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/first.jsonl"))
    parser.add_argument("--tables", type=Path)
    given = parser.parse_args()
    if given.tables:
        tables(given.tables)
    else:
        measure(given.shared, given.out)
        tables(given.out)
