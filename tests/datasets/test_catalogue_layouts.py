"""Miniature copies of every standard data set, opened; and damaged ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_datasets import NAMES, OF_A, OF_R, TEST_ONLY, WORDNET, make, touch

from handful.datasets.catalogue import catalogue, open_dataset
from handful.datasets.dataset_images import DatasetImages
from handful.datasets.imagenet import class_mask, imagenet_classes
from handful.datasets.names import readable
from handful.datasets.source import open_images
from handful.errors import InputError


def test_every_data_set_has_a_miniature() -> None:
    assert set(NAMES) == set(catalogue())


@pytest.mark.parametrize("name", NAMES)
def test_every_layout(tmp_path: Path, name: str) -> None:
    truth = make(name, tmp_path)
    spec = f"data:{name}@{tmp_path}"
    source = open_images(spec, to_learn=name not in TEST_ONLY)
    assert source.name == spec
    assert len(source.class_names) == catalogue()[name].classes
    parts = {"train": source.train, "val": source.validation, "test": source.test}
    assert {word for word, images in parts.items() if images is not None and len(images)} == {
        *truth
    }
    for word, rows in truth.items():
        images = parts[word]
        assert images is not None
        assert [images.class_names[label] for label in images.labels] == [name for _, name in rows]
        if not isinstance(images.paths, DatasetImages):
            found = [path.relative_to(tmp_path).as_posix() for path in images.paths]
            assert found == [path for path, _ in rows]


def test_names_in_any_spelling(tmp_path: Path) -> None:
    make("whu_rs19", tmp_path)
    assert open_images(f"data:WHU-RS19@{tmp_path}").class_names[-2:] == (
        "football_field",
        "railway_station",
    )


@pytest.mark.parametrize("name", TEST_ONLY)
def test_sets_for_tests_only(tmp_path: Path, name: str) -> None:
    make(name, tmp_path)
    with pytest.raises(InputError, match="has no training images"):
        open_dataset(name, tmp_path)
    source = open_dataset(name, tmp_path, to_learn=False)
    assert source.for_test() is source.test


# -- ImageNet and its shifts -----------------------------------------------------------------------


def test_folders_of_v2_are_numbers_not_text(tmp_path: Path) -> None:
    """As text, '10' comes before '2' and folder 2 would be class 112."""
    make("imagenetv2", tmp_path)
    images = open_dataset("imagenetv2", tmp_path, to_learn=False).for_test()
    label_of = {
        path.parent.name: int(label)
        for path, label in zip(images.paths, images.labels, strict=True)
    }
    assert {folder: label_of[folder] for folder in ("2", "10", "999")} == {
        "2": 2,
        "10": 10,
        "999": 999,
    }
    assert images.class_names[:3] == ("tench", "goldfish", "great white shark")


def test_classes_of_imagenet_are_by_id() -> None:
    assert list(imagenet_classes()) == sorted(WORDNET)
    names = imagenet_classes()
    assert len({*names.values()}) == 1000
    alike = [
        (names[a], names[b]) for a, b in (("n03773504", "n04008634"), ("n04355933", "n04356056"))
    ]
    assert alike == [("missile", "missile_"), ("sunglasses", "sunglasses_")]
    assert [readable(second) for _, second in alike] == [first for first, _ in alike]


@pytest.mark.parametrize(("name", "ids"), [("imagenet_a", OF_A), ("imagenet_r", OF_R)])
def test_masks_of_two_hundred_classes(tmp_path: Path, name: str, ids: list[str]) -> None:
    make(name, tmp_path)
    images = open_dataset(name, tmp_path, to_learn=False).for_test()
    mask = class_mask(images.class_names)
    assert mask.tolist() == [WORDNET.index(one) for one in sorted(ids)]
    for path, label in zip(images.paths, images.labels, strict=True):
        assert sorted(ids)[label] == path.parent.name
    # The highest of all 1,000 is no class of the set: among its own, the fourth is.
    logits = np.zeros((1, 1000))
    outside = next(number for number in range(1000) if number not in mask)
    logits[0, outside], logits[0, mask[3]] = 9, 1
    assert logits[:, mask].argmax(1).tolist() == [3]
    assert logits.argmax(1).tolist() != [3]


def test_a_mask_of_all_classes_and_of_a_stranger(tmp_path: Path) -> None:
    make("imagenet_sketch", tmp_path)
    names = open_dataset("imagenet_sketch", tmp_path, to_learn=False).class_names
    assert class_mask(names).tolist() == list(range(1000))
    with pytest.raises(InputError, match="'dog' is no class of ImageNet"):
        class_mask(["tench", "dog"])


# -- the pictures of CIFAR -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "labels"), [("cifar10", 10), ("cifar100", 100)])
def test_pictures_of_cifar(tmp_path: Path, name: str, labels: int) -> None:
    make(name, tmp_path)
    source = open_dataset(name, tmp_path)
    # the last of the first file, and the first of the second (of CIFAR-100: of the test file)
    images = source.train if name == "cifar10" else source.test
    assert images is not None
    for split, row, colour in (
        (source.train, labels - 1, (0, labels - 1, 0)),
        (images, labels if name == "cifar10" else 0, (labels - 1, 0, 1)),
    ):
        assert split.labels[row] == colour[0]
        with Image.open(split.paths[row]) as picture:
            assert (picture.mode, picture.size) == ("RGB", (32, 32))
            assert (np.asarray(picture) == colour).all()


def test_rows_and_columns_of_a_picture_are_not_exchanged(tmp_path: Path) -> None:
    """Three planes, each row by row: https://www.cs.toronto.edu/~kriz/cifar.html."""
    make("cifar10", tmp_path)
    record = np.arange(3072) % 251
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(bytes([7]) + record.astype(np.uint8).tobytes())
    images = open_dataset("cifar10", tmp_path).for_test()
    with Image.open(images.paths[0]) as picture:
        for x, y in ((0, 0), (5, 0), (0, 5), (31, 30)):
            at = 32 * y + x
            assert picture.getpixel((x, y)) == (at % 251, (1024 + at) % 251, (2048 + at) % 251)


