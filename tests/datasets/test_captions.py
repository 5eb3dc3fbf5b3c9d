"""Files of captions: every layout in small, and what each mistake is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful.datasets import captions, table
from handful.datasets.captions import CaptionedImages, read_captions
from handful.errors import InputError

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of captions and empty image files, and return how both are given."""

    def written(name: str, content: Any, *images: str) -> str:
        root = tmp_path / "images"
        root.mkdir()
        for image in images:
            (root / image).parent.mkdir(exist_ok=True)
            (root / image).touch()
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text, "utf-8")
        return f"captions:{tmp_path / name}@{root}"

    return written


def pairs(read: CaptionedImages, root: Path) -> list[tuple[str, str]]:
    """Path below ``root`` and text of each caption."""
    return [
        (read.paths[row].relative_to(root).as_posix(), text)
        for row, text in zip(read.image_of_text, read.texts, strict=True)
    ]


def flickr(filename: str, split: str, *captions: str, **more: Any) -> dict[str, Any]:
    """An image as Karpathy's files have it, with the fields that are not read, too."""
    sentences = [
        {"tokens": text.split(), "raw": text, "imgid": 0, "sentid": at}
        for at, text in enumerate(captions)
    ]
    return {"filename": filename, "split": split, "imgid": 0, "sentences": sentences} | more


KARPATHY = {
    "images": [
        flickr("1.jpg", "test", "Two men .", "Men outside ."),
        flickr("2.jpg", "train", "A child ."),
        flickr("3.jpg", "test", "A dog ."),
        flickr("4.jpg", "val", "A hat ."),
        flickr("5.jpg", "restval", "A cat ."),
    ],
    "dataset": "flickr30k",
}


TEST = [("1.jpg", "Two men ."), ("1.jpg", "Men outside ."), ("3.jpg", "A dog .")]


@pytest.mark.parametrize(
    ("asked", "split", "expected"),
    [
        (None, "test", TEST),
        ("test", "test", TEST),
        ("train", "train", [("2.jpg", "A child .")]),
        ("val", "validation", [("4.jpg", "A hat .")]),
        ("restval", "restval", [("5.jpg", "A cat .")]),
    ],
)
def test_karpathy_of_flickr(
    write: Write, tmp_path: Path, asked: str | None, split: str, expected: list[Any]
) -> None:
    spec = write("dataset_flickr30k.json", KARPATHY, *(f"{n}.jpg" for n in range(1, 6)))
    read = read_captions(spec, asked)
    assert pairs(read, tmp_path / "images") == expected
    assert (read.name, read.split, read.left_out) == ("dataset_flickr30k", split, 0)
    assert read.image_of_text.dtype == np.int64


def test_karpathy_of_coco_has_folders_and_keeps_five(write: Write, tmp_path: Path) -> None:
    seven = [f"caption {n}" for n in range(7)]
    content = {
        "images": [
            flickr("b.jpg", "test", *seven, filepath="val2014", cocoid=7),
            flickr("a.jpg", "train", "x", filepath="train2014", cocoid=8),
            flickr("a.jpg", "test", *seven[:4], filepath="val2014", cocoid=9),
        ],
        "dataset": "coco",
    }
    # The images of the other split are not there, and need not be.
    spec = write("dataset_coco.json", content, "val2014/a.jpg", "val2014/b.jpg")
    read = read_captions(spec)
    assert pairs(read, tmp_path / "images") == [
        *(("val2014/b.jpg", text) for text in seven[:5]),
        *(("val2014/a.jpg", text) for text in seven[:4]),
    ]
    assert read.left_out == 2


def test_cocos_own_has_no_splits_and_keeps_the_first_five(write: Write, tmp_path: Path) -> None:
    content = {
        "info": {},
        "licenses": [],
        "images": [
            {"id": 179765, "file_name": "2.jpg", "height": 480},
            {"id": 39, "file_name": "1.jpg", "height": 640},
        ],
        # Captions of an image do not stand together.
        "annotations": [
            {"image_id": image, "id": at, "caption": f"{image} {at}"}
            for at, image in enumerate([39, 179765, 39, 39, 39, 39, 39, 179765])
        ],
    }
    spec = write("captions_val2017.json", content, "1.jpg", "2.jpg")
    read = read_captions(spec)
    assert pairs(read, tmp_path / "images") == [
        *(("2.jpg", f"179765 {at}") for at in (1, 7)),
        *(("1.jpg", f"39 {at}") for at in (0, 2, 3, 4, 5)),
    ]
    assert (read.split, read.left_out) == (None, 1)
    with pytest.raises(InputError, match="has no splits, and 'test' is asked for"):
        read_captions(spec, "test")


