"""Sentences about classes, from the call to the saved folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_corrections import correction_for

from handful import FewShotClassifier, InputError, load_features, save_features
from handful.classifier import gather
from handful.classifier.gather import gather_features, gather_images
from handful.classifier.summary import summary
from handful.datasets.sentences import ClassSentences, SentenceRecord
from handful.datasets.source import open_images
from handful.features.embed import embed_images
from handful.functional.pooling import pool_templates
from handful.methods import registry
from handful.methods.zero_shot import ZeroShot

SENTENCES = {
    "Red": ["as a red tomato", "as blood, red"],
    "green": "green as grass",
    "blue": ["the blue sky", "a grey sea", "blue jeans"],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "colours of things.json"
    path.write_text(json.dumps(SENTENCES))
    return path


@pytest.fixture
def single(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Make ``zero-shot`` a method that uses single prompts; return the prompts it was given."""
    given: list[Any] = []

    class Reader(ZeroShot):
        uses_prompts = True

        def _learn(self, support: Any) -> None:
            given.append(support.prompts)

    get = registry.get
    for place in ("handful.classifier.few_shot.head_kind", "handful.methods.registry.get"):
        monkeypatch.setattr(place, lambda name: Reader if name == "zero-shot" else get(name))
    return given


def prompts_of(encoder, *texts: str | None) -> np.ndarray:
    kept = encoder.encode_texts([text or "" for text in texts])
    return kept * np.array([[text is not None] for text in texts])


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["norm_mean_norm", "mean_norm"])
def test_sentences_stand_for_templates(
    encoder, pictures: Path, file: Path, how: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    classifier = FewShotClassifier(encoder, "zero-shot", prompts=file, text_pool=how).fit(pictures)
    read = ["the blue sky", "a grey sea", "blue jeans", *SENTENCES["Red"], "green as grass"]
    assert sorted(encoder.read) == sorted(read)
    raw = prompts_of(encoder, "the blue sky", "a grey sea", "blue jeans")
    want = pool_templates(torch.from_numpy(raw).float(), how)
    np.testing.assert_allclose(classifier.head_.text_[0], want, rtol=1e-6)
    assert classifier.templates_ == ()
    assert classifier.sentences_.counts == (3, 1, 2)
    assert classifier.sentences_.file == "colours of things.json"


def test_templates_and_sentences_count_alike(encoder, pictures: Path) -> None:
    classifier = FewShotClassifier(
        encoder, "zero-shot", templates=["my {}", "a {}"], prompts=SENTENCES
    ).fit(pictures)
    raw = prompts_of(encoder, "my blue", "a blue", "the blue sky", "a grey sea", "blue jeans")
    want = pool_templates(torch.from_numpy(raw).float())
    np.testing.assert_allclose(classifier.head_.text_[0], want, rtol=1e-6)
    assert classifier.templates_ == ("my {}", "a {}")
    assert classifier.sentences_.file is None


def test_with_templates_a_class_may_lack_sentences(encoder, pictures: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"for 2 of 3 classes \('green', 'red'\): there only templ"
    ):
        classifier = FewShotClassifier(
            encoder, "zero-shot", templates="my {}", prompts={"blue": "the sea"}
        ).fit(pictures)
    assert classifier.sentences_.counts == (1, 0, 0)


def test_every_method_takes_them(encoder, pictures: Path, new: list[Path], file: Path) -> None:
    for name in registry.names():
        try:
            needed = correction_for(name, encoder)
            classifier = FewShotClassifier(
                encoder, name, prompts=file, select="fixed", correction=needed
            )
            classifier.fit(pictures)
        except InputError as error:  # a method that needs more than one encoder
            assert "encoder" in str(error), name
            continue
        assert classifier.sentences_.counts == (3, 1, 2)
        assert set(classifier.predict(new)) <= {"blue", "green", "red"}


def test_what_is_wrong_is_said_before_the_work(encoder, blind, pictures: Path, tmp_path) -> None:
    def refused(message: str, images: Path = pictures, by=encoder, **options: Any) -> None:
        with pytest.raises(InputError, match=message):
            FewShotClassifier(by, "tip-adapter", **options).fit(images)
        assert by.seen == 0

    without = {key: value for key, value in SENTENCES.items() if key != "green"}
    refused("prompts has no sentences for the class 'green'", prompts=without)
    refused("no.json does not exist", prompts=tmp_path / "no.json")
    refused("no text tower, so there is nothing to read prompts", by=blind, prompts=SENTENCES)
    save_features(tmp_path / "f.safetensors", embed_images(open_images(pictures), encoder).features)
    encoder.seen = 0
    refused("holds features: templates, prompts and", tmp_path / "f.safetensors", prompts=SENTENCES)


# -- the task --------------------------------------------------------------------------------------


def test_single_prompts_are_in_the_task(encoder, pictures: Path) -> None:
    source = open_images(pictures)
    sentences = ClassSentences((("the blue sky", "a grey sea"), (), ("red",)))
    found = gather_images(source, encoder, templates=["my {}"], sentences=sentences)
    want = prompts_of(
        encoder,
        *("my blue", "the blue sky", "a grey sea"),
        *("my green", None, None),
        *("my red", "red", None),
    )
    np.testing.assert_array_equal(found.task.prompts, want.reshape(3, 3, -1))
    pooled = pool_templates(torch.from_numpy(found.task.prompts))
    np.testing.assert_allclose(found.task.class_embeddings, pooled)
    assert found.sentences == sentences.record()
    # Without sentences they are the templates.
    plain = gather_images(source, encoder, templates=["my {}", "a {}"])
    assert plain.task.prompts.shape == (3, 2, encoder.dim)
    assert plain.sentences is None


def test_the_other_pooling_leaves_no_single_prompts(encoder, pictures: Path) -> None:
    """Heads would pool them their own way."""
    source = open_images(pictures)
    templates = ["my {}", "a {}"]
    task = gather_images(
        source, encoder, templates=templates, text_pool="mean_norm", keep_prompts=True
    ).task
    assert task.prompts is None and task.class_embeddings is not None


def test_without_text_there_are_no_prompts(blind, pictures: Path) -> None:
    assert gather_images(open_images(pictures), blind).task.prompts is None


def test_many_prompts_are_kept_for_those_who_use_them(
    encoder, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, arguments = open_images(pictures), {"templates": ["my {}", "a {}"]}
    features = embed_images(source, encoder, **arguments).features
    ways = (
        lambda **more: gather_images(source, encoder, **arguments, **more),
        lambda **more: gather_features(features, name="f", shots="all", seed=1, **more),
    )
    for way in ways:
        for few in (3 * 2 * encoder.dim, 3 * 2 * encoder.dim - 1):
            monkeypatch.setattr(gather, "_FEW", few)
            assert (way().task.prompts is not None) == (few == 3 * 2 * encoder.dim)
            np.testing.assert_array_equal(
                way(keep_prompts=True).task.prompts, features.text_features
            )
    # Not a copy: it may be hundreds of megabytes.
    assert ways[1](keep_prompts=True).task.prompts is features.text_features


def test_a_method_that_uses_them_gets_them(
    encoder, pictures: Path, tmp_path: Path, single: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "_FEW", 0)
    FewShotClassifier(encoder, "zero-shot", prompts=SENTENCES).fit(pictures)
    embedded = embed_images(open_images(pictures), encoder, prompts=SENTENCES)
    save_features(tmp_path / "f.safetensors", embedded.features)
    FewShotClassifier(method="zero-shot").fit(tmp_path / "f.safetensors")
    assert len(single) >= 2
    for prompts in single:
        assert (prompts.norm(dim=-1) > 0.5).sum(1).tolist() == [3, 1, 2]
        torch.testing.assert_close(prompts, single[0])


# -- what is kept ----------------------------------------------------------------------------------


def test_the_saved_classifier_needs_no_sentences(
    encoder, pictures: Path, new: list[Path], file: Path, tmp_path: Path
) -> None:
    classifier = FewShotClassifier(encoder, "tip-adapter", prompts=file).fit(pictures)
    folder = classifier.save(tmp_path / "model")
    file.unlink()
    encoder.read.clear()
    again = FewShotClassifier.load(folder, encoder=encoder)
    np.testing.assert_array_equal(again.predict_proba(new), classifier.predict_proba(new))
    assert encoder.read == []
    assert again.sentences_ == classifier.sentences_
    assert summary(again, "x") == summary(classifier, "x")
    # The sentences themselves are nowhere in it.
    assert "tomato" not in (folder / "config.json").read_text() + (folder / "README.md").read_text()
    again.save(tmp_path / "copy")
    for name in ("config.json", "README.md"):
        assert (tmp_path / "copy" / name).read_text() == (folder / name).read_text()


def test_a_classifier_of_before_there_were_sentences_loads(fitted, tmp_path: Path) -> None:
    folder = fitted.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("sentences") is None
    (folder / "config.json").write_text(json.dumps(config))
    assert FewShotClassifier.load(folder).sentences_ is None


@pytest.mark.parametrize(
    "damage", [{"counts": [1, 2]}, {"counts": "three"}, {"sha256": None}, {"file": 3}]
)
def test_a_damaged_record(encoder, pictures: Path, tmp_path: Path, damage: dict[str, Any]) -> None:
    classifier = FewShotClassifier(encoder, "zero-shot", prompts=SENTENCES).fit(pictures)
    path = classifier.save(tmp_path / "model") / "config.json"
    config = json.loads(path.read_text())
    config["sentences"] |= damage
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config.json is damaged \(it"):
        FewShotClassifier.load(path.parent)


def test_the_card_tells_how_many_and_from_where(encoder, pictures: Path, file: Path, tmp_path):
    def card(**options: Any) -> str:
        classifier = FewShotClassifier(encoder, "tip-adapter", **options).fit(pictures)
        return (classifier.save(tmp_path / "m", overwrite=True) / "README.md").read_text()

    plain = card()
    assert "sentences" not in plain
    assert "| class names alone (zero-shot) |" in plain
    assert "| class | training images |\n| --- | --- |\n| blue | 4 |\n| green | 4 |\n" in plain
    alone = card(prompts=file)
    assert "- prompt templates: none\n" in alone
    assert "- sentences: 1 to 3 sentences per class from colours of things.json; SHA" in alone
    assert "| blue | 4 | 3 |\n| green | 4 | 1 |\n| red | 4 | 2 |\n" in alone
    assert "| sentences alone (zero-shot) |" in alone
    both = card(prompts=file, templates=["my {}", "a {}"])
    assert "| class | training images | prompts |\n| --- | --- | --- |\n| blue | 4 | 5 |\n" in both
    assert "| sentences, and names in templates, alone (zero-shot) |" in both


def test_the_summary_tells_it_too(encoder, pictures: Path, file: Path) -> None:
    def lines(**options: Any) -> list[str]:
        return summary(FewShotClassifier(encoder, "tip-adapter", **options).fit(pictures), "x")

    said = lines(prompts=file)
    assert said[3:4] == ["Prompts       1 to 3 sentences per class from colours of things.json"]
    assert any(line.startswith("  texts only  ") for line in said)
    assert not any(line.startswith(("Names", "  names only")) for line in said)
    assert " ".join(lines(prompts=SENTENCES, templates="{}")[3].split()).endswith(
        "from Python, and 1 template"
    )
    assert "and 7 templates" in " ".join(lines(prompts=file, templates="imagenet-7")[3].split())


def test_a_features_file_tells_of_its_sentences(
    encoder, pictures: Path, file: Path, tmp_path: Path
) -> None:
    """What is learnt from it is what is learnt from the images."""
    path = tmp_path / "f.safetensors"
    embedded = embed_images(open_images(pictures), encoder, templates="my {}", prompts=file)
    save_features(path, embedded.features)
    assert load_features(path).sentences == embedded.features.sentences
    of_images = FewShotClassifier(encoder, templates="my {}", prompts=file).fit(pictures)
    of_file = FewShotClassifier().fit(path)
    assert isinstance(of_file.sentences_, SentenceRecord)
    assert of_file.sentences_ == of_images.sentences_
    assert of_file.templates_ == of_images.templates_ == ("my {}",)
    for name, array in of_images.head_.arrays().items():
        np.testing.assert_array_equal(array, of_file.head_.arrays()[name])
