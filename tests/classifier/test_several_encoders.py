"""A classifier on the features of several encoders, from images to the saved folder and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from handful import FewShotClassifier, InputError
from handful.classifier.summary import summary
from handful.encoders.joint import JointEncoder, join_specs
from handful.encoders.preprocess import Preprocess
from handful.features.embed import embed_images
from handful.features.extract import encode_images, stream_images
from handful.features.store import FeatureStore


class Brightness:
    """Mean brightness of three strips, D = 3; it cannot read."""

    spec = "brightness"
    dim = 3
    logit_scale = 5.0
    fingerprint = "b" * 64
    default_templates = ()
    has_text = False

    def __init__(self) -> None:
        self.preprocess = Preprocess(size=6, style="coop")
        self.seen = 0

    def encode_images(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.seen += len(pixels)
        assert pixels.shape[1:] == (6, 6, 3), "prepared by its own preprocessing"
        strips = np.asarray(pixels, np.float32).reshape(len(pixels), 3, 2, 6, 3)
        return strips.mean(axis=(2, 3, 4))

    def encode_texts(self, texts):
        raise AssertionError("it has no text side")


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty store for each test, so that what is encoded can be counted."""
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def other() -> Brightness:
    return Brightness()


@pytest.fixture
def both(encoder, other, pictures: Path) -> FewShotClassifier:
    return FewShotClassifier([encoder, other], "cafo", settings={"epochs": 3}).fit(pictures)


# -- learning --------------------------------------------------------------------------------------


def test_it_learns_from_the_features_of_both(both, encoder, other, new: list[Path]) -> None:
    assert both.predict(new) == [path.parent.name for path in new]
    task = both.gathered_.task
    assert task.widths == (6, 3) and task.X.shape == (12, 9)
    assert task.class_embeddings.shape == (3, 6)
    assert task.logit_scale == encoder.logit_scale
    assert both.head_.keys_.shape == (12, 9)
    assert both.encoder_.dim == 9
    assert both.zero_shot_ is not None and both.estimate_ is not None


def test_names_alone_are_judged_by_the_encoder_that_reads(both, encoder, pictures: Path) -> None:
    alone = FewShotClassifier(encoder, "tip-adapter").fit(pictures)
    assert both.zero_shot_ == alone.zero_shot_


def test_who_can_read_may_come_last(encoder, other, pictures: Path) -> None:
    found = FewShotClassifier([other, encoder], "cafo", settings={"epochs": 0}).fit(pictures)
    assert found.gathered_.task.widths == (6, 3)
    assert found.templates_ == encoder.default_templates


def test_without_any_text_it_learns_from_images_alone(blind, other, pictures: Path) -> None:
    found = FewShotClassifier([other, blind], "cafo", settings={"epochs": 3}).fit(pictures)
    assert found.gathered_.task.widths == (3, 6)
    assert found.gathered_.task.class_embeddings is None and found.zero_shot_ is None
    said = " ".join(" ".join(summary(found, "pictures")).split())
    assert "brightness and colours (without text: it learns from the images alone)" in said


def test_validation_images_and_views_are_seen_by_both(paint, encoder, other, tmp_path) -> None:
    paint(tmp_path / "split" / "train", n=3)
    paint(tmp_path / "split" / "val", n=2, seed=5)
    found = FewShotClassifier([encoder, other], "cafo", views=2, settings={"epochs": 2})
    found.fit(tmp_path / "split")
    task = found.gathered_.task
    assert task.X_val.shape == (6, 9) and task.views.shape == (9, 2, 9)
    assert found.selection_["policy"] == "val"
    assert (encoder.seen, other.seen) == (9 + 18 + 6, 9 + 18 + 6)
    assert (found.gathered_.encoded, found.gathered_.reused) == (66, 0)


# -- encoding once ---------------------------------------------------------------------------------


def test_what_one_encoder_has_seen_is_not_encoded_again(encoder, other, pictures: Path) -> None:
    FewShotClassifier(encoder, "tip-adapter").fit(pictures)
    assert (encoder.seen, len(encoder.read)) == (12, 3)
    found = FewShotClassifier([encoder, other], "cafo", settings={"epochs": 0}).fit(pictures)
    assert (encoder.seen, other.seen, len(encoder.read)) == (12, 12, 3)
    assert (found.gathered_.encoded, found.gathered_.reused) == (12, 12)
    alone = FewShotClassifier(other, "tip-adapter").fit(pictures)
    assert other.seen == 12 and alone.gathered_.encoded == 0


def test_features_of_several_are_those_of_each(encoder, other, new: list[Path]) -> None:
    joint = JointEncoder([encoder, other])
    parts = [encode_images(one, new).features for one in (encoder, other)]
    together = encode_images(joint, new, store=FeatureStore())
    np.testing.assert_array_equal(together.features, np.concatenate(parts, axis=2))
    chunks = list(stream_images(joint, new, chunk_size=4))
    assert [len(paths) for paths, _ in chunks] == [4, 4, 1]
    streamed = np.concatenate([encoded.features for _, encoded in chunks])
    np.testing.assert_array_equal(streamed, together.features)
    assert encode_images(joint, []).features.shape == (0, 1, 9)


def test_a_damaged_image_is_left_out_of_both(encoder, other, pictures: Path) -> None:
    damaged = sorted(pictures.glob("red/*.png"))[1]
    damaged.write_bytes(damaged.read_bytes()[:60])
    found = FewShotClassifier([encoder, other], "cafo", settings={"epochs": 0}).fit(pictures)
    assert found.counts_ == (4, 4, 3)
    assert [path for path, _ in found.gathered_.skipped] == [damaged]
    strict = FewShotClassifier([encoder, other], "cafo", strict=True)
    with pytest.raises(InputError, match="cannot be read"):
        strict.fit(pictures)