TABLE = "caption,image\n" + "".join(
    f"{text},{image}\n"
    for text, image in (
        ('"black, white"', "b.jpg"),
        ("two", "a.jpg"),
        *((f"more {n}", "./b.jpg") for n in range(6)),
    )
)


def test_table_without_splits_keeps_all(write: Write, tmp_path: Path) -> None:
    read = read_captions(write("mine.csv", TABLE, "a.jpg", "b.jpg"))
    assert pairs(read, tmp_path / "images") == [
        ("b.jpg", "black, white"),
        *(("b.jpg", f"more {n}") for n in range(6)),
        ("a.jpg", "two"),
    ]
    assert (read.name, read.split, read.left_out) == ("mine", None, 0)


def test_table_with_splits(write: Write, tmp_path: Path) -> None:
    text = "image,caption,split\n1.jpg,one,Testing\n2.jpg,two,train\n1.jpg,three,test\n"
    read = read_captions(write("mine.csv", text, "1.jpg"))
    assert pairs(read, tmp_path / "images") == [("1.jpg", "one"), ("1.jpg", "three")]
    assert read.split == "test"


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    from pyarrow import parquet

    (tmp_path / "1.jpg").touch()
    columns = {"image": ["1.jpg", "1.jpg"], "caption": ["one", "two"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "mine.parquet")
    assert read_captions(tmp_path / "mine.parquet").texts == ("one", "two")


def test_images_beside_their_file(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    file = tmp_path / "odd@name.json@x.json"
    file.write_text(json.dumps({"images": [flickr("1.jpg", "test", "one")]}))
    assert read_captions(file).paths == (tmp_path / "1.jpg",)
    assert read_captions(str(file)).texts == ("one",)


def test_files_and_folders_that_are_not_there(write: Write, tmp_path: Path) -> None:
    spec = write("dataset.json", KARPATHY, "1.jpg")
    with pytest.raises(InputError, match=r"1 of 2 images in .*json do not exist: .*3\.jpg"):
        read_captions(spec)
    with pytest.raises(InputError, match=r"imagess does not exist.* Did you mean 'images'"):
        read_captions(f"{spec}s")
    with pytest.raises(InputError, match=r"datase\.json does not exist.* Did you mean 'dataset"):
        read_captions(tmp_path / "datase.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match="is a folder, a pipe or a device"):
        read_captions(tmp_path / "folder.json")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "'' is no file of captions"),
        ("photos", "'photos' is no file of captions: expected captions:FILE@ROOT"),
        ("captions:a.json", "names no file and image folder"),
        ("captions:a.json@", "names no file and image folder"),
        ("captions:@root", "names no file and image folder"),
        ("captions:a.txt@root", "names no file and image folder"),
        ("~nobody-of-this-name/a.json", "cannot be found"),
    ],
)
def test_forms_that_name_nothing(spec: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_captions(spec)


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("tests", r"there is no split 'tests'\. Did you mean 'test'\? Use one of train, restval"),
        ("val", "has no validation images: it has test, train; name one"),
    ],
)
def test_splits_that_are_not_there(write: Write, split: str, says: str) -> None:
    content = {"images": [flickr("1.jpg", "test", "one"), flickr("2.jpg", "train", "two")]}
    with pytest.raises(InputError, match=says):
        read_captions(write("a.json", content, "1.jpg", "2.jpg"), split)


def karpathy(*images: Any) -> dict[str, Any]:
    return {"images": list(images)}


def coco(*annotations: Any, images: Any = ({"id": 1, "file_name": "1.jpg"},)) -> dict[str, Any]:
    return {"images": list(images), "annotations": list(annotations)}


