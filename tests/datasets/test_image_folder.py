"""Folders of class folders: the example photographs, splits, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from handful.datasets.folder import find_images, image_files, image_suffixes, read_folder
from handful.datasets.images import ImageSource
from handful.errors import InputError


def plant(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def relative(source: ImageSource, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in source.train.paths]


def test_example_photographs(photos: Path) -> None:
    source = read_folder(photos)
    counts = dict(zip(source.class_names, source.train.counts().tolist(), strict=True))
    assert counts == {  # as the data set's own description counts them
        "dam": 5,
        "fish": 28,
        "hammer": 9,
        "measuring tape": 6,
        "monument": 27,
        "pliers": 6,
        "scissors": 4,
        "solar panel": 5,
        "windmill": 14,
    }
    assert source.validation is None
    assert source.test is None
    assert source.name == str(photos)
    names = [source.class_names[label] for label in source.train.labels]
    assert names == [path.parent.name for path in source.train.paths]


def test_order_is_that_of_classes_then_relative_paths(tmp_path: Path) -> None:
    plant(tmp_path, "b/2.jpg", "b/10.png", "b/deep/er/1.JPG", "b/Z.webp", "a b/x.gif", "a/y.bmp")
    source = read_folder(tmp_path)
    assert source.class_names == ("a", "a b", "b")
    assert relative(source, tmp_path) == [
        "a/y.bmp",
        "a b/x.gif",
        "b/10.png",
        "b/2.jpg",
        "b/Z.webp",
        "b/deep/er/1.JPG",
    ]
    assert source.train.labels.tolist() == [0, 1, 2, 2, 2, 2]


def test_what_is_no_image_is_ignored(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.jpg", "b/1.jpg", "notes.txt", "overview.jpg")
    plant(tmp_path, "a/Thumbs.db", "a/._1.jpg", "a/.cache/2.jpg", "a/notes.txt", "a/1.jpg.part")
    plant(tmp_path, ".git/1.jpg", "__MACOSX/a/1.jpg", "@eaDir/1.jpg")
    assert relative(read_folder(tmp_path), tmp_path) == ["a/1.jpg", "b/1.jpg"]


def test_links_to_nothing_are_not_left_out_in_silence(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert relative(read_folder(tmp_path), tmp_path) == ["a/1.jpg", "a/gone.jpg", "b/1.jpg"]
    (tmp_path / "c").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="c is a link that leads nowhere"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match="c is a link that leads nowhere"):
        find_images([tmp_path / "c"])


def test_links_back_up_are_not_followed(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert relative(read_folder(tmp_path), tmp_path) == ["a/1.jpg", "b/1.jpg"]


def test_suffixes_are_common_ones_that_pillow_reads() -> None:
    suffixes = image_suffixes()
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"} <= suffixes
    assert not {".pdf", ".eps", ".txt", ".mpg"} & suffixes


def test_circular_links_end_and_other_links_are_followed(tmp_path: Path) -> None:
    root = plant(tmp_path / "root", "a/1.jpg", "b/2.jpg")
    elsewhere = plant(tmp_path / "elsewhere", "3.jpg")
    (root / "a" / "up").symlink_to(root / "a")
    (root / "b" / "more").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root / "b")
    (root / "c").symlink_to(elsewhere)
    assert relative(read_folder(root), root) == [
        "a/1.jpg",
        "b/2.jpg",
        "b/more/3.jpg",
        "c/3.jpg",
        "c/back/2.jpg",
    ]


def test_image_files_of_a_flat_folder(tmp_path: Path) -> None:
    plant(tmp_path, "2.jpg", "1.png", "sub/0.jpg", "readme.md")
    assert [p.relative_to(tmp_path).as_posix() for p in image_files(tmp_path)] == [
        "1.png",
        "2.jpg",
        "sub/0.jpg",
    ]


@pytest.mark.parametrize("word", ["val", "valid", "validation", "Val"])
def test_splits(tmp_path: Path, word: str) -> None:
    plant(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/b/2.jpg", f"{word}/a/3.jpg")
    source = read_folder(tmp_path)
    assert source.class_names == ("a", "b")
    assert len(source.train) == 2
    assert source.validation is not None
    assert source.test is not None
    assert source.validation.paths == (tmp_path / word / "a" / "3.jpg",)
    assert source.test.paths == (tmp_path / "test" / "b" / "2.jpg",)
    assert source.test.labels.tolist() == [1]


def test_other_sub_folders_make_split_names_classes(tmp_path: Path) -> None:
    plant(tmp_path, "train/1.jpg", "test/1.jpg", "bus/1.jpg")
    source = read_folder(tmp_path)
    assert source.class_names == ("bus", "test", "train")
    assert source.test is None


def test_train_alone_is_a_class_folder_and_the_error_says_which_folder_to_give(
    tmp_path: Path,
) -> None:
    plant(tmp_path, "train/a/1.jpg", "train/b/1.jpg")
    with pytest.raises(InputError, match="only one class folder, 'train'") as error:
        read_folder(tmp_path)
    assert str(error.value).endswith(f"give {tmp_path / 'train'}.")


def test_a_split_alone_is_not_taken_for_a_class_of_what_is_evaluated(tmp_path: Path) -> None:
    plant(tmp_path, "test/a/1.jpg", "test/b/1.jpg")
    with pytest.raises(InputError, match="only the folder 'test', which is a split") as error:
        read_folder(tmp_path, to_learn=False)
    assert f"give {tmp_path / 'test'}," in str(error.value)
    # Images that lie in it directly are of one class.
    alone = plant(tmp_path / "flat", "test/1.jpg")
    assert read_folder(alone, to_learn=False).class_names == ("test",)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ((), "is empty: expected one sub-folder per class"),
        (("notes.txt",), "has no class folders: expected one sub-folder per class"),
        (("1.jpg", "2.jpg"), "2 image.s. lie directly in .*like .*cat/image.jpg"),
        (("cat/1.jpg",), "only one class folder, 'cat'"),
        (("cat/1.jpg", "dog/.hidden.jpg"), "class folder .*dog has no images: add some"),
        (("cat/1.jpg", "dog/a.xcf", "dog/b.xcf"), "only 2 other file.s. like 'a.xcf'"),
        (("train/cat/1.jpg", "train/dog/1.jpg", "test/1.jpg"), "lie directly in .*test"),
        (("train/cat/1.jpg", "train/dog/1.jpg", "test/cow/1.jpg"), "test/cow has no counterpart"),
        (("train/cat/1.jpg", "val/cat/1.jpg"), "train has only one class folder, 'cat'"),
        (("train/cat/1.jpg", "val/cat/1.jpg", "valid/cat/1.jpg"), "two folders for one split"),
    ],
)
def test_refused(tmp_path: Path, files: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        read_folder(plant(tmp_path, *files))
    assert str(tmp_path) in str(error.value)


def test_missing_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent does not exist: expected a folder"):
        read_folder(tmp_path / "absent")
    with pytest.raises(InputError, match=r"1\.jpg is a file: expected a folder"):
        read_folder(plant(tmp_path, "1.jpg") / "1.jpg")


def test_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "cat/1.jpg", "dog/1.jpg")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=f"{tmp_path} cannot be read: Permission denied"):
        read_folder(tmp_path)