def test_pictures_become_files_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    make("cifar10", tmp_path)
    train = open_dataset("cifar10", tmp_path).train
    assert not (tmp_path / "cache").exists()
    _ = train.take([3, 4]).paths
    assert len(list((tmp_path / "cache" / "images").rglob("*.bmp"))) == 2


# -- what cannot be opened -------------------------------------------------------------------------


def edit_split(root: Path, change: Callable[[dict[str, list[list[object]]]], None]) -> None:
    path = root / "dtd" / "split_zhou_DescribableTextures.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


OUTSIDE = ["../secret.jpg", "class0/../../../secret.jpg", "/secret.jpg"]


@pytest.mark.parametrize("outside", OUTSIDE)
def test_a_split_that_leads_out_of_its_folder(tmp_path: Path, outside: str) -> None:
    make("dtd", tmp_path)
    touch(tmp_path / "dtd" / "secret.jpg")
    edit_split(tmp_path, lambda content: content["test"][0].__setitem__(0, outside))
    with pytest.raises(InputError, match=r"DescribableTextures.json lists .*secret.jpg: expected"):
        open_dataset("dtd", tmp_path)


@pytest.mark.parametrize("outside", ["../secret", "/secret"])
def test_a_list_that_leads_out_of_its_folder(tmp_path: Path, outside: str) -> None:
    make("fgvc_aircraft", tmp_path)
    touch(tmp_path / "fgvc_aircraft" / "secret.jpg")
    with (tmp_path / "fgvc_aircraft" / "images_variant_val.txt").open("a") as file:
        file.write(f"{outside} A300B4\n")
    with pytest.raises(InputError, match=r"images_variant_val.txt lists .*secret.jpg: expected"):
        open_dataset("fgvc_aircraft", tmp_path)


def test_a_huge_split_file(tmp_path: Path) -> None:
    make("dtd", tmp_path)
    with (tmp_path / "dtd" / "split_zhou_DescribableTextures.json").open("wb") as file:
        file.truncate(2**40)  # a hole, which takes no room
    with pytest.raises(InputError, match="has 1,048,576 MiB: expected a CoOp split file"):
        open_dataset("dtd", tmp_path)
    make("fgvc_aircraft", tmp_path)
    with (tmp_path / "fgvc_aircraft" / "variants.txt").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match=r"variants.txt has 1,048,576 MiB"):
        open_dataset("fgvc_aircraft", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("dtd", "dtd/split_zhou_DescribableTextures.json"),
        ("fgvc_aircraft", "fgvc_aircraft/variants.txt"),
        ("cifar10", "cifar-10-batches-bin/test_batch.bin"),
    ],
)
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str, file: str) -> None:
    make(name, tmp_path)
    (tmp_path / file).unlink()
    os.mkfifo(tmp_path / file)
    with pytest.raises(InputError, match="is a folder, a pipe or a device"):
        open_dataset(name, tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0", b"\0" * 3072, b"\0" * (2 * 3073 - 1)])
def test_wrong_sizes_of_binary_files(tmp_path: Path, content: bytes) -> None:
    make("cifar10", tmp_path)
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").write_bytes(content)
    with pytest.raises(InputError, match=r"data_batch_3.bin has .* multiple of 3,073"):
        open_dataset("cifar10", tmp_path)


def test_the_file_of_the_other_cifar(tmp_path: Path) -> None:
    """Whole records by chance, but labels that it does not have."""
    make("cifar10", tmp_path)
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(InputError, match=r"test_batch.bin has label 10: expected 0 to 9"):
        open_dataset("cifar10", tmp_path)
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match=r"test_batch.bin has 1,048,576 MiB"):
        open_dataset("cifar10", tmp_path)