def test_an_image_that_one_could_not_see_is_left_out(
    encoder, other, new: list[Path], monkeypatch
) -> None:
    """The file is gone when the second encoder comes to it."""
    gone, seen = new[4], encoder.encode_images

    def and_remove(pixels):
        gone.unlink(missing_ok=True)
        return seen(pixels)

    monkeypatch.setattr(encoder, "encode_images", and_remove)
    found = encode_images(JointEncoder([encoder, other]), new, strict=False)
    assert found.kept.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert found.features.shape == (8, 1, 9) and len(found.digests) == 8
    assert [path for path, _ in found.skipped] == [gone]
    rest = encode_images(JointEncoder([encoder, other]), [p for p in new if p != gone])
    np.testing.assert_array_equal(found.features, rest.features)
    assert found.digests == rest.digests


# -- saved and loaded ------------------------------------------------------------------------------


def test_it_is_saved_and_answers_the_same(
    both, encoder, other, new: list[Path], pictures: Path, tmp_path: Path
) -> None:
    both.save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model", encoder=[encoder, other])
    np.testing.assert_array_equal(loaded.predict_proba(new), both.predict_proba(new))
    assert loaded.verified
    assert loaded.evaluate(pictures).accuracy == both.evaluate(pictures).accuracy
    assert loaded.evaluate(pictures).seen_in_training == 12
    ((paths, probabilities, _),) = loaded.predict_stream(new)
    assert paths == new
    np.testing.assert_array_equal(probabilities, both.predict_proba(new))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["encoder"]["spec"] == "joint:colours+brightness"
    assert config["dim"] == config["encoder"]["dim"] == 9
    assert "widths" not in config["settings"]


def test_other_encoders_are_refused(both, encoder, other, new, tmp_path: Path) -> None:
    both.save(tmp_path / "model")
    with pytest.raises(InputError, match=r"'colours' gives features of width 6.*fitted on width 9"):
        FewShotClassifier.load(tmp_path / "model", encoder=encoder).predict(new)
    changed = Brightness()
    changed.fingerprint = "e" * 64
    with pytest.raises(InputError, match="is now another"):
        FewShotClassifier.load(tmp_path / "model", encoder=[encoder, changed]).predict(new)


@pytest.mark.parametrize("widths", [[5, 4], [9], [6, 3, 0], [[6, 3]], [6, 4], []])
def test_widths_that_do_not_fit_are_damage(both, tmp_path: Path, widths) -> None:
    both.head_.widths_ = np.array(widths, dtype=np.int64)
    both.head_.n_features_in_ = 9
    both.save(tmp_path / "model")
    with pytest.raises(InputError, match="damaged"):
        FewShotClassifier.load(tmp_path / "model")


def test_summary_and_card_name_each_encoder(both, tmp_path: Path) -> None:
    said = "\n".join(summary(both, "pictures"))
    assert "Encoder       colours and brightness\n" in said
    both.save(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "- encoder: `colours` and `brightness` (fingerprint `" in card


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["tip-adapter", "zero-shot", "clip-adapter"])
def test_other_methods_refuse_before_anything_is_encoded(
    encoder, other, pictures: Path, method: str
) -> None:
    with pytest.raises(InputError) as caught:
        FewShotClassifier([encoder, other], method).fit(pictures)
    assert str(caught.value) == (
        f"method '{method}' takes one encoder, and there are 2: colours, brightness; keep one, or "
        "use method cafo."
    )
    assert encoder.seen == other.seen == 0


def test_and_before_anything_is_loaded(pictures: Path, monkeypatch) -> None:
    several = ["hf:nobody/nothing", "dir:nowhere"]
    for named in (several, join_specs(several)):
        with pytest.raises(InputError, match="there are 2: hf:nobody/nothing, dir:nowhere; keep"):
            FewShotClassifier(named, "tip-adapter").fit(pictures)
    monkeypatch.setenv("HANDFUL_ENCODER", join_specs(several))
    with pytest.raises(InputError, match="there are 2: hf:nobody/nothing, dir:nowhere; keep"):
        FewShotClassifier(method="tip-adapter").fit(pictures)


def test_a_list_of_one_is_that_one(encoder, pictures: Path, new: list[Path]) -> None:
    listed = FewShotClassifier([encoder], "tip-adapter").fit(pictures)
    alone = FewShotClassifier(encoder, "tip-adapter").fit(pictures)
    np.testing.assert_array_equal(listed.predict_proba(new), alone.predict_proba(new))
    assert listed.encoder_ == alone.encoder_


def test_one_encoder_is_enough_for_cafo(encoder, pictures: Path, new, tmp_path: Path) -> None:
    found = FewShotClassifier(encoder, "cafo", settings={"epochs": 3}).fit(pictures)
    assert found.gathered_.task.widths is None
    found.save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model", encoder=encoder)
    np.testing.assert_array_equal(loaded.predict_proba(new), found.predict_proba(new))


def test_a_features_file_holds_one_encoder(encoder, other, pictures: Path) -> None:
    from handful.datasets.source import open_images

    with pytest.raises(InputError, match="a features file takes one encoder, and there are 2: col"):
        embed_images(open_images(str(pictures)), JointEncoder([encoder, other]))
    assert encoder.seen == 0
