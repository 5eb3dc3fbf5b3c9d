"""What a user may give to ``predict``, and tables and data sets that ``fit`` learns from."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

QUICK = ("--method", "tip-adapter")


@pytest.fixture
def new(others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Photographs in ``new``, in the current folder; their paths, in order."""
    shutil.copytree(others, tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    return sorted(path.as_posix() for path in Path("new").rglob("*.webp"))


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch):
    """Put bytes on standard input."""

    def put(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return put


@pytest.fixture
def answers(handful, model: Path):
    """Predict, and return the images of the answers."""

    def images(*names: object) -> list[str]:
        found = handful("predict", model, *names, "--json").document()
        assert all(one["label"] == one["top"][0]["label"] for one in found)
        return [one["image"] for one in found]

    return images


# -- predict ---------------------------------------------------------------------------------------


def test_files_folders_and_patterns(answers, new: list[str]) -> None:
    fish = [path for path in new if "/fish/" in path]
    assert answers("new/fish") == fish
    assert answers("new/fish/*.webp") == fish
    assert answers("new/f*/*") == fish
    assert answers("new/**/*.webp") == new
    assert answers("new/**/fish*") == fish
    assert answers("new/dam/*", fish[0], "new/windmill") == [
        *(path for path in new if "/dam/" in path),
        fish[0],
        *(path for path in new if "/windmill/" in path),
    ]


def test_a_name_with_brackets(answers, new: list[str]) -> None:
    shutil.copy(new[0], "photo [1].webp")
    shutil.copy(new[0], "photo 1.webp")
    assert answers("photo [1].webp") == ["photo [1].webp"]
    assert answers("photo [12].webp") == ["photo 1.webp"]


def test_a_list_on_standard_input(answers, typed, new: list[str]) -> None:
    chosen = new[::-1][:3]
    for content in ("\n".join(chosen), "\n".join([*chosen, ""]), "\0".join(chosen)):
        typed(content.encode())
        assert answers("-") == chosen
    typed(b"new/fish\n")
    assert answers(new[0], "-") == [new[0], *(path for path in new if "/fish/" in path)]


def test_a_pipe_as_a_shell_makes_it(model: Path, new: list[str], photos: Path) -> None:
    name = "gr\u00fcn \u732b\n[1].webp"
    shutil.copy(new[0], name)
    ran = subprocess.run(
        [sys.executable, "-m", "handful.cli.main", "predict", str(model), "-"],
        input=os.fsencode(f"{new[1]}\0{name}\0"),
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"},
        timeout=120,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.decode().startswith(f"{new[1]}: ")
    assert f"\n{name}: " in ran.stdout.decode()


@pytest.mark.parametrize(
    ("given", "content", "says"),
    [
        ("new/*.gif", b"", "nothing matches 'new/*.gif': expected an image file, a folder of im"),
        ("old/**/*.webp", b"", "nothing matches 'old/**/*.webp'"),
        ("-", b"", "standard input lists no images: expected one path per line"),
        ("-", b"\n\n", "standard input lists no images"),
        ("-", b"new/dam\nnew/fsh\n", "new/fsh does not exist: expected an image file or a folder"),
        ("-", b"new/*/*\n", "new/*/* does not exist"),
        ("new/fsh", b"", "Did you mean 'fish'?"),
    ],
)
def test_refused(
    handful, typed, model: Path, new: list[str], given: str, content: bytes, says: str
) -> None:
    for more in ((), ("--json",)):
        typed(content)
        handful("predict", model, new[0], given, *more).refused(says)


def test_a_list_names_the_image_that_cannot_be_read(
    handful, typed, model: Path, new: list[str]
) -> None:
    Path("bad.jpg").write_bytes(b"no picture")
    typed(f"{new[0]}\nbad.jpg\n".encode())
    handful("predict", model, "-", "--json").refused("bad.jpg is not an image that can be read")


# -- fit -------------------------------------------------------------------------------------------


def test_tables_and_data_sets_give_the_classifier_of_the_folder(
    handful, learnt: Path, others: Path, tmp_path: Path
) -> None:
    """One set of images in four forms: equal answers to the last digit, nothing encoded twice."""
    pytest.importorskip("datasets", reason="needs the extras parquet and datasets")
    import pyarrow
    from pyarrow import parquet

    import datasets as hf

    files = sorted(learnt.glob("*/*.webp"))
    columns = {"image": [str(file) for file in files], "label": [f.parent.name for f in files]}
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([columns, *zip(*columns.values(), strict=True)])
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    features = hf.Features({"image": hf.Image(), "label": hf.Value("string")})
    embedded = hf.Dataset.from_dict({**columns, "image": images}, features)
    embedded.save_to_disk(tmp_path / "saved")
    expected = None
    forms = (learnt, "t.csv", "t.parquet", f"hf:{learnt}", "hf:saved")
    for number, form in enumerate(forms):
        given = str(form).replace("hf:saved", f"hf:{tmp_path / 'saved'}")
        given = str(tmp_path / given) if given.startswith("t.") else given
        model = tmp_path / f"model {number}"
        fitted = handful("fit", given, "--out", model, *QUICK, "--json").document()
        assert fitted["images"] == {"dam": 3, "fish": 3, "windmill": 3}, form
        assert (fitted["encoded"], fitted["skipped"]) == (0, []), form
        answers = handful("predict", model, others, "--json").document()
        expected = expected or answers
        assert answers == expected, form


def test_few_shots_of_a_data_set_write_no_more_than_they_need(
    handful, learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hf = pytest.importorskip("datasets", reason="needs the extra datasets")
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    files = sorted(learnt.glob("*/*.webp"))
    images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    labels = [file.parent.name for file in files]
    features = hf.Features({"image": hf.Image(), "label": hf.Value("string")})
    rows = hf.Dataset.from_dict({"image": images, "label": labels}, features)
    hf.DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "saved")
    spec = f"hf:{tmp_path / 'saved'}"
    handful("fit", spec, "--out", tmp_path / "model", *QUICK, "--shots", 1).done()
    assert len(list((tmp_path / "cache" / "images").rglob("*.webp"))) == 3
    found = handful("evaluate", tmp_path / "model", spec, "--json").document()
    assert found["n"] == 9
    assert found["seen_in_training"] == 3
    assert len(list((tmp_path / "cache" / "images").rglob("*.webp"))) == 9


def test_what_fit_is_told_of_a_table_and_of_a_data_set(
    handful, learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = tmp_path / "t.parquet", tmp_path / "out"
    table.write_bytes(b"image,label\n")
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    handful("fit", table, "--out", out).refused(f"{table} is damaged or no Parquet file")
    handful("fit", f"hf:{tmp_path / 'none'}", "--out", out).refused("none does not exist: expected")
    for module, given, extra in (
        ("pyarrow", table, "handful[parquet]"),
        ("datasets", f"hf:{learnt}", "handful[datasets]"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        handful("fit", given, "--out", out).refused(f"pip install '{extra}'")
    assert not out.exists()
