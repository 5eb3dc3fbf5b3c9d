"""A classifier with a correction: both spaces all the way, saved whole, and honest about images."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_corrections import digests_of, of_encoder, small_correction

from handful import FewShotClassifier, InputError, methods, save_features
from handful.classifier.correction import comparing
from handful.datasets.source import open_images
from handful.features.embed import embed_images
from handful.tuning.correction import Correction

PAIRS = [("tip-adapter", "tip-adapter++"), ("tip-x", "tip-x++"), ("ape", "ape++")]


@pytest.fixture
def correction(encoder) -> Correction:
    return of_encoder(encoder)


@pytest.mark.parametrize(("plain", "plus"), PAIRS)
def test_identity_changes_no_answer(encoder, pictures: Path, new, plain: str, plus: str) -> None:
    without = FewShotClassifier(encoder, plain).fit(pictures)
    same = of_encoder(encoder, identity=True)
    for method in (plain, plus):
        found = FewShotClassifier(encoder, method, correction=same).fit(pictures)
        np.testing.assert_array_equal(found.predict_proba(new), without.predict_proba(new))
        assert found.estimate_ == without.estimate_


def test_images_are_compared_in_the_corrected_space(encoder, pictures, new, correction) -> None:
    """The head is what the same head makes of ``[original | corrected]`` features."""
    found = FewShotClassifier(encoder, "tip-adapter++", select="fixed", correction=correction)
    task = found.fit(pictures).gathered_.task
    assert task.corrected and task.X.shape[1] == 2 * encoder.dim
    one = found.head_
    keys = task.X[:, encoder.dim :] / np.linalg.norm(task.X[:, encoder.dim :], axis=1)[:, None]
    np.testing.assert_allclose(one.keys_[:, -encoder.dim :], keys, atol=1e-6)
    plain = FewShotClassifier(encoder, "tip-adapter", select="fixed").fit(pictures)
    np.testing.assert_array_equal(task.X[:, : encoder.dim], plain.gathered_.task.X)
    assert not np.allclose(found.predict_proba(new), plain.predict_proba(new))


def test_near_duplicates_are_those_of_the_original_space(encoder, pictures, correction) -> None:
    """A correction after which all images are alike must not make one fold of them."""
    up = np.zeros((6, 4), np.float32)
    bias = np.array([1e4, 0, 0, 0, 0, 0], np.float32)
    arrays = {**correction.arrays, "up.weight": up, "up.bias": bias}
    blind = replace(correction, arrays=arrays)
    plain = FewShotClassifier(encoder, "tip-adapter").fit(pictures).gathered_.task
    found = FewShotClassifier(encoder, "tip-adapter", correction=blind).fit(pictures).gathered_.task
    np.testing.assert_array_equal(found.groups, plain.groups)
    assert len(set(plain.groups.tolist())) > 1


def test_similarity_is_set_by_itself(encoder, pictures: Path, correction) -> None:
    found = FewShotClassifier(encoder, "proker", correction=correction).fit(pictures)
    assert found.settings_["similarity"] == "corrected"
    # A method of the corrected space alone has no such setting.
    found = FewShotClassifier(encoder, "tip-adapter++", correction=correction).fit(pictures)
    assert "similarity" not in found.settings_


def test_the_saved_folder_is_all_that_is_needed(encoder, pictures, new, tmp_path) -> None:
    file = tmp_path / "correction.safetensors"
    support = sorted(pictures.glob("*/*.png"))
    given = of_encoder(encoder, taught=digests_of([*new[:2], support[0]]))
    given.save(file)
    fitted = FewShotClassifier(encoder, "tip-adapter", correction=file, views=2).fit(pictures)
    assert fitted.gathered_.task.views.shape[2] == 2 * encoder.dim
    first = fitted.save(tmp_path / "first")
    file.unlink()
    shutil.copytree(first, tmp_path / "moved")
    shutil.rmtree(first)
    again = FewShotClassifier.load(tmp_path / "moved", encoder=encoder)
    np.testing.assert_array_equal(again.predict_proba(new), fitted.predict_proba(new))
    # And once more, from what was loaded.
    third = FewShotClassifier.load(again.save(tmp_path / "third"), encoder=encoder)
    np.testing.assert_array_equal(third.predict_proba(new), fitted.predict_proba(new))
    assert third.correction_.fingerprint == given.fingerprint
    # What is evaluated on is compared with what taught the classifier, and with what taught it.
    found = third.evaluate(pictures)
    assert (found.seen_in_training, found.seen_by_correction) == (len(support), 1)
    found = third.evaluate(new[0].parents[1])
    assert (found.seen_in_training, found.seen_by_correction) == (0, 2)
    assert third.answer(new[:1], why=1)[0].evidence["nearest"][0]["similarity"] <= 1
    told = json.loads((tmp_path / "third" / "config.json").read_text())
    assert told["correction"] == {
        "fingerprint": given.fingerprint,
        "form": "projection",
        "objective": "supervised",
        "images": 3,
        "classes": ["cup", "spoon"],
    }
    assert (told["encoder"]["dim"], told["dim"]) == (6, 12)
    assert told["encoder"]["fingerprint"] == encoder.fingerprint
    card = (tmp_path / "third" / "README.md").read_text()
    assert given.fingerprint[:16] in card and "3 images of 2 classes (cup, spoon)" in card


def test_features_and_images_agree(encoder, pictures, new, correction, tmp_path) -> None:
    for name, folder in (("learn", pictures), ("new", new[0].parents[1])):
        embedded = embed_images(open_images(folder, to_learn=False), encoder)
        save_features(tmp_path / f"{name}.safetensors", embedded.features)
    given = {"method": "ape++", "select": "fixed", "correction": correction}
    of_images = FewShotClassifier(encoder, **given).fit(pictures)
    of_rows = FewShotClassifier(**given).fit(str(tmp_path / "learn.safetensors"))
    file = str(tmp_path / "new.safetensors")
    np.testing.assert_allclose(
        of_rows.predict_proba(file), of_images.predict_proba(sorted(new)), atol=1e-6
    )
    np.testing.assert_array_equal(of_images.predict_proba(file), of_rows.predict_proba(file))
    found = of_rows.evaluate(str(tmp_path / "learn.safetensors"))
    assert found.seen_in_training == found.n


def test_inside_a_tower(tiny: Callable[[str], Path], pictures, new, tmp_path: Path) -> None:
    """The published form, which a features file cannot have."""
    from handful import load_encoder
    from handful.tuning.correct import train_correction

    clip = load_encoder(f"dir:{tiny('clip')}")
    settings = {"width": 3, "batch": 4, "scale": 1.0}
    made = train_correction(str(pictures), clip, settings=settings)
    assert made.form == "blocks"
    fitted = FewShotClassifier(clip, "tip-adapter++", correction=made).fit(pictures)
    X = fitted.gathered_.task.X
    assert not np.allclose(X[:, : clip.dim], X[:, clip.dim :], rtol=1e-3)
    again = FewShotClassifier.load(fitted.save(tmp_path / "saved"))
    np.testing.assert_allclose(again.predict_proba(new), fitted.predict_proba(new), atol=1e-6)
    assert again.evaluate(pictures).seen_by_correction == len(made.digests)
    embedded = embed_images(open_images(pictures), clip)
    save_features(tmp_path / "f.safetensors", embedded.features)
    for wrong in (
        lambda: again.predict(str(tmp_path / "f.safetensors")),
        lambda: FewShotClassifier(method="tip-adapter++", correction=made).fit(
            str(tmp_path / "f.safetensors")
        ),
    ):
        with pytest.raises(InputError, match=r"form 'blocks'.* give images"):
            wrong()


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [n for n in methods.names() if not methods.get(n).compares_images()] + ["coop"]
)
def test_methods_that_compare_no_images(encoder, pictures, correction, method: str) -> None:
    wrong = FewShotClassifier(encoder, method, correction=correction)
    with pytest.raises(InputError, match=re.escape(f"'{method}' compares no images")) as said:
        wrong.fit(pictures)
    assert all(name in str(said.value) for name in comparing())
    assert encoder.seen == 0  # before the work


@pytest.mark.parametrize(
    ("method", "settings"), [("ape++", {}), ("ape", {"similarity": "corrected"})]
)
def test_no_correction(encoder, pictures, method: str, settings) -> None:
    with pytest.raises(InputError, match=rf"'{re.escape(method)}' .*'handful correct train'"):
        FewShotClassifier(encoder, method, settings=settings).fit(pictures)
    assert encoder.seen == 0


def test_a_correction_that_would_not_be_used(encoder, pictures, correction) -> None:
    settings = {"similarity": "original"}
    wrong = FewShotClassifier(encoder, "ape", settings=settings, correction=correction)
    with pytest.raises(InputError, match="leaves the correction unused"):
        wrong.fit(pictures)


def test_a_correction_of_another_encoder(encoder, pictures, tmp_path) -> None:
    other = small_correction(6, fingerprint="e" * 64)
    with pytest.raises(InputError, match="belongs to the encoder"):
        FewShotClassifier(encoder, "ape++", correction=other).fit(pictures)
    embedded = embed_images(open_images(pictures), encoder)
    save_features(tmp_path / "f.safetensors", embedded.features)
    with pytest.raises(InputError, match="belongs to the encoder"):
        FewShotClassifier(method="ape++", correction=other).fit(str(tmp_path / "f.safetensors"))
    narrow = small_correction(5)
    with pytest.raises(InputError, match="width 5"):
        FewShotClassifier(encoder, "ape++", correction=narrow).fit(pictures)


def test_a_saved_folder_that_is_not_whole(encoder, pictures, correction, tmp_path) -> None:
    fitted = FewShotClassifier(encoder, "ape++", correction=correction).fit(pictures)
    folder = fitted.save(tmp_path / "saved")
    file = folder / "correction.safetensors"
    of_encoder(encoder, seed=1).save(file, overwrite=True)
    with pytest.raises(InputError, match="it is another correction"):
        FewShotClassifier.load(folder)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match="is no correction, or it is damaged"):
        FewShotClassifier.load(folder)
    file.unlink()
    with pytest.raises(InputError, match=r"correction\.safetensors is missing"):
        FewShotClassifier.load(folder)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"correction": None}))
    with pytest.raises(InputError, match="damaged"):
        FewShotClassifier.load(folder)
    # The folder is one of ours, though, and may be overwritten.
    correction.save(file)
    fitted.save(folder, overwrite=True)
    assert FewShotClassifier.load(folder).correction_ is not None
