"""Images with captions, of which an image may have several: what text-image retrieval is asked on.

Karpathy's split files (Flickr8k, Flickr30k, COCO), COCO's own annotations, and tables. Of the two
JSON forms an image keeps its first five captions, as published tables have it: Flickr30k has five
of each image, and the few images of COCO with six or seven give 25,000 captions of the 5,000 test
images then (so the evaluation in https://github.com/openai/CLIP/issues/115; CLIP_benchmark of LAION
keeps them all). A table keeps what it has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from handful.datasets.images import SPLIT_WORDS
from handful.datasets.json_file import read_json
from handful.datasets.missing import refuse_missing, refuse_missing_images
from handful.datasets.sentences_file import check_sentence
from handful.datasets.table import TABLES, table_cells
from handful.errors import InputError, did_you_mean

__all__ = ["CAPTIONS_KEPT", "CaptionedImages", "read_captions"]

CAPTIONS_KEPT = 5  # of an image, of Karpathy's and COCO's files
MAX_BYTES = 512 * 2**20  # Karpathy's file of COCO, with every word apart, has 150 MB
KARPATHY = '{"images": [{"filename": …, "split": …, "sentences": [{"raw": …}, …]}, …]}'
COCO = '{"images": [{"id": …, "file_name": …}, …], "annotations": [{"image_id": …, "caption": …}]}'
FORMS = (
    "captions:FILE@ROOT, FILE being Karpathy's or COCO's .json or a table (.csv, .parquet) with"
    " columns image and caption, or FILE alone where its images lie beside it"
)
SPLITS = {**SPLIT_WORDS, "restval": "restval"}  # Karpathy's rest of COCO's validation images


@dataclass(frozen=True, eq=False)
class CaptionedImages:
    """Image files and the captions of each.

    Attributes:
        paths: N image files, each once.
        texts: M captions, those of an image together and in the order of the file.
        image_of_text: int64 ``(M,)``, the position in ``paths`` of each caption's image.
        name: of the file, for tables.
        split: which one of the file: train, restval, validation or test; None where it has none.
        left_out: captions of these images that were not kept, being more than five of an image.
    """

    paths: tuple[Path, ...]
    texts: tuple[str, ...]
    image_of_text: npt.NDArray[np.int64]
    name: str
    split: str | None = None
    left_out: int = 0


class _Image(NamedTuple):
    """An image as its file tells of it; ``split`` is empty where the file tells of none."""

    path: Path
    split: str
    captions: list[str]


def read_captions(spec: str | Path, split: str | None = None) -> CaptionedImages:
    """Read any of the forms that captions may be given in.

    ``captions:FILE@ROOT``, with paths relative to the folder ``ROOT``, or ``FILE`` alone, with
    paths relative to its own folder. ``FILE`` is one of:

    - Karpathy's JSON, ``dataset_flickr30k.json`` or ``dataset_coco.json``; an image lies in
      ``ROOT/filename``, where there is a ``filepath`` in ``ROOT/filepath/filename``;
    - COCO's own, such as ``captions_val2017.json``, which has no splits;
    - a table, CSV or Parquet, with columns ``image`` and ``caption`` and maybe ``split``; an image
      has as many rows as captions.

    Image files are looked for in the split alone that is asked for.

    Args:
        spec: what the user typed.
        split: ``train``, ``restval``, ``val`` or ``test``; None: ``test`` where there are splits.

    Raises:
        InputError: nothing is there, it has another form or is far too large, there is no such
            split, an image is listed twice, leads out of the folder (of JSON) or its file is
            missing, or a caption is empty, far too long or of an image that is not listed.
    """
    file, root = _file_and_root(str(spec))
    if file.suffix.lower() in TABLES:
        images, kept = _of_table(file, root), None
    else:
        images, kept = _of_json(file, root), CAPTIONS_KEPT
    found, chosen = _of_split(file, images, split)
    for image in found:
        if not image.captions:
            raise InputError(f"{file} has no caption of {image.path}: add one, or leave it out.")
    refuse_missing(root, f"the folder with the images of {file}")
    refuse_missing_images([image.path for image in found], file, root)
    captions = [image.captions[:kept] for image in found]
    return CaptionedImages(
        tuple(image.path for image in found),
        tuple(text for texts in captions for text in texts),
        np.repeat(np.arange(len(found)), [len(texts) for texts in captions]),
        file.stem,
        chosen,
        sum(len(image.captions) for image in found) - sum(map(len, captions)),
    )


def _file_and_root(text: str) -> tuple[Path, Path]:
    """Return the file and the folder that its paths are relative to."""
    name, root = text, None
    if text.startswith("captions:"):
        found = re.fullmatch(r"captions:(.+?\.(?:json|csv|parquet))@(.+)", text, re.I | re.S)
        if found is None:
            raise InputError(f"'{text}' names no file and image folder: expected {FORMS}.")
        name, root = found.groups()
    if Path(name).suffix.lower() not in (".json", *TABLES):
        raise InputError(f"'{text}' is no file of captions: expected {FORMS}.")
    try:
        file = Path(name).expanduser()
        return file, file.parent if root is None else Path(root).expanduser()
    except RuntimeError as error:  # ~somebody who has no home here
        raise InputError(f"{text} cannot be found ({error}): give the whole path.") from error


def _of_split(
    file: Path, images: Sequence[_Image], asked: str | None
) -> tuple[Sequence[_Image], str | None]:
    """Return the images of the split that is asked for, and which one it is."""
    if not images:
        raise InputError(f"{file} has no images: expected some, with captions.")
    there = dict.fromkeys(image.split for image in images)
    if "" in there:
        if asked is not None:
            raise InputError(f"{file} has no splits, and '{asked}' is asked for: leave it out.")
        return images, None
    split = SPLITS.get((asked or "test").lower())
    if split is None:
        words = ("train", "restval", "val", "test")
        raise InputError(
            f"there is no split '{asked}'.{did_you_mean(str(asked), words)} Use one of"
            f" {', '.join(words)}."
        )
    if split not in there:
        raise InputError(f"{file} has no {split} images: it has {', '.join(there)}; name one.")
    return [image for image in images if image.split == split], split


def _of_table(table: Path, root: Path) -> list[_Image]:
    unit, rows, (*_, has_split) = table_cells(table, ("image", "caption"), ("split",))
    images: dict[Path, _Image] = {}
    for number, (name, caption, word) in rows:
        where = f"{table}, {unit} {number},"
        if not name:
            raise InputError(f"{where} has no image: fill it in, or remove the {unit}.")
        check_sentence(caption, where)
        split = SPLITS.get(word.lower()) if has_split else ""
        if split is None:
            raise InputError(f"{where} has split '{word}': expected train, val or test.")
        image = images.setdefault(root / name, _Image(root / name, split, []))
        if image.split != split:
            raise InputError(
                f"{where} has {name} as a {split} image, but it is a {image.split} image above:"
                " an image has one split."
            )
        image.captions.append(caption)
    return list(images.values())


def _of_json(file: Path, root: Path) -> list[_Image]:
    forms = f"{KARPATHY} or {COCO}"
    match read_json(file, "a file of captions", forms, MAX_BYTES):
        case {"images": [*images], "annotations": [*annotations]}:
            return _of_coco(file, root, images, annotations)
        case {"images": [*images]}:
            return _of_karpathy(file, root, images)
    raise InputError(f"{file} is no file of captions: expected {forms}.")


def _of_karpathy(file: Path, root: Path, entries: Sequence[Any]) -> list[_Image]:
    images: dict[Path, _Image] = {}
    with_splits = any(isinstance(entry, dict) and "split" in entry for entry in entries)
    for at, entry in enumerate(entries):
        where = f"{file}: images[{at}]"
        match entry:
            case {"filename": str(name), "sentences": [*sentences]} if name:
                folder = entry.get("filepath", "")
            case _:
                raise InputError(f"{where} is {entry!r:.80}: expected filename and sentences.")
        if not isinstance(folder, str):
            raise InputError(f"{where} has filepath {folder!r:.80}: expected the name of a folder.")
        word = entry.get("split")
        split = (SPLITS.get(word) if isinstance(word, str) else None) if with_splits else ""
        if split is None:
            raise InputError(
                f"{where} has split {word!r:.80}: expected train, restval, val or test."
            )
        image = _Image(_below(file, root, Path(folder) / name), split, [])
        _add(file, images, image.path, image)
        for number, sentence in enumerate(sentences):
            raw: Any = sentence.get("raw") if isinstance(sentence, dict) else None
            check_sentence(raw, f"{where}, sentence {number},")
            image.captions.append(raw)
    return list(images.values())


def _of_coco(
    file: Path, root: Path, entries: Sequence[Any], annotations: Sequence[Any]
) -> list[_Image]:
    images: dict[int, _Image] = {}
    paths: dict[Path, _Image] = {}
    for at, entry in enumerate(entries):
        match entry:
            case {"id": int(number), "file_name": str(name)} if name:
                image = _Image(_below(file, root, Path(name)), "", [])
            case _:
                raise InputError(
                    f"{file}: images[{at}] is {entry!r:.80}: expected id and file_name."
                )
        _add(file, images, number, image)
        _add(file, paths, image.path, image)
    for at, entry in enumerate(annotations):
        where = f"{file}: annotations[{at}]"
        match entry:
            case {"image_id": int(number), "caption": caption}:
                check_sentence(caption, where)
            case _:
                raise InputError(f"{where} is {entry!r:.80}: expected image_id and caption.")
        if number not in images:
            raise InputError(f"{where} is of image {number}, which is not among the images.")
        images[number].captions.append(caption)
    return list(images.values())


def _below(file: Path, root: Path, name: Path) -> Path:
    """Return where an image lies; a file that somebody else wrote names none elsewhere."""
    if name.is_absolute() or ".." in name.parts:
        raise InputError(f"{file} lists the image {name}: expected only images in {root}.")
    return root / name


def _add(file: Path, images: dict[Any, _Image], key: Any, image: _Image) -> None:
    if key in images:
        raise InputError(f"{file} lists the image {key} twice: remove one of the two.")
    images[key] = image