def lose(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def lose_folder(path: str) -> Callable[[Path], None]:
    def lost(root: Path) -> None:
        (root / path).rename(root / "elsewhere")

    return lost


def write(path: str, content: bytes) -> Callable[[Path], None]:
    def written(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)

    return written


V2 = "imagenetv2/imagenetv2-matched-frequency-format-val"
LISTS = "fgvc_aircraft/images_variant_test.txt"
FAULTS = [
    ("dtd", lose("dtd/images/class7/val.jpg"), r"class7/val.jpg is missing: see 'handful datasets"),
    ("dtd", lose("dtd/split_zhou_DescribableTextures.json"), "Textures.json does not exist"),
    ("dtd", lose_folder("dtd/images"), r"dtd/images does not exist: expected the folder with"),
    ("dtd", lose_folder("dtd"), r"dtd does not exist: expected the folder of Describable"),
    ("stanford_cars", lose_folder("stanford_cars/cars_test"), r"missing \(and 195 more\)"),
    ("fgvc_aircraft", lose("fgvc_aircraft/variants.txt"), "variants.txt does not exist"),
    ("fgvc_aircraft", write(LISTS, b"0004t Zeppelin NT\n"), "line 1, has the class 'Zeppelin NT'"),
    ("fgvc_aircraft", write(LISTS, b"\xff\xfe"), "images_variant_test.txt is no text in UTF-8"),
    ("fgvc_aircraft", write(LISTS, b"0004t A300B4\n" * 2), "lists an image of split test twice"),
    ("imagenet", lose_folder("imagenet/images/val/n01443537"), "val/n01443537 is missing"),
    ("imagenet", lose("imagenet/images/train/n01443537/n01443537_train.JPEG"), "has no images"),
    ("imagenet", lose_folder("imagenet/images/val"), "images/val does not exist"),
    ("imagenet", write("imagenet/images/val/n00000001/1.jpg", b""), "n00000001 is no class of"),
    ("imagenetv2", write(f"{V2}/007/1.jpg", b""), "007 is no class of ImageNetV2"),
    ("imagenetv2", write(f"{V2}/1000/1.jpg", b""), "1000 is no class of ImageNetV2"),
    ("imagenetv2", lose_folder(f"{V2}/17"), "val/17 is missing"),
    (
        "imagenet_a",
        lose_folder(f"imagenet-adversarial/imagenet-a/{OF_A[0]}"),
        "199 classes, not 200",
    ),
    (
        "imagenet_r",
        write(f"imagenet-rendition/imagenet-r/{WORDNET[1]}/1.jpg", b""),
        "201 classes, not 200",
    ),
    ("cifar10", lose("cifar-10-batches-bin/data_batch_2.bin"), "data_batch_2.bin is missing"),
    ("cifar100", lose("cifar-100-binary/fine_label_names.txt"), "names.txt does not exist"),
    ("whu_rs19", lose_folder("whu-rs19/images/classa"), "has 18 classes, not 19"),
    ("whu_rs19", lose_folder("whu-rs19/images"), "images does not exist"),
]


@pytest.mark.parametrize(("name", "spoil", "says"), FAULTS, ids=range(len(FAULTS)))
def test_refused(tmp_path: Path, name: str, spoil: Callable[[Path], None], says: str) -> None:
    make(name, tmp_path)
    open_dataset(name, tmp_path, to_learn=False)
    spoil(tmp_path)
    with pytest.raises(InputError, match=says):
        open_dataset(name, tmp_path, to_learn=False)


def test_images_beside_the_class_folders(tmp_path: Path) -> None:
    """As the archive of ImageNet's validation images unpacks."""
    make("imagenet", tmp_path)
    (tmp_path / "imagenet/images/val").rename(tmp_path / "sorted")
    touch(tmp_path / "imagenet/images/val/ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(InputError, match=r"images/val has no folders: expected one sub-folder"):
        open_dataset("imagenet", tmp_path)


def test_the_folder_of_the_data_set_instead_of_that_of_all(tmp_path: Path) -> None:
    make("dtd", tmp_path)
    with pytest.raises(InputError, match=r"did you mean .* instead of .*dtd"):
        open_dataset("dtd", tmp_path / "dtd")


@pytest.mark.parametrize("spec", ["data:", "data:dtd", "data:dtd@", "data:@photos"])
def test_half_a_spec(spec: str) -> None:
    with pytest.raises(InputError, match=r"expected data:NAME@ROOT, such as data:dtd@DATA"):
        open_images(spec)


def test_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"'food-11' is not in the catalogue.*Did you mean 'food101'"
    ):
        open_images(f"data:food-11@{tmp_path}")