GOOD = {"image_id": 1, "caption": "one"}
ONE = flickr("1.jpg", "test", "one")
NO_SPLIT = {"filename": "2.jpg", "sentences": [{"raw": "two"}]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        pytest.param("[" * 100_000, "is not JSON", id="deep"),
        ([ONE], "is no file of captions"),
        ({"images": "all"}, "is no file of captions"),
        ({"annotations": [GOOD]}, "is no file of captions"),
        ({"train": [["1.jpg", 0, "dam"]]}, "is no file of captions"),
        (karpathy(), "has no images"),
        (coco(images=()), "has no images"),
        (karpathy(ONE, "2.jpg"), r"images\[1\] is '2.jpg': expected filename and sentences"),
        (karpathy(ONE, {"filename": "2.jpg"}), r"images\[1\] is .*expected filename and"),
        (karpathy({**ONE, "filename": ""}), r"images\[0\] is .*expected filename and"),
        (karpathy({**ONE, "filename": 7}), r"images\[0\] is .*expected filename and"),
        (karpathy({**ONE, "filepath": 7}), r"images\[0\] has filepath 7"),
        (karpathy({**ONE, "split": "tset"}), r"images\[0\] has split 'tset': expected train"),
        (karpathy({**ONE, "split": ["test"]}), r"images\[0\] has split \['test'\]"),
        (karpathy({**ONE, "split": ""}), r"images\[0\] has split ''"),
        (karpathy(ONE, NO_SPLIT), r"images\[1\] has split None"),
        (karpathy(flickr("1.jpg", "test")), r"has no caption of .*1\.jpg"),
        (karpathy(flickr("1.jpg", "test", "one", " ")), r"images\[0\], sentence 1, is ' '"),
        (karpathy(flickr("1.jpg", "test", 2001 * "x")), "has 2,001 letters"),
        (karpathy(flickr("1.jpg", "test", "\ud800")), "is not readable text"),
        (karpathy({**ONE, "sentences": ["one"]}), r"images\[0\], sentence 0, is None"),
        (karpathy(ONE, ONE), r"lists the image .*1\.jpg twice"),
        (karpathy(ONE, {**ONE, "split": "train"}), r"lists the image .*1\.jpg twice"),
        (karpathy(flickr("../1.jpg", "test", "one")), r"the image \.\./1\.jpg: expected only"),
        (karpathy(flickr("1.jpg", "test", "one", filepath="/etc")), "the image /etc/1.jpg: expec"),
        (coco(GOOD, images=[{"id": 1, "file_name": "/etc/1.jpg"}]), "the image /etc/1.jpg: expec"),
        (coco(), r"has no caption of .*1\.jpg"),
        (coco(GOOD, 5), r"annotations\[1\] is 5: expected image_id and caption"),
        (coco(GOOD, {"image_id": 1}), r"annotations\[1\] is .*expected image_id and caption"),
        (coco(GOOD, {**GOOD, "image_id": "1"}), r"annotations\[1\] is .*expected image_id and"),
        (coco(GOOD, {**GOOD, "image_id": 2}), r"annotations\[1\] is of image 2, which is not"),
        (coco({**GOOD, "caption": ""}), r"annotations\[0\] is ''"),
        (coco({**GOOD, "caption": None}), r"annotations\[0\] is None"),
        (coco(GOOD, images=[{"id": 1}]), r"images\[0\] is .*expected id and file_name"),
        (coco(GOOD, images=[{"id": 1.5, "file_name": "1.jpg"}]), r"images\[0\] is .*expected id"),
        (
            coco(GOOD, images=[{"id": 1, "file_name": "1.jpg"}, {"id": 1, "file_name": "2.jpg"}]),
            "lists the image 1 twice",
        ),
        (
            coco(GOOD, images=[{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "1.jpg"}]),
            r"lists the image .*1\.jpg twice",
        ),
    ],
)
def test_json_refused(write: Write, content: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_captions(write("a.json", content, "1.jpg", "2.jpg"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,label\n1.jpg,dam\n", "has no column 'caption'.* as in image,caption"),
        ("image;caption\n1.jpg;dam\n", "separate the cells with commas, not semicolons"),
        ("image,caption,Caption\n1.jpg,dam,dam\n", "has two columns 'caption'"),
        ("image,caption\n", "has no images"),
        ("image,caption\n1.jpg,\n", "line 2, is ''"),
        ("image,caption\n,one\n", "line 2, has no image"),
        ("image,caption\n1.jpg,black, white\n", "line 2, has 3 cells"),
        ("image,caption,split\n1.jpg,one,tset\n", "line 2, has split 'tset'"),
        ("image,caption,split\n1.jpg,one,\n", "line 2, has split ''"),
        (
            "image,caption,split\n1.jpg,one,test\n./1.jpg,two,train\n",
            "line 3, has ./1.jpg as a train image, but it is a test image above",
        ),
    ],
)
def test_tables_refused(write: Write, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_captions(write("a.csv", text, "1.jpg"))


def test_far_too_much(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = write("mine.csv", TABLE, "a.jpg", "b.jpg")
    monkeypatch.setattr(table, "MAX_ROWS", 8)
    read_captions(spec)
    monkeypatch.setattr(table, "MAX_ROWS", 7)
    with pytest.raises(InputError, match="too many rows: a table may have 7"):
        read_captions(spec)
    file = tmp_path / "a.json"
    file.write_text(json.dumps(coco(GOOD)))
    monkeypatch.setattr(captions, "MAX_BYTES", 2**6)
    with pytest.raises(InputError, match="expected a file of captions"):
        read_captions(file)
