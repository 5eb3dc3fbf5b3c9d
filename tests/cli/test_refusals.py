"""Bad input ends in one sentence on standard error, status 2, and nothing half-written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handful import load_features, save_features

QUICK = ("--method", "tip-adapter")


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """Where a verb would write; afterwards nothing may be there, nor anything half-written."""
    folder = tmp_path / "written"
    folder.mkdir()
    yield folder / "out"
    assert list(folder.iterdir()) == []


# -- the images ------------------------------------------------------------------------------------


def test_missing_folder(handful, images: Path, out: Path, tmp_path: Path) -> None:
    for verb in ("fit", "embed"):
        target = out.with_suffix(".safetensors" if verb == "embed" else "")
        handful(verb, tmp_path / "image", "--out", target).refused(
            f"{tmp_path / 'image'} does not exist", "Did you mean 'images'?"
        )


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ((), "is empty: expected one sub-folder per class"),
        (("cat/",), "class folder"),
        (("1.jpg", "2.jpg"), "2 image(s) lie directly in"),
        (("cat/1.jpg",), "only one class folder, 'cat'"),
        (("notes.txt",), "has no class folders"),
    ],
)
def test_folders_without_classes(
    handful, tmp_path: Path, out: Path, layout: tuple[str, ...], words: str
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in layout:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    handful("fit", folder, "--out", out).refused(str(folder), words)


def test_fewer_images_than_shots(handful, images: Path, out: Path, tmp_path: Path) -> None:
    next((images / "fish").iterdir()).unlink()
    handful("fit", images, "--out", out, *QUICK, "--shots", "3").refused(
        "3 shots were asked for, but 'fish' has 2: ask for at most 2, or --shots all"
    )
    handful("fit", images, "--out", tmp_path / "all", *QUICK, "--shots", "all").done()


def test_some_images_that_cannot_be_read_are_left_out(
    handful, images: Path, tmp_path: Path
) -> None:
    bad = images / "fish" / "bad.jpg"
    bad.write_bytes(b"no picture")
    ran = handful("fit", images, "--out", tmp_path / "model", *QUICK, "--json")
    assert ran.document()["images"] == {"dam": 3, "fish": 3, "windmill": 3}
    assert [one["image"] for one in ran.document()["skipped"]] == [str(bad)]
    assert ran.err.splitlines()[0] == "handful: warning: 1 image(s) were left out:"
    assert str(bad) in ran.err.splitlines()[1]
    file = tmp_path / "features.safetensors"
    ran = handful("embed", images, "--out", file, "--json")
    assert (ran.document()["skipped"], ran.document()["images"]) == (1, 9)
    assert str(bad) in ran.err
    assert str(bad) not in (load_features(file).paths or ())
    ran = handful("evaluate", tmp_path / "model", images, "--json")
    assert (ran.document()["skipped"], ran.document()["n"]) == (1, 9)
    assert f"1 image(s) were left out:\n  {bad} is not an image" in ran.err


def test_strict_refuses_them(handful, images: Path, out: Path, model: Path) -> None:
    bad = images / "fish" / "bad.jpg"
    bad.write_bytes(b"no picture")
    words = f"{bad} is not an image that can be read"
    handful("fit", images, "--out", out, *QUICK, "--strict").refused(words)
    handful("embed", images, "--out", out.with_suffix(".safetensors"), "--strict").refused(words)
    handful("evaluate", model, images, "--strict").refused(words)


def test_long_lists_of_unreadable_images_are_cut(handful, images: Path, tmp_path: Path) -> None:
    for n in range(5):
        (images / "fish" / f"bad{n}.jpg").write_bytes(b"no picture")
    ran = handful("fit", images, "--out", tmp_path / "model", *QUICK)
    assert ran.status == 0
    assert ran.err.splitlines()[0].startswith("handful: warning: 5 image(s)")
    assert len(ran.err.splitlines()) == 5
    assert ran.err.splitlines()[-1] == "  and 2 more"


def test_a_class_of_which_no_image_can_be_read(handful, images: Path, out: Path) -> None:
    (images / "dam" / "also bad.jpg").write_bytes(b"no picture")  # of another class
    paths = sorted((images / "fish").iterdir())
    for path in paths:
        path.write_bytes(b"no picture")
    handful("fit", images, "--out", out, *QUICK).refused(
        "no image of class 'fish' can be read", str(paths[0])
    )


def test_no_image_can_be_read(handful, images: Path, out: Path, model: Path) -> None:
    for path in images.glob("*/*"):
        path.write_bytes(b"no picture")
    handful("fit", images, "--out", out, *QUICK).refused("no image of class 'dam'")
    handful("embed", images, "--out", out.with_suffix(".safetensors")).refused(
        "none of the 9 images", str(images)
    )
    handful("evaluate", model, images).refused("none of the 9 images", str(images))


def test_no_validation_image_can_be_read(handful, images: Path, out: Path, tmp_path: Path) -> None:
    split = tmp_path / "split"
    shutil.copytree(images, split / "train")
    for name in ("dam", "fish"):
        (split / "val" / name).mkdir(parents=True)
        (split / "val" / name / "1.jpg").write_bytes(b"no picture")
    handful("fit", split, "--out", out, *QUICK).refused("none of the 2 validation images")


def test_images_to_predict(handful, model: Path, learnt: Path, tmp_path: Path) -> None:
    bad, empty = tmp_path / "bad.jpg", tmp_path / "empty"
    bad.write_bytes(b"no picture")
    empty.mkdir()
    good = next(learnt.glob("*/*.webp"))
    handful("predict", model, good, bad).refused(f"{bad} is not an image that can be read")
    handful("predict", model, good, bad, "--json").refused(str(bad))
    handful("predict", model, tmp_path / "new.jpg").refused(
        f"{tmp_path / 'new.jpg'} does not exist"
    )
    handful("predict", model, empty).refused(f"{empty} has no images")
    handful("predict", model).refused("missing argument 'IMAGE'", "handful predict --help")


def test_labels_to_evaluate_on(handful, model: Path, images: Path, tmp_path: Path) -> None:
    (images / "fish").rename(images / "shark")
    handful("evaluate", model, images).refused("class 'shark'", "dam, fish, windmill")
    table = tmp_path / "table.csv"
    path = next((images / "dam").iterdir())
    table.write_text(f"image,label,split\n{path},dam,val\n")
    handful("evaluate", model, table).refused(f"{table} has validation images only")


def test_one_class_is_enough_to_evaluate_on(handful, model: Path, others: Path, tmp_path: Path):
    shutil.copytree(others / "fish", tmp_path / "only" / "fish")
    found = handful("evaluate", model, tmp_path / "only", "--json").document()
    assert [(c["label"], c["n"]) for c in found["per_class"]] == [("fish", 2)]


# -- features files --------------------------------------------------------------------------------


@pytest.fixture
def changed(features: Path, tmp_path: Path):
    """Write the features file with some of it changed."""

    def write(**changes: object) -> Path:
        path = tmp_path / "changed.safetensors"
        save_features(path, replace(load_features(features), **changes), overwrite=True)
        return path

    return write


def narrow(features: Path) -> dict[str, object]:
    whole = load_features(features)
    return {
        "image_features": np.ascontiguousarray(whole.image_features[:, :64]),
        "text_features": None,
        "templates": None,
        "class_embeddings": np.ascontiguousarray(whole.class_embeddings[:, :64]),
    }


def test_features_of_another_encoder(
    handful, changed, features: Path, model: Path, tmp_path: Path, others: Path
) -> None:
    other = changed(fingerprint="f" * 64, encoder="another")
    for verb in ("predict", "evaluate"):
        handful(verb, model, other).refused("'another' (ffffffff)", "'lite'", str(other))
    other = changed(fingerprint=None, encoder="another")
    handful("predict", model, other).refused("'another'", "'lite'")
    thin = changed(**narrow(features))
    handful("predict", model, thin).refused("width 64", "width 1280")
    thin = changed(**narrow(features), encoder=None, fingerprint=None)
    handful("fit", thin, "--out", tmp_path / "thin", "--method", "zero-shot").done()
    handful("predict", tmp_path / "thin", others, "--encoder", "lite").refused(
        "encoder 'lite' gives features of width 1280", "width 64"
    )


def test_encoder_text_is_compared_where_there_is_no_fingerprint(
    handful, changed, tmp_path: Path
) -> None:
    handful(
        "fit", changed(fingerprint=None, encoder="RN50"), "--out", tmp_path / "m", *QUICK
    ).done()
    handful("predict", tmp_path / "m", changed(fingerprint=None, encoder="RN50")).done()
    handful("predict", tmp_path / "m", changed(fingerprint=None, encoder="ViT-B/32")).refused(
        "'ViT-B/32'", "'RN50'"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": None}, "has no labels"),
        ({"labels": np.zeros(9, int)}, "one class only"),
        ({"split": np.ones(9, int)}, "has no training rows"),
        ({"split": np.full(9, 2)}, "has no training rows"),
    ],
)
def test_features_that_cannot_be_learnt(
    handful, changed, out: Path, changes: dict[str, object], words: str
) -> None:
    path = changed(**changes)
    handful("fit", path, "--out", out, *QUICK).refused(words, str(path))


def test_features_that_cannot_be_evaluated_on(handful, changed, model: Path) -> None:
    path = changed(labels=None)
    handful("evaluate", model, path).refused("has no labels", str(path))
    handful("evaluate", model, changed(class_names=("a", "b", "c"))).refused("other classes")
    nameless = {
        "class_names": None,
        "class_embeddings": None,
        "text_features": None,
        "templates": None,
    }
    handful("evaluate", model, changed(**nameless, labels=np.arange(9))).refused(
        "label 8", "0 to 2"
    )


def test_features_files_that_are_none(handful, model: Path, out: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    handful("predict", model, bad).refused(f"{bad} does not exist")
    bad.write_bytes(b"no features")
    for arguments in (
        ("fit", bad, "--out", out),
        ("predict", model, bad),
        ("evaluate", model, bad),
    ):
        handful(*arguments).refused(f"{bad} is not a safetensors file")


def test_what_goes_with_images_only(handful, features: Path, out: Path) -> None:
    handful("fit", features, "--out", out, "--views", "2").refused("holds features", "embed")
    handful("fit", features, "--out", out, "--template", "a {}").refused("holds features", "embed")
    handful("embed", features, "--out", out.with_suffix(".safetensors")).refused("holds features")
    handful("predict", out, features, features).refused(str(out))


def test_one_features_file_at_a_time(handful, features: Path, model: Path) -> None:
    handful("predict", model, features, features).refused("give it alone")


# -- flags and values ------------------------------------------------------------------------------


ADAPTER = ("--method", "clip-adapter")  # it has settings of every type


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "tip-adaptor"), ("'tip-adaptor'", "Did you mean 'tip-adapter'?")),
        (("--encoder", "light"), ("'light' is unknown", "lite")),
        (("--encoder", "lite:cop"), ("cop",)),
        (("--encoder", "hf:openai/clip vit"), ("'openai/clip vit'", "OWNER/NAME")),
        (("--encoder", "dir:nowhere"), ("'dir:nowhere' names no folder",)),
        (("--encoder", "lite?crop=flor"), ("'flor'", "Did you mean 'floor'?")),
        (("--select", "cvv"), ("'cvv'", "Did you mean 'cv'?")),
        (("--select", "val"), ("validation", "'cv'")),
        (("--select", "cv", "--shots", "1"), ("'cv'", "'fixed'")),
        (("--template", "imagenet7"), ("'imagenet7'", "Did you mean 'imagenet-7'?")),
        (("--template", "{} and {}"), ("'{} and {}'",)),
        ((*ADAPTER, "--set", "blnd=1"), ("'blnd'", "Did you mean 'blend'?")),
        (("--set", "blend"), ("--set is 'blend'", "NAME=VALUE")),
        (("--set", "=1"), ("NAME=VALUE",)),
        ((*ADAPTER, "--set", "blend=much"), ("'much'", "number")),
        ((*ADAPTER, "--set", "blend=true"), ("blend", "True")),
        ((*ADAPTER, "--set", "blend=null"), ("blend", "None")),
        ((*ADAPTER, "--set", "blend=[1]"), ("blend", "[1]")),
        ((*ADAPTER, "--set", "blend=NaN"), ("blend", "nan")),
        ((*ADAPTER, "--set", "blend=-1"), ("blend", "-1")),
        ((*ADAPTER, "--set", "epochs=1.5"), ("epochs", "1.5", "whole")),
        ((*ADAPTER, "--set", "reduction=0"), ("reduction", "0")),
        ((*ADAPTER, "--set", "output_relu=1"), ("output_relu", "true or false")),
        (("--shots", "0"), ("--shots is '0'", "from 1, or 'all'")),
        (("--shots", "few"), ("--shots is 'few'",)),
        (("--shots", "1.5"), ("--shots is '1.5'",)),
        (("--shots", "99"), ("99 shots", "'dam' has 3")),
        (("--views", "-1"), ("'--views'", "'-1'")),
        (("--views", "many"), ("'--views'", "'many'")),
        (("--views", "1000001"), ("'--views'", "1000")),
        (("--seed", "-1"), ("'--seed'", "'-1'")),
        (("--seed", "99999999999999999999"), ("seed", "99999999999999999999")),
        (("--seed", "one"), ("'--seed'", "'one'")),
        (("--metod", "zero-shot"), ("--metod", "Did you mean '--method'?")),
        (("--nothing-like-it",), ("--nothing-like-it", "handful fit --help")),
        (("--method",), ("'--method' requires an argument",)),
        (("more",), ("unexpected extra argument", "more")),
    ],
)
def test_flags_of_fit(handful, learnt: Path, out: Path, arguments, words) -> None:
    handful("fit", learnt, "--out", out, *arguments).refused(*words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--top", "0"), ("'--top'", "'0'")),
        (("--top", "all"), ("'--top'", "'all'")),
        (("--tpo", "1"), ("Did you mean '--top'?",)),
        (("--encoder", "lite:coop"), ("'lite:coop'", "would be wrong")),
    ],
)
def test_flags_of_predict(handful, model: Path, others: Path, arguments, words) -> None:
    handful("predict", model, others, *arguments).refused(*words)


def test_flags_of_embed(handful, learnt: Path, out: Path) -> None:
    handful("embed", learnt, "--out", out.with_suffix(".npz")).refused(".safetensors")
    file = out.with_suffix(".safetensors")
    handful("embed", learnt, "--out", file, "--template", "no name").refused("'no name'")
    handful("embed", learnt, "--out", file, "--views", "-2").refused("'--views'", "'-2'")
    handful("embed", learnt, "--out", file, "--encoder", "lit").refused("Did you mean 'lite'?")
    handful("embed", learnt).refused("--out")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fti",), ("no such command 'fti'", "Did you mean 'fit'?", "handful --help")),
        (("quux",), ("no such command 'quux'",)),
        (("--jsn",), ("--jsn",)),
        (("fit",), ("missing argument 'IMAGES'", "handful fit --help")),
        (("fit", "images"), ("--out",)),
        (("predict",), ("missing argument 'MODEL'",)),
    ],
)
def test_commands(handful, arguments, words) -> None:
    handful(*arguments).refused(*words)


def test_a_flag_given_twice_counts_as_the_last(handful, learnt: Path, tmp_path: Path) -> None:
    """As for most programs, so that a script's flags can be overridden."""
    found = handful(
        "fit",
        learnt,
        "--method",
        "linear-probe",
        "--method",
        "zero-shot",
        "--out",
        tmp_path / "m",
        "--json",
    ).document()
    assert found["method"] == "zero-shot"


