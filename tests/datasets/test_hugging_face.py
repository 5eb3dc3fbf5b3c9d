"""Data sets on disk in the forms of the package ``datasets``, given as ``hf:FOLDER``."""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handful.datasets.dataset_images import DatasetImages
from handful.datasets.images import LabelledImages
from handful.datasets.source import open_images
from handful.errors import InputError
from handful.features.extract import encode_images

hf = pytest.importorskip("datasets", reason="needs the extra datasets")


def picture(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), level).save(buffer, "PNG")
    return buffer.getvalue()


def rows(labels: Sequence[Any], kind: Any = None, first: int = 0, **more: Any) -> Any:
    """Rows with embedded pictures of grey levels from ``first``."""
    images = [{"bytes": picture(first + n), "path": f"{n}.png"} for n in range(len(labels))]
    features = {"image": hf.Image(), "label": kind or hf.ClassLabel(names=["cat", "dog", "eel"])}
    found = hf.Dataset.from_dict({"image": images, "label": labels}, hf.Features(features))
    for name, (values, feature) in more.items():
        found = found.add_column(name, values, feature=feature)
    return found


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def saved(tmp_path: Path, cache: Path) -> Callable[..., str]:
    """Write splits with ``save_to_disk`` and return the spec."""

    def save(**splits: Any) -> str:
        hf.DatasetDict(splits).save_to_disk(tmp_path / "saved")
        return f"hf:{tmp_path / 'saved'}"

    return save


def named(images: LabelledImages) -> list[str]:
    return [images.class_names[label] for label in images.labels]


def levels(images: LabelledImages) -> list[int]:
    return [Image.open(path).getpixel((0, 0)) for path in images.paths]  # type: ignore[misc]


# -- where they come from --------------------------------------------------------------------------


def test_a_folder_of_images_is_used_in_place(photos: Path, cache: Path) -> None:
    source, plain = open_images(f"hf:{photos}"), open_images(photos)
    assert source.class_names == plain.class_names
    assert set(source.train.paths) == set(plain.train.paths)
    assert named(source.train) == [path.parent.name for path in source.train.paths]
    assert not cache.exists()


def test_what_save_to_disk_wrote(saved: Callable[..., str]) -> None:
    spec = saved(train=rows([2, 0, 1, 0]), valid=rows([1], first=100), test=rows([0], first=200))
    source = open_images(spec, to_learn=False)
    assert source.name == spec
    assert source.class_names == ("cat", "dog", "eel")
    assert (named(source.train), levels(source.train)) == (
        ["eel", "cat", "dog", "cat"],
        [*range(4)],
    )
    assert source.validation is not None
    assert (named(source.validation), levels(source.validation)) == (["dog"], [100])
    assert source.test is not None
    assert (named(source.test), levels(source.test)) == (["cat"], [200])


def test_rows_that_were_chosen_before_they_were_saved(tmp_path: Path, cache: Path) -> None:
    rows([0, 1, 2, 1]).select([3, 0]).save_to_disk(tmp_path / "one")
    train = open_images(f"hf:{tmp_path / 'one'}").train
    assert (named(train), levels(train)) == (["dog", "cat"], [3, 0])


