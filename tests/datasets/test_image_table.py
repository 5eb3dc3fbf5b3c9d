"""CSV tables of images: what is read, and what each mistake is told."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from handful.datasets import table as table_module
from handful.datasets.table import read_table
from handful.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg", "6.jpg"):
        (tmp_path / name).touch()
    return tmp_path


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_example_photographs(photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.glob("*/*.webp"), reverse=True)
    table = tmp_path / "photos.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "label"])
        writer.writerows([path, path.parent.name] for path in files)
    source = read_table(table)
    assert source.train.paths == tuple(files)
    assert source.class_names == tuple(sorted({path.parent.name for path in files}))
    assert source.train.counts().sum() == len(files) == 104
    assert source.validation is None
    assert source.test is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_rows_keep_their_order(folder: Path, encoding: str, newline: str) -> None:
    lines = ("Label , image,note", "zebra,3.jpg,x", "", '"äpfel, rot", 1.jpg', "zebra,2.jpg,,,", "")
    source = read_table(written(folder, newline.join(lines), encoding))
    assert source.train.paths == tuple(folder / name for name in ("3.jpg", "1.jpg", "2.jpg"))
    assert source.class_names == ("zebra", "äpfel, rot")
    assert source.train.labels.tolist() == [0, 1, 0]
    assert source.train.groups is None


def test_splits_and_groups(folder: Path) -> None:
    text = (
        "image,label,split,group\n1.jpg,b,train,ann\n2.jpg,a,Training,\n3.jpg,a,valid,ann\n"
        "4.jpg,b,VAL,bob\n5.jpg,b,test,bob\n6.jpg,a,train,\n"
    )
    source = read_table(written(folder, text))
    assert source.train.paths == (folder / "1.jpg", folder / "2.jpg", folder / "6.jpg")
    assert source.train.labels.tolist() == [1, 0, 0]
    assert source.train.groups is not None
    assert source.train.groups[0] == "ann"
    assert len(set(source.train.groups)) == 3  # an empty cell is a group of its own
    assert source.validation is not None
    assert source.validation.labels.tolist() == [0, 1]
    assert source.validation.groups == ("ann", "bob")
    assert source.test is not None
    assert source.test.paths == (folder / "5.jpg",)


HEAD = "image,label\n1.jpg,a\n2.jpg,b\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column 'image' in its first line .found nothing."),
        ("file,label\n1.jpg,a\n", "no column 'image' .*found 'file', 'label'"),
        ("image,class\n1.jpg,a\n", "no column 'label' .*found 'image', 'class'"),
        ("image;label\n1.jpg;a\n", "separate the cells with commas, not semicolons"),
        ("image\tlabel\n1.jpg\ta\n", "separate the cells with commas, not tabs"),
        ("image,label,label\n1.jpg,a,b\n", "two columns 'label'"),
        ("image,label\n", "has no rows below its header"),
        ("image,label\n\n , \n", "has no rows below its header"),
        (HEAD + "3.jpg, \n", "line 4, has no label"),
        (HEAD + "3.jpg\n", "line 4, has no label"),
        (HEAD + "\n,a\n", "line 5, has no image"),
        (HEAD + "3.jpg,black, white\n", "line 4, has 3 cells but the header has 2"),
        (HEAD + "1.jpg,b\n", "line 4, labels .*1.jpg 'b', but line 2 labels it 'a'"),
        (HEAD + '3.jpg,"a\n', "line 4, is not CSV"),
        (HEAD + '3.jpg,"a"b\n', "line 4, is not CSV"),
        ("image,label\n1.jpg,a\n2.jpg,a\n", "has only one class, 'a'"),
        ("image,label,split\n1.jpg,a,train\n2.jpg,b,hold\n", "line 3, has split 'hold': expected"),
        ("image,label,split\n1.jpg,a,train\n2.jpg,b,\n", "line 3, has split ''"),
        ("image,label,split\n1.jpg,a,train\n2.jpg,b,test\n", "no training images of 'b'"),
        ("image,label,split\n1.jpg,a,test\n2.jpg,b,test\n", "has no training images:"),
        (
            "image,label,split\n1.jpg,a,train\n2.jpg,b,train\n1.jpg,a,test\n",
            "1.jpg is both a train and a test image",
        ),
    ],
)
def test_refused(folder: Path, text: str, says: str) -> None:
    path = written(folder, text)
    with pytest.raises(InputError, match=says) as error:
        read_table(path)
    assert str(path) in str(error.value)


def test_missing_images_are_counted_and_three_named(folder: Path) -> None:
    far = "x" * 5000  # longer than any file system allows
    names = ["a.jpg", "b.jpg", f"{far}.jpg", "d.jpg"]
    path = written(folder, HEAD + "".join(f"{name},a\n" for name in names))
    with pytest.raises(InputError, match=r"4 of 6 images in .* do not exist") as error:
        read_table(path)
    said = str(error.value)
    assert all(str(folder / name) in said for name in names[:3])
    assert "d.jpg" not in said
    assert said.endswith(f"relative to {folder}.")


def test_other_encodings_and_binary_files(folder: Path) -> None:
    with pytest.raises(InputError, match="is not UTF-8"):
        read_table(written(folder, "image,label\n1.jpg,Käse\n", "latin-1"))
    with pytest.raises(InputError, match="is not UTF-8"):
        read_table(written(folder, HEAD, "utf-16"))
    with pytest.raises(InputError, match="is not CSV"):
        read_table(written(folder, HEAD + "3.jpg," + "a" * 200_000))
    with pytest.raises(InputError, match=r"table\.csv"):
        read_table(written(folder, "image,label\n1.jpg,\0\n"))


def test_size_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "MAX_BYTES", 10)
    with pytest.raises(InputError, match="a table may have"):
        read_table(written(folder, HEAD))


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist: expected a CSV table"):
        read_table(tmp_path / "table.csv")
