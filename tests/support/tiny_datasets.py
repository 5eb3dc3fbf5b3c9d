"""Miniature copies of the standard data sets: every class, few images, all of them empty files.

Made from what papers and the data sets' own pages say of the layouts, not by the reader's code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

IMAGENET = Path(__file__).resolve().parents[2] / (
    "src/handful/encoders/data/imagenet-classnames.txt"
)
WORDNET = [line.split(" ", 1)[0] for line in IMAGENET.read_text("utf-8").splitlines()]
OF_A, OF_R = WORDNET[3::5], WORDNET[::5]  # 200 each, not the same

# folder of the data set, folder of images in it, split file, number of classes
COOP = {
    "caltech101": ("caltech-101", "101_ObjectCategories", "Caltech101", 100),
    "oxford_pets": ("oxford_pets", "images", "OxfordPets", 37),
    "stanford_cars": ("stanford_cars", ".", "StanfordCars", 196),
    "oxford_flowers": ("oxford_flowers", "jpg", "OxfordFlowers", 102),
    "food101": ("food-101", "images", "Food101", 101),
    "sun397": ("sun397", "SUN397", "SUN397", 397),
    "dtd": ("dtd", "images", "DescribableTextures", 47),
    "eurosat": ("eurosat", "2750", "EuroSAT", 10),
    "ucf101": ("ucf101", "UCF-101-midframes", "UCF101", 101),
}
FOLDERS = {
    "imagenet": {"train": "imagenet/images/train", "val": "imagenet/images/val"},
    "imagenetv2": {"val": "imagenetv2/imagenetv2-matched-frequency-format-val"},
    "imagenet_sketch": {"val": "imagenet-sketch/images"},
    "imagenet_a": {"val": "imagenet-adversarial/imagenet-a"},
    "imagenet_r": {"val": "imagenet-rendition/imagenet-r"},
    "whu_rs19": {"train": "whu-rs19/images"},
}
NAMES = [*COOP, *FOLDERS, "fgvc_aircraft", "cifar10", "cifar100"]
TEST_ONLY = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")

# train, validation or test: (path under the root, or None inside a file of many; class)
Truth = dict[str, list[tuple[str | None, str]]]


def make(name: str, root: Path) -> Truth:
    """Write one under ``root``; return which images have which class, in the reader's order."""
    if name in COOP:
        return _coop(name, root)
    if name in FOLDERS:
        return _folders(name, root)
    return _aircraft(root) if name == "fgvc_aircraft" else _cifar(name, root)


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _coop(name: str, root: Path) -> Truth:
    folder, images, split, classes = COOP[name]
    lists: dict[str, list[list[object]]] = {"train": [], "val": [], "test": []}
    truth: Truth = {"train": [], "val": [], "test": []}
    for word, rows in lists.items():
        for label in reversed(range(classes)):
            stem = f"class{label}/{word}.jpg"
            if name == "stanford_cars":
                stem = f"cars_{'test' if word == 'test' else 'train'}/{word}{label:05}.jpg"
            touch(root / folder / images / stem)
            rows.append([stem, label, f"name {label}"])
            truth[word].append(((Path(folder) / images / stem).as_posix(), f"name {label}"))
    (root / folder / f"split_zhou_{split}.json").write_text(json.dumps(lists))
    return truth


def _folders(name: str, root: Path) -> Truth:
    titles = dict(_imagenet_names())
    if name == "whu_rs19":
        keys = [f"class{c}" for c in "abcdefghijklmnopq"] + ["footballField", "railwayStation"]
        keys.sort()
        renamed = {"footballField": "football_field", "railwayStation": "railway_station"}
        title = {key: renamed.get(key, key) for key in keys}
    elif name == "imagenetv2":
        keys = [str(number) for number in range(1000)]
        title = dict(zip(keys, titles.values(), strict=True))
    else:
        keys = {"imagenet_a": OF_A, "imagenet_r": OF_R}.get(name, WORDNET)
        title = {key: titles[key] for key in keys}
    truth: Truth = {}
    for split, folder in FOLDERS[name].items():
        rows = truth.setdefault("train" if split == "train" else "test", [])
        for key in keys:
            path = f"{folder}/{key}/{key}_{split}.JPEG"
            touch(root / path)
            rows.append((path, title[key]))
    for beside in ("imagenet-adversarial/imagenet-a", "imagenet-rendition/imagenet-r"):
        if (root / beside).is_dir():
            (root / beside / "README.txt").touch()  # comes with them
    return truth


def _imagenet_names() -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for line in IMAGENET.read_text("utf-8").splitlines():
        wordnet, name = line.split(" ", 1)
        yield wordnet, name if name not in seen else name + "_"
        seen.add(name)


def _aircraft(root: Path) -> Truth:
    home = root / "fgvc_aircraft"
    home.mkdir(parents=True)
    variants = ["737-200", "Boeing 717", "A300B4", "Cessna 172", *(f"DC-{n}" for n in range(96))]
    (home / "variants.txt").write_text("\n".join(variants) + "\n")
    truth: Truth = {}
    for word in ("train", "val", "test"):
        lines = []
        for number, variant in enumerate(reversed(variants)):
            stem = f"{number:03}{len(word)}{word[0]}"
            touch(home / "images" / f"{stem}.jpg")
            lines.append(f"{stem} {variant}\n")
            truth.setdefault(word, []).append((f"fgvc_aircraft/images/{stem}.jpg", variant))
        (home / f"images_variant_{word}.txt").write_text("".join(lines))
    return truth


def _cifar(name: str, root: Path) -> Truth:
    """Pictures of one colour: red is the label, green the number in the file, blue the file."""
    ten = name == "cifar10"
    home = root / ("cifar-10-batches-bin" if ten else "cifar-100-binary")
    home.mkdir(parents=True)
    classes = [f"thing_{number}" for number in range(10 if ten else 100)]
    names = "batches.meta.txt" if ten else "fine_label_names.txt"
    (home / names).write_text("\n".join(classes) + "\n\n")
    files = [f"data_batch_{n}.bin" for n in range(1, 6)] if ten else ["train.bin"]
    truth: Truth = {"train": [], "test": []}
    for number, file in enumerate([*files, "test_batch.bin" if ten else "test.bin"]):
        rows = []
        for at, label in enumerate(reversed(range(len(classes)))):
            coarse = [] if ten else [at % 20]
            planes = [np.full(1024, value) for value in (label, at, number)]
            rows.append(np.concatenate([[*coarse, label], *planes]).astype(np.uint8))
            word = "test" if file.startswith("test") else "train"
            truth[word].append((None, classes[label]))
        (home / file).write_bytes(np.stack(rows).tobytes())
    return truth
