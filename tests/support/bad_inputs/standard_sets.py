"""Standard data sets that are not all there."""

from __future__ import annotations

from bad_inputs.place import Place, bad
from tiny_datasets import make


@bad("a standard data set that is not known")
@bad("a standard data set without a folder")
@bad("a standard data set that is not there")
def nothing(place: Place) -> None:
    (place / "data").mkdir()


@bad("a standard data set with images missing")
def images_missing(place: Place) -> None:
    make("eurosat", place / "data")
    for name in ("val", "test"):
        (place / "data" / "eurosat" / "2750" / "class4" / f"{name}.jpg").unlink()


@bad("a split that leads out of its folder")
def leads_out(place: Place) -> None:
    make("eurosat", place / "data")
    split = place / "data" / "eurosat" / "split_zhou_EuroSAT.json"
    split.write_text(split.read_text().replace("class4/val.jpg", "../../secret.jpg"))


@bad("a split file of a terabyte")
def terabyte(place: Place) -> None:
    make("eurosat", place / "data")
    with (place / "data" / "eurosat" / "split_zhou_EuroSAT.json").open("wb") as file:
        file.truncate(2**40)  # a hole, which takes no room


@bad("a file of CIFAR that is cut short")
def cut_short(place: Place) -> None:
    make("cifar10", place / "data")
    (place / "data" / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(bytes(3000))


@bad("a set for tests only to learn from")
def tests_only(place: Place) -> None:
    make("imagenet_r", place / "data")
