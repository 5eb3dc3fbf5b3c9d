"""Tables of images, CSV and Parquet: what is read, and what each mistake is told."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from handful.datasets import csv_rows, table
from handful.datasets.table import read_table
from handful.errors import InputError

Rows = Sequence[Sequence[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg", "6.jpg"):
        (tmp_path / name).touch()
    return tmp_path


class Format:
    """One of the formats; ``at(n)`` is how an error names row n."""

    def __init__(self, suffix: str, folder: Path) -> None:
        self.suffix, self.folder = suffix, folder

    def write(self, header: Sequence[str], rows: Rows) -> Path:
        path = self.folder / f"table{self.suffix}"
        if self.suffix == ".csv":
            with path.open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows([header, *rows])
        else:
            write_parquet(path, dict(zip(header, zip(*rows, strict=True), strict=True)))
        return path

    def at(self, row: int) -> str:
        return f"line {row + 1}" if self.suffix == ".csv" else f"row {row}"


def write_parquet(path: Path, columns: dict[str, object]) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.fixture(params=[".csv", ".parquet"])
def form(request: pytest.FixtureRequest, folder: Path) -> Format:
    return Format(request.param, folder)


# -- both formats ----------------------------------------------------------------------------------


def test_example_photographs(form: Format, photos: Path) -> None:
    files = sorted(photos.glob("*/*.webp"), reverse=True)
    path = form.write(["image", "label"], [(str(file), file.parent.name) for file in files])
    source = read_table(path)
    assert source.train.paths == tuple(files)
    assert source.class_names == tuple(sorted({file.parent.name for file in files}))
    assert [source.class_names[label] for label in source.train.labels] == [
        file.parent.name for file in files
    ]
    assert (source.validation, source.test) == (None, None)


def test_rows_keep_their_order(form: Format, folder: Path) -> None:
    rows = [("zebra", "3.jpg", "x"), ("äpfel, rot", " ./1.jpg", ""), ("zebra", "2.jpg", "y")]
    source = read_table(form.write([" Label ", "IMAGE", "note"], rows))
    assert source.train.paths == tuple(folder / name for name in ("3.jpg", "1.jpg", "2.jpg"))
    assert source.class_names == ("zebra", "äpfel, rot")
    assert source.train.labels.tolist() == [0, 1, 0]
    assert source.train.groups is None


def test_splits_and_groups(form: Format, folder: Path) -> None:
    rows = [
        ("1.jpg", "b", "train", "ann"),
        ("2.jpg", "a", "Training", ""),
        ("3.jpg", "a", "valid", "ann"),
        ("4.jpg", "b", "VAL", "bob"),
        ("5.jpg", "b", "test", "bob"),
        ("6.jpg", "a", "train", ""),
    ]
    source = read_table(form.write(["image", "label", "split", "group"], rows))
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


TWO, SPLIT = ("image", "label"), ("image", "label", "split")
GOOD = (("1.jpg", "a"), ("2.jpg", "b"))


@pytest.mark.parametrize(
    ("header", "rows", "row", "says"),
    [
        (("file", "label"), GOOD, 0, "no column 'image' .found 'file', 'label'.: name the columns"),
        (("image", "class"), GOOD, 0, "no column 'label' .found 'image', 'class'."),
        (("image", "Label ", "label"), [("1.jpg", "a", "b")], 0, "two columns 'label'"),
        (TWO, [*GOOD, ("3.jpg", " ")], 3, "has no label: fill it in"),
        (TWO, [*GOOD, ("", "a")], 3, "has no image: fill it in"),
        (TWO, [*GOOD, ("1.jpg", "b")], 3, "labels .*1.jpg 'b', but {0} labels it 'a'"),
        (TWO, [*GOOD, ("./1.jpg", "a")], 3, "repeats .*1.jpg of {0}: remove one of the two"),
        (TWO, [("1.jpg", "a"), ("2.jpg", "a")], 0, "has only one class, 'a'"),
        (SPLIT, [("1.jpg", "a", "train"), ("2.jpg", "b", "hold")], 2, "split 'hold': expected"),
        (SPLIT, [("1.jpg", "a", "train"), ("2.jpg", "b", "")], 2, "split ''"),
        (SPLIT, [("1.jpg", "a", "train"), ("2.jpg", "b", "test")], 0, "no training images of 'b'"),
        (SPLIT, [("1.jpg", "a", "test"), ("2.jpg", "b", "test")], 0, "has no training images:"),
        (
            SPLIT,
            [("1.jpg", "a", "train"), ("2.jpg", "b", "train"), ("1.jpg", "a", "test")],
            0,
            "1.jpg is both a train and a test image",
        ),
    ],
)
def test_refused(form: Format, header: Sequence[str], rows: Rows, row: int, says: str) -> None:
    path = form.write(header, rows)
    with pytest.raises(InputError, match=says.format(form.at(1))) as error:
        read_table(path)
    assert str(path) in str(error.value)
    assert not row or f"{path}, {form.at(row)}, " in str(error.value)


def test_no_rows(form: Format) -> None:
    header: tuple[str, ...] = TWO
    if form.suffix == ".parquet":
        path = write_parquet(form.folder / "table.parquet", {name: [] for name in header})
    else:
        path = form.write(header, [])
    with pytest.raises(InputError, match=r"table\.\w+ has no rows: add one (line|row) per image"):
        read_table(path)


def test_missing_images_are_counted_and_three_named(form: Format, folder: Path) -> None:
    far = "x" * 5000  # longer than any file system allows
    names = ["a.jpg", "b.jpg", f"{far}.jpg", "d.jpg"]
    path = form.write(TWO, [*GOOD, *((name, "a") for name in names)])
    with pytest.raises(InputError, match=r"4 of 6 images in .* do not exist") as error:
        read_table(path)
    said = str(error.value)
    assert all(str(folder / name) in said for name in names[:3])
    assert "d.jpg" not in said
    assert said.endswith(f"relative to the folder '{folder}'.")


def test_number_of_rows(form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    path = form.write(TWO, GOOD)
    monkeypatch.setattr(table, "MAX_ROWS", 2)
    assert len(read_table(path).train) == 2
    monkeypatch.setattr(table, "MAX_ROWS", 1)
    with pytest.raises(InputError, match="has too many rows: a table may have 1"):
        read_table(path)


def test_missing_table(form: Format) -> None:
    with pytest.raises(InputError, match="does not exist: expected a table with columns image and"):
        read_table(form.folder / f"none{form.suffix}")


def test_a_folder_is_no_table(form: Format) -> None:
    place = form.folder / f"table{form.suffix}"
    place.mkdir()
    with pytest.raises(InputError, match=f"table{form.suffix} cannot be read: Is a directory"):
        read_table(place)


# -- CSV -------------------------------------------------------------------------------------------


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


HEAD = "image,label\n1.jpg,a\n2.jpg,b\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_blank_lines_and_quotes(folder: Path, encoding: str, newline: str) -> None:
    lines = ("Label , image,note", "zebra,3.jpg,x", "", '"äpfel, rot", 1.jpg', "zebra,2.jpg,,,", "")
    source = read_table(written(folder, newline.join(lines), encoding))
    assert source.train.paths == tuple(folder / name for name in ("3.jpg", "1.jpg", "2.jpg"))
    assert source.class_names == ("zebra", "äpfel, rot")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column 'image' .found nothing."),
        ("image;label\n1.jpg;a\n", "separate the cells with commas, not semicolons"),
        ("image\tlabel\n1.jpg\ta\n", "separate the cells with commas, not tabs"),
        ("image,label\n\n , \n", "has no rows"),
        (HEAD + "3.jpg\n", "line 4, has no label"),
        (HEAD + "\n,a\n", "line 5, has no image"),
        (HEAD + "3.jpg,black, white\n", "line 4, has 3 cells but the header has 2"),
        (HEAD + '3.jpg,"a\n', "line 4, is not CSV"),
        (HEAD + '3.jpg,"a"b\n', "line 4, is not CSV"),
        (HEAD + "3.jpg," + "a" * 200_000, "line 4, is not CSV"),
        ("image,label\n1.jpg,\0\n", "table.csv"),
    ],
)
def test_refused_csv(folder: Path, text: str, says: str) -> None:
    path = written(folder, text)
    with pytest.raises(InputError, match=says) as error:
        read_table(path)
    assert str(path) in str(error.value)


def test_other_encodings(folder: Path) -> None:
    text = "image,label\n" + "1.jpg,a\n" * 20_000 + "2.jpg,Käse\n"  # far beyond one block
    with pytest.raises(InputError, match="line 20002, is not UTF-8: save it again"):
        read_table(written(folder, text, "latin-1"))
    with pytest.raises(InputError, match="line 1, is not UTF-8"):
        read_table(written(folder, HEAD, "utf-16"))


def test_size_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(folder, HEAD)
    monkeypatch.setattr(csv_rows, "MAX_BYTES", len(HEAD))
    read_table(path)
    monkeypatch.setattr(csv_rows, "MAX_BYTES", len(HEAD) - 1)
    with pytest.raises(InputError, match="a table may have"):
        read_table(path)


# -- Parquet ---------------------------------------------------------------------------------------

Table = Callable[..., Path]


@pytest.fixture
def parquet(folder: Path) -> Table:
    return lambda **columns: write_parquet(folder / "table.parquet", columns)


def test_whole_numbers_are_names(parquet: Table) -> None:
    path = parquet(image=["1.jpg", "2.jpg", "3.jpg"], label=[10, 9, 10], group=[1, 1, None])
    train = read_table(path).train
    assert train.class_names == ("10", "9")
    assert train.labels.tolist() == [0, 1, 0]
    assert train.groups == ("1", "1", "table.parquet, row 3")


def test_categories_and_other_columns(parquet: Table) -> None:
    import pyarrow

    label = pyarrow.array(["b", "a", "b"]).dictionary_encode()
    path = parquet(other=[[1.0], [], None], label=label, image=["1.jpg", "2.jpg", "3.jpg"])
    train = read_table(path).train
    assert [train.class_names[row] for row in train.labels] == ["b", "a", "b"]


def test_more_rows_than_are_read_at_a_time(folder: Path, parquet: Table) -> None:
    names = [f"{row:05d}.jpg" for row in range(25_000)]
    labels = [str(row % 7) for row in range(25_000)]
    with pytest.raises(InputError, match="25000 of 25000 images"):
        read_table(parquet(image=names, label=labels))
    labels[20_000] = ""
    with pytest.raises(InputError, match="row 20001, has no label"):
        read_table(parquet(image=names, label=labels))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"image": ["1.jpg", "2.jpg"], "label": ["a", None]}, "row 2, has no label"),
        ({"image": ["1.jpg", "2.jpg"], "label": [0.0, 1.0]}, "'label' has type double: expected"),
        ({"image": ["1.jpg", "2.jpg"], "label": [True, False]}, "'label' has type bool"),
        ({"image": ["1.jpg", "2.jpg"], "label": [["a"], ["b"]]}, "'label' has type list"),
        (
            {"image": [{"bytes": b"1", "path": "1.jpg"}], "label": [0]},
            r"pictures in its column 'image', but a table has their paths: .*, hf:.*\.parquet\.",
        ),
        ({"image": [b"1"], "label": [0]}, r"give it as a data set, hf:.*table.parquet\."),
    ],
)
def test_refused_parquet(parquet: Table, columns: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_table(parquet(**columns))


@pytest.mark.parametrize("content", [b"", b"image,label\n1.jpg,a\n", b"PAR1" + bytes(40) + b"PAR1"])
def test_what_is_no_parquet(folder: Path, content: bytes) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    path = folder / "table.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged or no Parquet file \(") as error:
        read_table(path)
    assert "\n" not in str(error.value)


def test_damaged_columns(folder: Path, parquet: Table) -> None:
    path = parquet(image=["1.jpg", "2.jpg"] * 500, label=["a", "b"] * 500)
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)  # the footer, which is read first, stays whole
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged or no Parquet file"):
        read_table(path)


def test_without_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "table.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs the package pyarrow: run pip install 'handful\[p"):
        read_table(folder / "table.parquet")
