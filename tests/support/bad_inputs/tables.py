"""Tables and CoOp split files."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bad_inputs.place import CLASSES, Place, bad


@bad("a table without a column `label`")
def no_column(place: Place) -> None:
    place.table(*place.whole_table(), header="image,class")


@bad("a table without a line of column names")
def no_header(place: Place) -> None:
    first, *rest = place.whole_table()
    place.table(*rest, header=first)


@bad("a table with two columns `label`")
def two_columns(place: Place) -> None:
    place.table(*(line + ",x" for line in place.whole_table()), header="image,label,Label")


@bad("a table with semicolons")
def semicolons(place: Place) -> None:
    lines = (line.replace(",", ";") for line in place.whole_table())
    place.table(*lines, header="image;label")


@bad("a table with tabs")
def tabs(place: Place) -> None:
    lines = (line.replace(",", "\t") for line in place.whole_table())
    place.table(*lines, header="image\tlabel")


@bad("a table in Latin-1")
def latin(place: Place) -> None:
    place.table(*place.whole_table(fish="Fischäckerchen"), encoding="latin-1")


@bad("a table in UTF-16, as some programs call Unicode")
def utf_16(place: Place) -> None:
    place.table(*place.whole_table(), encoding="utf-16")


@bad("a workbook instead of a table")
def workbook(place: Place) -> None:
    place.write("table.xlsx", b"PK\3\4")


@bad("a workbook renamed to `.csv`")
def renamed(place: Place) -> None:
    place.write("table.csv", b"PK\3\4\x14\0\x08\0\x08\0\0\0!\0\xb5\xeb\xff\xfe")


@bad("an empty table")
def empty(place: Place) -> None:
    place.write("table.csv", "")


@bad("a table without rows")
def no_rows(place: Place) -> None:
    place.table()


@bad("a table with files that do not exist")
def missing(place: Place) -> None:
    place.table(*place.whole_table(), *(f"photos/fish/lost{n}.webp,fish" for n in range(4)))


@bad("a table with a folder among its images")
def folder(place: Place) -> None:
    place.table(*place.whole_table(), "photos/fish,fish")


@bad("a table with an empty label")
def no_label(place: Place) -> None:
    place.table(*place.whole_table(fish=""))


@bad("a table with an empty image")
def no_image(place: Place) -> None:
    place.table(*place.whole_table(), ",fish")


@bad("a table that repeats a row")
def repeats(place: Place) -> None:
    lines = place.whole_table()
    place.table(*lines, lines[0])


@bad("a table with two labels for one image")
def two_labels(place: Place) -> None:
    lines = place.whole_table()
    place.table(*lines, lines[0].replace(",dam", ",fish"))


@bad("a table with an image in two splits")
def two_splits(place: Place) -> None:
    lines = [line + ",train" for line in place.whole_table()]
    place.table(*lines, lines[0].replace(",train", ",test"), header="image,label,split")


@bad("a table with a split of its own")
def own_split(place: Place) -> None:
    lines = [line + ",train" for line in place.whole_table()]
    place.table(*lines[:-1], lines[-1].replace(",train", ",holdout"), header="image,label,split")


@bad("a table with an unquoted comma")
def comma(place: Place) -> None:
    place.table(*place.whole_table(fish="fish, fresh"))


@bad("a table with an open quote")
def open_quote(place: Place) -> None:
    place.table(*place.whole_table(fish='"fish'))


@bad("a table with a single label")
def one_label(place: Place) -> None:
    place.table(*place.whole_table(fish="dam", windmill="dam"))


@bad("a table with validation images only")
def validation_only(place: Place) -> None:
    place.table(*(line + ",val" for line in place.whole_table()), header="image,label,split")


@bad("a table that you may not read")
def forbidden(place: Place) -> None:
    place.table(*place.whole_table())
    place.forbid("table.csv")


@bad("a table of a million files that do not exist")
def million_missing(place: Place) -> None:
    place.table(*(f"photos/{n}.jpg,{n % 7}" for n in range(1_000_000)))


@bad("a table of a million rows")
def million(place: Place) -> None:
    """A thousand links to photographs, in a thousand links to their folder."""
    lines = []
    for number in range(1000):
        name = CLASSES[number % 3]
        link = place / f"links/{number}.webp"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(place.photographs(name)[number // 3 % 3])
        folder = place / f"folders/{number}"
        folder.parent.mkdir(exist_ok=True)
        folder.symlink_to(place / "links")
        lines += [f"folders/{n}/{number}.webp,{name}" for n in range(1000)]
    place.table(*lines)


# -- split files -----------------------------------------------------------------------------------


def _split(place: Place, **changes: Any) -> dict[str, list[Any]]:
    """Return a sound split: of each class two images to learn from and one to test on."""
    entries = [
        [f"{name}/{path.name}", label, name]
        for label, name in enumerate(CLASSES)
        for path in place.photographs(name)
    ]
    split = {
        "train": [e for n, e in enumerate(entries) if n % 3],
        "val": [],
        "test": entries[::3],
    }
    return split | changes


def _write(place: Place, split: Any) -> None:
    place.write("split.json", json.dumps(split))


@bad("no such split file")
def no_split(place: Place) -> None:
    _write(place, _split(place))


@bad("a split file without its folder of images")
def no_root(place: Place) -> None:
    _write(place, _split(place))


@bad("a split file that is not JSON")
def not_json(place: Place) -> None:
    place.write("split.json", "train: []")


@bad("a split file of another form")
def other_form(place: Place) -> None:
    _write(place, [_split(place)])


@bad("a split file with an entry of another form")
def other_entry(place: Place) -> None:
    split = _split(place)
    split["train"][2][1] = "1"
    _write(place, split)


@bad("a split file with gaps in its labels")
def gaps(place: Place) -> None:
    split = _split(place)
    for entry in split["train"] + split["test"]:
        entry[1] *= 2
    _write(place, split)


@bad("a split file with two names for one label")
def two_names(place: Place) -> None:
    split = _split(place)
    split["test"][1][2] = "shark"
    _write(place, split)


@bad("a split file with two labels for one name")
def two_labels_of_a_name(place: Place) -> None:
    split = _split(place)
    for entry in split["train"] + split["test"]:
        entry[2] = "fish" if entry[2] == "dam" else entry[2]
    _write(place, split)


@bad("a split file with an image in two splits")
def image_in_two(place: Place) -> None:
    split = _split(place)
    split["test"].append(split["train"][0])
    _write(place, split)


@bad("a split file with two labels for one image")
def image_with_two(place: Place) -> None:
    split = _split(place)
    split["train"].append([split["train"][0][0], 1, "fish"])
    _write(place, split)


@bad("a split file that repeats an image")
def image_twice(place: Place) -> None:
    split = _split(place)
    split["train"].append(split["train"][0])
    _write(place, split)


@bad("a split file with images that do not exist")
def no_images(place: Place) -> None:
    split = _split(place)
    split["train"].append(["dam/lost.webp", 0, "dam"])
    _write(place, split)


@bad("a split file without training images")
def no_training(place: Place) -> None:
    _write(place, _split(place, train=[]))


@bad("a split file with a class that has test images only")
def test_only(place: Place) -> None:
    split = _split(place)
    split["train"] = [entry for entry in split["train"] if entry[2] != "windmill"]
    _write(place, split)


# -- Parquet and data sets -------------------------------------------------------------------------


@bad("a Parquet table that is damaged")
def damaged_parquet(place: Place) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    place.write("table.parquet", b"PAR1 and no more")


@bad("no such data set on the disk")
def no_data_set(_: Place) -> None:
    pytest.importorskip("datasets", reason="needs the extra datasets")
