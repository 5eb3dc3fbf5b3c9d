"""``handful correct train`` and ``--correction``, as a user meets them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from markdown_pages import DOCS, names_in, table
from small_corrections import digests_of

from handful.paths import cache_folder
from handful.tuning import correct_supervised, dino
from handful.tuning.correction import Correction

QUICK_DINO = ("--objective", "dino", "--form", "projection", "--set", "epochs=1",
              "--set", "local_crops=1", "--set", "head_outputs=16", "--set", "head_hidden=8",
              "--set", "head_narrow=4", "--set", "batch=4")  # fmt: skip


@pytest.fixture(scope="module")
def generic(photos: Path, lite: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of other things than the tests classify."""
    folder = tmp_path_factory.mktemp("generic") / "images"
    for name in ("hammer", "pliers"):
        (folder / name).mkdir(parents=True)
        for path in sorted((photos / name).glob("*.webp"))[:4]:
            shutil.copy(path, folder / name)
    return folder


@pytest.fixture(scope="module")
def correction(generic: Path, handful, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("correction") / "c.safetensors"
    handful("correct", "train", generic, "--out", out, "--set", "epochs=5").done()
    return out


def test_from_images_to_an_answer(
    handful, generic: Path, learnt: Path, others: Path, tmp_path: Path
) -> None:
    out = tmp_path / "c.safetensors"
    words = ("--out", out, "--set", "width=8", "--set", "epochs=2", "--seed", "3", "--json")
    found = handful("correct", "train", generic, *words).document()
    assert (found["objective"], found["form"]) == ("supervised", "projection")
    assert (found["images"], found["classes"]) == (8, ["hammer", "pliers"])
    assert (found["settings"]["width"], found["settings"]["seed"]) == (8, 3)
    assert found["trained_parameters"] == 2 * 1280 * 8 + 8 + 1280
    made = Correction.load(out)
    assert made.fingerprint == found["fingerprint"]
    assert made.taught(digests_of(sorted(generic.glob("*/*")))) == 8
    # Nothing is left of a run that is done.
    assert not list((cache_folder() / "corrections").glob("*"))
    model = tmp_path / "model"
    words = ("--method", "tip-adapter++", "--correction", out, "--out", model)
    told = handful("fit", learnt, *words, "--json").document()
    assert told["correction"]["fingerprint"] == found["fingerprint"]
    out.unlink()  # the model has its own
    assert len(handful("predict", model, others, "--json").document()) == 6
    measured = handful("evaluate", model, others, "--json").document()
    assert (measured["seen_in_training"], measured["seen_by_correction"]) == (0, 0)


def test_equal_commands_give_equal_files(handful, generic: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        out = tmp_path / f"{name}.safetensors"
        handful("correct", "train", generic, "--out", out, "--set", "epochs=2").done()
    first, second = (Correction.load(tmp_path / f"{name}.safetensors") for name in "ab")
    assert first.fingerprint == second.fingerprint


def test_images_that_taught_it_are_told(
    handful, correction: Path, generic: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    words = ("--method", "tip-adapter", "--correction", correction, "--out", model)
    said = handful("fit", generic, *words).done()
    assert "8 taught the correction, too" in " ".join(said.split())
    ran = handful("evaluate", model, generic)
    assert "the correction was trained on 8 of these 8 images" in ran.err


def test_without_labels(handful, generic: Path, tmp_path: Path) -> None:
    """A folder of images without classes, for DINO alone."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in generic.glob("*/*"):
        shutil.copy(path, flat)
    out = tmp_path / "d.safetensors"
    handful("correct", "train", flat, "--out", out).refused("8 image(s) lie directly in")
    found = handful("correct", "train", flat, "--out", out, *QUICK_DINO, "--json").document()
    assert (found["objective"], found["images"], found["classes"]) == ("dino", 8, [])
    # Of splits the images to train on, and no others.
    for split, name in (("train", "hammer"), ("test", "pliers")):
        shutil.copytree(generic / name, tmp_path / "split" / split / name)
    words = ("--out", out, "--force", *QUICK_DINO, "--json")
    found = handful("correct", "train", tmp_path / "split", *words).document()
    digests = digests_of(sorted((generic / "hammer").iterdir()))
    assert found["images"] == len(digests) == Correction.load(out).taught(digests)


def test_a_features_file(handful, features: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.safetensors"
    found = handful("correct", "train", features, "--out", out, "--json").document()
    assert (found["form"], found["images"], found["encoder"]["spec"]) == ("projection", 9, "lite")
    words = ("--method", "ape++", "--correction", out, "--out", tmp_path / "model")
    handful("fit", features, *words).done()
    again = ("correct", "train", features, "--out", out)
    handful(*again, "--force", "--encoder", "lite").refused("holds features: leave --encoder out")
    handful(*again, "--force", "--form", "blocks").refused(
        "lies inside the encoder and needs images"
    )
    handful(*again).refused("exists already")


def test_inside_a_tower(handful, generic: Path, tiny: Callable[[str], Path], tmp_path) -> None:
    out, spec = tmp_path / "c.safetensors", f"dir:{tiny('clip')}"
    words = ("--encoder", spec, "--out", out, "--set", "layers=1", "--set", "width=2")
    found = handful("correct", "train", generic, *words, "--json").document()
    assert (found["form"], found["layers"]) == ("blocks", [1])
    assert found["trained_parameters"] == 2 * 32 * 2 + 2 + 32
    words = ("--correction", out, "--method", "nearest-class-mean", "--out", tmp_path / "model")
    handful("fit", generic, "--encoder", spec, *words).done()
    handful("fit", generic, *words, "--force").refused("the correction belongs to the encoder")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "c.pt"), "ends in .safetensors"),
        (("--objective", "dine"), "no objective 'dine'. Did you mean 'dino'?"),
        (("--form", "block"), "no form 'block'. Did you mean 'blocks'?"),
        (("--set", "widht=3"), "'width'"),
        (("--set", "width=0"), "setting 'width' of a correction is 0: expected"),
        (("--form", "blocks"), "'blocks'"),
    ],
)
def test_wrong_words(handful, generic: Path, tmp_path: Path, words, said: str) -> None:
    out = () if "--out" in words else ("--out", tmp_path / "c.safetensors")
    handful("correct", "train", generic, *out, *words).refused(said)
    assert not list(tmp_path.glob("*.safetensors"))


def test_supervised_runs_in_one_process(handful, generic, tmp_path, monkeypatch) -> None:
    from contextlib import contextmanager

    from handful.tuning import processes

    @contextmanager
    def two():
        yield processes.Processes(rank=1, count=2)

    monkeypatch.setattr(processes, "joined", two)
    out = tmp_path / "c.safetensors"
    handful("correct", "train", generic, "--out", out).refused("trains in one process")


def test_every_setting_is_on_the_page() -> None:
    page = (DOCS / "intra-modal.md").read_text("utf-8")
    rows = {names_in(row[0])[0]: row[2:] for row in table(page, "name")}
    kinds = [
        m.DEFAULTS[form] for m in (correct_supervised, dino) for form in ("blocks", "projection")
    ]

    def shown(value: object) -> str:
        if value is None:
            return "–"
        text = f"{value:g}" if isinstance(value, float) else str(value).lower()
        return f"`{text}`"

    assert set(rows) == {name for kind in kinds for name in kind}
    for name, cells in rows.items():
        assert cells == [shown(kind.get(name)) for kind in kinds], name