def test_parquet_files(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "parquet"
    folder.mkdir()
    rows([0, 1]).to_parquet(folder / "train-00000-of-00002.parquet")
    rows([1, 0], first=50).to_parquet(folder / "train-00001-of-00002.parquet")
    rows([1], first=100).to_parquet(folder / "validation-00000-of-00001.parquet")
    source = open_images(f"hf:{folder}")
    assert (named(source.train), levels(source.train)) == (
        ["cat", "dog", "dog", "cat"],
        [0, 1, 50, 51],
    )
    assert source.validation is not None
    assert levels(source.validation) == [100]
    single = open_images(f"hf:{folder / 'train-00001-of-00002.parquet'}").train
    assert levels(single) == [50, 51]


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_that_others_wrote(tmp_path: Path, cache: Path, struct: bool) -> None:
    import pyarrow
    from pyarrow import parquet

    content: list[Any] = [picture(7), picture(8)]
    if struct:
        content = [{"bytes": one, "path": None} for one in content]
    table = pyarrow.table({"photo": content, "class": ["x", "y"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    train = open_images(f"hf:{tmp_path / 't.parquet'}").train
    assert (named(train), levels(train)) == (["x", "y"], [7, 8])


def test_a_configuration_of_a_folder(tmp_path: Path, cache: Path) -> None:
    for name, first in (("grey", 0), ("light", 200)):
        (tmp_path / "two" / name).mkdir(parents=True)
        rows([0, 1], first=first).to_parquet(tmp_path / "two" / name / "train.parquet")
    configs = "\n".join(
        f"- config_name: {name}\n  data_files: {name}/*.parquet" for name in ("grey", "light")
    )
    (tmp_path / "two" / "README.md").write_text(f"---\nconfigs:\n{configs}\n---\n")
    spec = f"hf:{tmp_path / 'two'}"
    assert levels(open_images(f"{spec}:light").train) == [200, 201]
    with pytest.raises(InputError, match=r"Config name is missing.*'grey', 'light'"):
        open_images(spec)


# -- columns and splits ----------------------------------------------------------------------------


def test_texts_and_numbers_are_labels(saved: Callable[..., str]) -> None:
    source = open_images(saved(train=rows([" b", "a", "b"], hf.Value("string"))))
    assert (source.class_names, named(source.train)) == (("a", "b"), ["b", "a", "b"])
    source = open_images(saved(train=rows([10, 9], hf.Value("int64"))))
    assert (source.class_names, named(source.train)) == (("10", "9"), ["10", "9"])


def test_classes_without_images_are_left_out(saved: Callable[..., str]) -> None:
    assert open_images(saved(train=rows([2, 0]))).class_names == ("cat", "eel")
    spec = saved(train=rows([0, 2]), validation=rows([1]))
    with pytest.raises(InputError, match="no training images of 'dog'"):
        open_images(spec)


def test_the_only_column_of_classes(saved: Callable[..., str]) -> None:
    train = rows([0, 1]).rename_column("label", "kind").add_column("number", [5, 6])
    assert named(open_images(saved(train=train)).train) == ["cat", "dog"]


def test_columns_are_chosen_where_it_is_not_clear(saved: Callable[..., str]) -> None:
    other = hf.ClassLabel(names=["animal", "plant"])
    train = rows([0, 1], coarse=([1, 0], other)).rename_column("label", "fine")
    seen = [{"bytes": picture(90 + n), "path": None} for n in range(2)]
    train = train.add_column("mask", seen, feature=hf.Image())
    spec = saved(train=train)
    with pytest.raises(InputError, match=r"images is not clear among 'image' \(Image\).*\?image=C"):
        open_images(spec)
    with pytest.raises(
        InputError, match=r"labels is not clear .*'coarse' \(ClassLabel\).*\?label=C"
    ):
        open_images(f"{spec}?image=mask")
    for column, names in (("fine", ["cat", "dog"]), ("coarse", ["plant", "animal"])):
        found = open_images(f"{spec}?image=mask&label={column}").train
        assert (named(found), levels(found)) == (names, [90, 91])
    with pytest.raises(InputError, match=r"no column 'coarsse' .*Did you mean 'coarse'"):
        open_images(f"{spec}?label=coarsse")
    for wrong in ("lable=fine", "label=", "fine"):
        with pytest.raises(InputError, match=f"'{wrong}' of hf:.* chooses nothing"):
            open_images(f"{spec}?{wrong}")


def test_a_test_split_without_labels_is_no_trouble_for_learning(saved: Callable[..., str]) -> None:
    spec = saved(train=rows([0, 1]), test=rows([-1, -1]))
    assert open_images(spec).test is None
    with pytest.raises(InputError, match="split test: row 1 has no label in its column 'label'"):
        open_images(spec, to_learn=False)


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        ({"train": rows([0, -1])}, "split train: row 2 has no label in its column 'label'"),
        ({"train": rows(["a", None], hf.Value("string"))}, "row 2 has no label"),
        ({"train": rows(["a", ""], hf.Value("string"))}, "row 2 has no label"),
        ({"train": rows([0.5, 1], hf.Value("float32"))}, "row 1 has 0.5 in its column 'label'"),
        ({"train": rows([[0], [1, 2]], hf.List(hf.Value("int64")))}, "expected one label"),
        ({"train": rows([0, 1]).remove_columns("label")}, "which column has the labels is not cl"),
        ({"train": rows([0, 1]).remove_columns("image")}, r"no column of images .*\(ClassLabel\)"),
        ({"train": rows([0, 1]), "training": rows([0])}, "two splits for one, 'train' and 'train"),
        ({"a": rows([0, 1]), "b": rows([0])}, "has the splits 'a', 'b': expected train, valid"),
        ({"test": rows([0, 1])}, "has no training images"),
        ({"train": rows([1, 1])}, "only one class, 'dog'"),
    ],
)
def test_refused(saved: Callable[..., str], splits: dict[str, Any], says: str) -> None:
    spec = saved(**splits)
    with pytest.raises(InputError, match=says) as error:
        open_images(spec)
    assert spec in str(error.value)


def test_splits_of_other_names(saved: Callable[..., str], tmp_path: Path) -> None:
    assert named(open_images(saved(full=rows([0, 1]))).train) == ["cat", "dog"]
    shutil.rmtree(tmp_path / "saved")
    spec = saved(train=rows([0, 1]), noisy=rows([2], first=9))
    assert open_images(spec).class_names == ("cat", "dog")


# -- nothing is there ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("hf:", "'hf:' names no data set: expected hf:OWNER/NAME"),
        ("hf:../none", "none does not exist: expected a folder, or a name of a data set"),
        ("hf:a/b/c", "a/b/c does not exist"),
        ("hf:" + "x" * 5000, "does not exist"),
    ],
)
def test_what_is_no_name(spec: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        open_images(spec)


def test_folders_that_hold_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be loaded by the package datasets: .*data files"):
        open_images(f"hf:{tmp_path}")
    (tmp_path / "train.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be loaded by the package datasets") as error:
        open_images(f"hf:{tmp_path}")
    assert "\n" not in str(error.value)


def test_a_folder_whose_name_is_a_pattern(tmp_path: Path, cache: Path) -> None:
    """The package datasets would find nothing in it; what was saved is found all the same."""
    folder = tmp_path / "photos [2024]"
    rows([0, 1]).save_to_disk(folder)
    assert levels(open_images(f"hf:{folder}").train) == [0, 1]
    rows([0, 1]).to_parquet(folder / "parquet" / "train.parquet")
    for spec in (f"hf:{folder / 'parquet'}", f"hf:{folder / 'parquet' / 'train.parquet'}"):
        with pytest.raises(InputError, match=r"takes .*photos \[2024\].* for a pattern: leave"):
            open_images(spec)


def test_no_program_that_lies_in_a_folder_is_run(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(InputError, match=r"made by a program of its own, evil\.py, and no such"):
        open_images(f"hf:{folder}")
    assert not (tmp_path / "ran").exists()


def test_without_the_package(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"package datasets .*pip install 'handful\[datasets\]'"):
        open_images(f"hf:{photos}")


# -- pictures become files -------------------------------------------------------------------------


def test_embedded_pictures_are_written_once_when_they_are_asked_for(
    saved: Callable[..., str], cache: Path
) -> None:
    spec = saved(train=rows([0, 1, 0, 1]), test=rows([0], first=200))
    train = open_images(spec).train
    assert (len(train), cache.exists()) == (4, False)
    chosen = train.take([2])
    digest = hashlib.sha256(picture(2)).hexdigest()
    assert chosen.paths == (cache / digest[:2] / f"{digest}.png",)
    assert [path.name for path in cache.rglob("*.*")] == [f"{digest}.png"]
    assert chosen.paths[0].read_bytes() == picture(2)
    before = chosen.paths[0].stat()
    again = open_images(spec).train
    assert levels(again) == [0, 1, 2, 3]
    assert again.paths[2].stat() == before
    assert len(list(cache.rglob("*.*"))) == 4
    assert not list(cache.rglob(".*"))  # nothing half-written


def test_what_a_loss_of_power_left_is_written_again(saved: Callable[..., str]) -> None:
    spec = saved(train=rows([0, 1]))
    path = open_images(spec).train.paths[0]
    path.write_bytes(b"")
    assert open_images(spec).train.paths[0].read_bytes() == picture(0)


def test_equal_pictures_may_stand_in_two_splits(saved: Callable[..., str]) -> None:
    source = open_images(saved(train=rows([0, 1]), validation=rows([0, 1])), to_learn=False)
    assert source.validation is not None
    assert source.train.paths[0] == source.validation.paths[0]


def test_positions_and_slices(saved: Callable[..., str]) -> None:
    paths = open_images(saved(train=rows([0, 1, 0, 1]))).train.paths
    assert isinstance(paths, DatasetImages)
    assert (paths[-1], paths[1:3], paths[::-2]) == (
        paths[3],
        (paths[1], paths[2]),
        (paths[3], paths[1]),
    )
    assert list(paths) == [paths[n] for n in range(4)]
    with pytest.raises(IndexError):
        paths[4]


def test_a_row_without_a_picture(saved: Callable[..., str]) -> None:
    train = hf.Dataset.from_dict(
        {"image": [{"bytes": picture(1), "path": None}, None], "label": ["a", "b"]},
        hf.Features({"image": hf.Image(), "label": hf.Value("string")}),
    )
    paths = open_images(saved(train=train)).train.paths
    assert paths[0].suffix == ""
    with pytest.raises(InputError, match=r"split train: row 2 has no image"):
        paths[1]


def test_a_cache_that_cannot_be_written(saved: Callable[..., str], cache: Path) -> None:
    spec = saved(train=rows([0, 1]))
    cache.parent.mkdir()
    cache.touch()  # where a folder should be
    with pytest.raises(InputError, match=r"\.png cannot be written"):
        open_images(spec).train.paths[0]


def test_a_full_disk(
    saved: Callable[..., str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    spec = saved(train=rows([0, 1]))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        InputError, match=r"No space left on device\): make room, or set HANDFUL_CA"
    ):
        open_images(spec).train.paths[0]
    assert not [path for path in cache.rglob("*") if path.is_file()]


class Mean:
    """An encoder whose feature is the brightness: it shows which picture came in."""

    dim, spec, fingerprint = 1, "mean", "mean"

    def preprocess(self, image: Image.Image, view: object, digest: str) -> Any:
        return np.asarray(image)

    def encode_images(self, pixels: Any) -> Any:
        return pixels.reshape(len(pixels), -1).mean(axis=1, keepdims=True).astype(np.float32)


def test_they_are_encoded_like_any_files(saved: Callable[..., str]) -> None:
    train = open_images(saved(train=rows([0, 1, 0, 1]))).train
    for images, shown in ((train, [0, 1, 2, 3]), (train.take([3, 0]), [3, 0])):
        found = encode_images(Mean(), images.paths)  # type: ignore[arg-type]
        assert found.features[:, 0, 0].tolist() == shown
    assert named(train.take([3, 0])) == ["dog", "cat"]