def test_wrong_flags_are_said_before_the_work(
    handful, learnt: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoding may take an hour: a name that does not exist is found before it."""
    from handful.classifier import gather
    from handful.features import embed

    def work(*_: object, **__: object) -> None:
        raise AssertionError("this is the work")

    monkeypatch.setattr(gather, "encode_images", work)
    monkeypatch.setattr(embed, "encode_images", work)
    for flags in (
        ("--method", "x"),
        ("--select", "x"),
        ("--set", "x=1"),
        ("--template", "x"),
        ("--seed", str(2**40)),
        ("--encoder", "x"),
        ("--shots", "99"),
    ):
        handful("fit", learnt, "--out", out, *flags).refused()
    handful("embed", learnt, "--out", out.with_suffix(".safetensors"), "--template", "x").refused()


# -- what is there already -------------------------------------------------------------------------


def test_an_existing_classifier_is_kept_unless_forced(
    handful, learnt: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    shutil.copytree(model, out)
    handful("fit", learnt, "--out", out, "--method", "zero-shot").refused(
        f"{out} exists already", "--force"
    )
    before = (out / "config.json").read_bytes()
    assert before == (model / "config.json").read_bytes()
    handful("fit", learnt, "--out", out, "--method", "zero-shot", "--force").done()
    assert b"zero-shot" in (out / "config.json").read_bytes()
    assert list(tmp_path.iterdir()) == [out]


def test_an_existing_features_file_is_kept_unless_forced(
    handful, images: Path, features: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "features.safetensors"
    out.parent.mkdir()
    out.write_bytes(b"precious")
    handful("embed", images, "--out", out).refused(f"{out} exists already", "--force")
    assert out.read_bytes() == b"precious"
    handful("embed", images, "--out", out, "--force").done()
    assert len(load_features(out).image_features) == 9
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    "inside",
    [
        {"thesis.txt": b"precious"},
        {"config.json": b"{}", "model.safetensors": b"precious"},  # a model of another program
        {"config.json": b"[", "model.safetensors": b"precious"},
        {"README.md": b"precious"},
    ],
)
def test_force_never_replaces_a_folder_of_something_else(
    handful, learnt: Path, tmp_path: Path, inside: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, content in inside.items():
        (out / name).write_bytes(content)
    handful("fit", learnt, "--out", out, *QUICK, "--force").refused(f"{out} holds other files")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == inside


def test_force_never_replaces_a_classifier_with_company(
    handful, learnt: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    shutil.copytree(model, out)
    (out / "notes").mkdir()
    handful("fit", learnt, "--out", out, *QUICK, "--force").refused("'notes'")
    assert (out / "notes").is_dir()


def test_force_replaces_neither_a_file_by_a_folder_nor_a_folder_by_a_file(
    handful, learnt: Path, tmp_path: Path
) -> None:
    file, folder = tmp_path / "table.csv", tmp_path / "folder.safetensors"
    file.write_text("precious")
    folder.mkdir()
    handful("fit", learnt, "--out", file, *QUICK, "--force").refused(str(file))
    handful("embed", learnt, "--out", folder, "--force").refused(f"{folder} is a folder")
    assert file.read_text() == "precious"
    assert folder.is_dir()


def test_force_fills_an_empty_folder(handful, learnt: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    handful("fit", learnt, "--out", tmp_path / "out", *QUICK, "--force").done()
    assert (tmp_path / "out" / "config.json").is_file()


def test_names_that_cannot_be_written(handful, learnt: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / ("x" * 300), tmp_path / "file" / "model"):
        handful("fit", learnt, "--out", out, *QUICK).refused("cannot be written")
        handful("embed", learnt, "--out", f"{out}.safetensors").refused("cannot be written")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


# -- the saved classifier (more in tests/classifier) -----------------------------------------------


def test_saved_classifiers_that_are_none(
    handful, others: Path, model: Path, tmp_path: Path
) -> None:
    for verb in ("predict", "evaluate"):
        handful(verb, model.with_name("classifer"), others).refused(
            "does not exist", "Did you mean 'classifier'?"
        )
        handful(verb, others, others).refused(f"{others} is not a saved classifier")
        handful(verb, tmp_path / ("x" * 300), others).refused("does not exist")
    (tmp_path / "file").touch()
    handful("predict", tmp_path / "file", others).refused(f"{tmp_path / 'file'} is a file")


@pytest.mark.slow
def test_refusals_of_a_real_process(handful_process, learnt: Path, out: Path, model: Path) -> None:
    """Nothing below Python's own error handling speaks, either."""
    handful_process("fit", learnt, "--out", out, "--method", "tip-adaptor").refused(
        "Did you mean 'tip-adapter'?"
    )
    handful_process("predict", model, learnt / "no.jpg", "--json").refused("no.jpg does not exist")
