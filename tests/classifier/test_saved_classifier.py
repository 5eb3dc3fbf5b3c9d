"""The saved folder: what is in it, that it comes back the same, and that damage is found."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save
from small_corrections import correction_for

from handful import FewShotClassifier, InputError, methods
from handful.classifier import saved

FILES = {"config.json", "model.safetensors", "trust.safetensors", "README.md"}


@pytest.fixture
def model(fitted: FewShotClassifier, tmp_path: Path) -> Path:
    return fitted.save(tmp_path / "model")


def config_of(model: Path) -> dict[str, Any]:
    return json.loads((model / "config.json").read_text(encoding="utf-8"))


# -- what is saved ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", methods.names())
def test_what_comes_back_is_the_same(
    encoder, pictures: Path, new: list[Path], tmp_path: Path, method: str
) -> None:
    needed = correction_for(method, encoder)
    one = FewShotClassifier(encoder, method, seed=3, shots=3, correction=needed).fit(pictures)
    assert one.save(tmp_path / "model") == tmp_path / "model"
    other = FewShotClassifier.load(tmp_path / "model", encoder=encoder)
    np.testing.assert_array_equal(other.predict_proba(new), one.predict_proba(new))
    for name in (
        "method",
        "shots",
        "seed",
        "views",
        "classes_",
        "counts_",
        "digests_",
        "templates_",
        "encoder_",
        "selection_",
        "estimate_",
        "zero_shot_",
    ):
        assert getattr(other, name) == getattr(one, name), name
    other.save(tmp_path / "again")
    for file in FILES:
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


def test_what_is_in_the_folder(fitted: FewShotClassifier, model: Path) -> None:
    assert {path.name for path in model.iterdir()} == FILES
    config = config_of(model)
    assert config["format_version"] == saved.FORMAT_VERSION == 1
    assert config["method"] == "tip-adapter"
    assert config["settings"] == fitted.head_.settings()
    assert config["classes"] == ["blue", "green", "red"]
    assert config["encoder"] == {"spec": "colours", "fingerprint": "c" * 64, "dim": 6}
    assert config["templates"] == ["a {} picture"]
    assert config["selection"]["policy"] == "cv"
    assert config["selection"]["trace"]
    assert config["estimate"]["accuracy"] == fitted.estimate_.accuracy
    assert config["support"]["counts"] == [4, 4, 4]
    assert config["versions"].keys() >= {"handful", "python", "torch", "numpy", "scikit-learn"}
    arrays = load_file(model / "model.safetensors")
    assert set(arrays) == {"text_", *methods.get("tip-adapter").learned}


def test_nothing_of_it_is_pickled_or_runs(model: Path) -> None:
    for file in model.iterdir():
        content = file.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))  # a pickle, or the archive of torch.save
        assert not file.stat().st_mode & stat.S_IXUSR


def test_the_folder_has_the_rights_of_any_new_folder(model: Path, tmp_path: Path) -> None:
    (tmp_path / "any").mkdir()
    assert model.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_the_card_tells_the_estimate_the_classes_and_the_limits(model: Path) -> None:
    card, config = (model / "README.md").read_text("utf-8"), config_of(model)
    head, _, body = card.removeprefix("---\n").partition("---\n")
    assert "library_name: handful" in head
    assert f"{config['estimate']['accuracy']:.1%} on new images (90% interval" in body
    assert "by cross-validation" in body
    for name in config["classes"]:
        assert f"| {name} | 4 |" in body
    assert "`colours`" in body
    assert config["versions"]["handful"] in body
    assert "What it is not" in body


def test_names_that_would_break_the_card(encoder, pictures: Path, tmp_path: Path) -> None:
    (pictures / "red").rename(pictures / "red | rouge")
    FewShotClassifier(encoder, "zero-shot").fit(pictures).save(tmp_path / "model")
    rows = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert "| red \\| rouge | 4 |" in rows


def test_classes_in_any_script(encoder, pictures: Path, new: list[Path], tmp_path: Path) -> None:
    (pictures / "red").rename(pictures / "красный 红")
    FewShotClassifier(encoder, "tip-adapter").fit(pictures).save(tmp_path / "model")
    assert "красный 红" in (tmp_path / "model" / "config.json").read_text("utf-8")
    again = FewShotClassifier.load(tmp_path / "model", encoder=encoder)
    assert again.classes_ == ("blue", "green", "красный 红")


# -- written whole or not at all -------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_nothing_new_behind(
    fitted, model: Path, new: list[Path], tmp_path: Path, monkeypatch, overwrite, error
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    out = place / "out"
    if overwrite:
        shutil.copytree(model, out)
    write = Path.write_text

    def fail(path: Path, *arguments: Any, **more: Any) -> int:
        write(path, "{", encoding="utf-8")  # as much as there was room for
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fail)
        expected = InputError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(expected) as raised:
            fitted.save(out, overwrite=overwrite)
        if isinstance(error, OSError):
            assert str(raised.value) == f"{out} cannot be written: No space left on device."
    assert [path.name for path in place.iterdir()] == (["out"] if overwrite else [])
    if overwrite:
        again = FewShotClassifier.load(out, encoder=fitted.encoder)
        np.testing.assert_array_equal(again.predict_proba(new), fitted.predict_proba(new))


def test_an_existing_classifier_is_kept_unless_asked(fitted, model: Path, tmp_path: Path) -> None:
    before = {file: (model / file).read_bytes() for file in FILES}
    fitted.seed = 99
    with pytest.raises(InputError, match="exists already"):
        fitted.save(model)
    assert {file: (model / file).read_bytes() for file in FILES} == before
    fitted.save(model, overwrite=True)
    assert config_of(model)["seed"] == 99


def test_overwriting_through_a_link_keeps_what_it_led_to(fitted, model: Path, tmp_path) -> None:
    link = tmp_path / "link"
    link.symlink_to(model, target_is_directory=True)
    before = (model / "config.json").read_bytes()
    fitted.seed = 99
    fitted.save(link, overwrite=True)
    assert config_of(link)["seed"] == 99
    assert (model / "config.json").read_bytes() == before


# -- damage ----------------------------------------------------------------------------------------


@pytest.fixture
def refused(model: Path, encoder) -> Callable[..., str]:
    """Loading must be refused in one sentence that names the folder; return it."""

    def refused(says: str = ".") -> str:
        with pytest.raises(InputError, match=says) as error:
            FewShotClassifier.load(model, encoder=encoder)
        sentence = str(error.value)
        assert str(model) in sentence
        assert "\n" not in sentence
        return sentence

    return refused


@pytest.fixture
def edit(model: Path) -> Callable[..., None]:
    """Set ``config[key][key]… = value`` in the saved file."""

    def edit(*keys_and_value: Any) -> None:
        *keys, last, value = keys_and_value
        config = inner = config_of(model)
        for key in keys:
            inner = inner[key]
        inner[last] = value
        (model / "config.json").write_text(json.dumps(config))

    return edit


@pytest.fixture
def rewrite(model: Path, edit) -> Callable[..., None]:
    """Change an array of the weights and make their digest right again."""

    def rewrite(**arrays: Any) -> None:
        weights = load_file(model / "model.safetensors")
        for name, change in arrays.items():
            weights[name] = np.ascontiguousarray(change(weights.get(name)))
        content = save(weights)
        (model / "model.safetensors").write_bytes(content)
        edit("weights_sha256", hashlib.sha256(content).hexdigest())

    return rewrite


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_missing_files(model: Path, refused, file: str) -> None:
    (model / file).unlink()
    refused(file)


def test_the_card_is_not_needed(model: Path, encoder) -> None:
    (model / "README.md").unlink()
    FewShotClassifier.load(model, encoder=encoder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "config.json is damaged"),
        (b"{", "config.json is damaged"),
        (b"[]", "config.json is damaged"),
        (b"null", "config.json is damaged"),
        (b"\xff\xfe", "config.json is damaged"),
        (b"[" * 100_000, "config.json is damaged"),
        (b"{}", "is not a saved classifier"),
        (b'{"format": "something else", "format_version": 1}', "is not a saved classifier"),
    ],
)
def test_a_config_that_is_none(model: Path, refused, content: bytes, says: str) -> None:
    (model / "config.json").write_bytes(content)
    refused(says)


@pytest.mark.parametrize("version", [2, 0, "1", None, [1]])
def test_other_format_versions(edit, refused, version: Any) -> None:
    edit("format_version", version)
    sentence = refused("this handful reads 1")
    assert f"format version {version!r}" in sentence


@pytest.mark.parametrize("where", [0, 8, 200, -1])
def test_one_bit_of_the_weights(model: Path, refused, where: int) -> None:
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[where] ^= 1
    (model / "model.safetensors").write_bytes(bytes(weights))
    refused("model.safetensors is damaged")


@pytest.mark.parametrize("left", [0, 7, 100])
def test_weights_cut_short(model: Path, edit, refused, left: int) -> None:
    content = (model / "model.safetensors").read_bytes()[:left]
    (model / "model.safetensors").write_bytes(content)
    refused("model.safetensors is damaged")
    # Nor does the right digest make them whole.
    edit("weights_sha256", hashlib.sha256(content).hexdigest())
    refused("model.safetensors is damaged")


CHANGES: dict[str, Callable[[Any], Any]] = {
    "rows": lambda a: a[:-1],
    "columns": lambda a: a[..., :-1],
    "flat": lambda a: a.reshape(-1),
    "deep": lambda a: a[None],
    "empty": lambda a: a[:0],
    "nan": lambda a: np.full(a.shape, np.nan, np.float32),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("method", "name"),
    [(name, array) for name in methods.names() for array in ("text_", *methods.get(name).learned)],
)
def test_arrays_that_do_not_fit(
    encoder, pictures: Path, new: list[Path], tmp_path: Path, method: str, name: str, change: str
) -> None:
    settings = {"epochs": 1} if "epochs" in methods.get(method)().settings() else {}
    needed = correction_for(method, encoder)
    classifier = FewShotClassifier(
        encoder, method, settings=settings, select="fixed", correction=needed
    )
    model = classifier.fit(pictures).save(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    changed = np.ascontiguousarray(CHANGES[change](weights[name]))
    if not weights[name].size:
        pytest.skip(f"{method} as it comes has no use for {name}: it is empty, and so unchanged")
    content = save({**weights, name: changed})
    (model / "model.safetensors").write_bytes(content)
    config = config_of(model) | {"weights_sha256": hashlib.sha256(content).hexdigest()}
    (model / "config.json").write_text(json.dumps(config))
    try:
        loaded = FewShotClassifier.load(model, encoder=encoder)
    except InputError as error:
        assert "is damaged" in str(error)
        assert str(model) in str(error)
    else:
        # An axis of length 1 more or less need not matter; then nothing else may.
        assert change in ("flat", "deep")
        np.testing.assert_array_equal(loaded.predict_proba(new), classifier.predict_proba(new))


def test_labels_that_have_no_class(rewrite, refused) -> None:
    rewrite(key_labels_=lambda a: a + 1)
    refused("is damaged")


def test_more_or_fewer_arrays(rewrite, refused, model: Path) -> None:
    rewrite(more=lambda _: np.ones(2, np.float32))
    refused("'more'")


@pytest.mark.parametrize(
    ("keys_and_value", "says"),
    [
        (("method", "tip-adapter-2"), "method 'tip-adapter-2', which this handful does not have"),
        (("method", None), "method None"),
        (("method", "zero-shot"), "needs"),
        (("settings", {"blnd": 1}), "damaged"),
        (("settings", "blend", "much"), "'blend'.*'much'"),
        (("settings", "blend", -1), "'blend'.*-1"),
        (("settings", []), "damaged"),
        (("classes", ["blue"]), "damaged"),
        (("classes", ["blue", "green"]), "damaged"),
        (("classes", ["blue", "blue", "red"]), "different names"),
        (("classes", "abc"), "different names"),
        (("classes", [1, 2, 3]), "different names"),
        (("classes", None), "different names"),
        (("encoder", None), "damaged"),
        (("encoder", "colours"), "damaged"),
        (("encoder", "spec", 3), "damaged"),
        (("encoder", "fingerprint", 3), "damaged"),
        (("encoder", "dim", 7), "damaged"),
        (("dim", 7), "damaged"),
        (("dim", "six"), "damaged"),
        (("logit_scale", 0), "logit scale is 0"),
        (("logit_scale", float("nan")), "logit scale is nan"),
        (("logit_scale", None), "damaged"),
        (("weights_sha256", None), "damaged"),
        (("templates", None), "damaged"),
        (("support", None), "damaged"),
        (("support", "digests", None), "damaged"),
        (("estimate", {"accuracy": 1}), "damaged"),
    ],
)
def test_an_edited_config(edit, refused, keys_and_value: tuple[Any, ...], says: str) -> None:
    edit(*keys_and_value)
    refused(says)


# What the answers depend on, and what a loaded classifier gives back.
@pytest.mark.parametrize(
    "key",
    [
        "format_version",
        "method",
        "settings",
        "classes",
        "encoder",
        "dim",
        "logit_scale",
        "templates",
        "support",
        "selection",
        "estimate",
        "weights_sha256",
    ],
)
def test_a_config_that_lacks_something(model: Path, refused, key: str) -> None:
    config = config_of(model)
    del config[key]
    (model / "config.json").write_text(json.dumps(config))
    assert key in refused().replace("format version", "format_version")


def test_no_classifier_there(tmp_path: Path, model: Path) -> None:
    with pytest.raises(InputError, match=r"modle does not exist.*Did you mean 'model'"):
        FewShotClassifier.load(tmp_path / "modle")
    with pytest.raises(InputError, match="is not a saved classifier: it has no config"):
        FewShotClassifier.load(tmp_path)
    with pytest.raises(InputError, match=r"config\.json is a file"):
        FewShotClassifier.load(model / "config.json")


# -- another encoder -------------------------------------------------------------------------------


def test_the_encoder_is_asked_for_at_the_first_image_only(model: Path, edit) -> None:
    """Reading a classifier needs neither its encoder nor the time to load it."""
    edit("encoder", "spec", "no such encoder")
    classifier = FewShotClassifier.load(model)
    assert classifier.classes_ == ("blue", "green", "red")
    with pytest.raises(InputError, match="'no such encoder' is unknown"):
        classifier.predict(["any.jpg"])


def test_an_encoder_of_another_fingerprint(model: Path, encoder, new: list[Path]) -> None:
    encoder.fingerprint, seen = "e" * 64, encoder.seen
    classifier = FewShotClassifier.load(model, encoder=encoder)
    for verb in (classifier.predict, classifier.predict_proba):
        with pytest.raises(InputError, match=r"'colours' \(cccccccc\).*now another \(eeeeeeee\)"):
            verb(new)
    assert encoder.seen == seen


def test_an_encoder_of_another_width(model: Path, encoder, new: list[Path]) -> None:
    encoder.dim = 7
    with pytest.raises(InputError, match="width 7, but the classifier was fitted on width 6"):
        FewShotClassifier.load(model, encoder=encoder).predict(new)
