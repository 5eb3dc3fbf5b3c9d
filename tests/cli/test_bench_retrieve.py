"""``handful bench retrieve``: captions of photographs, plain and with a fitted classifier."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from handful import FewShotClassifier, load_encoder
from handful.evaluation.retrieval import retrieval

WORDS = {"dam": "a wall that holds a river", "fish": "it swims", "windmill": "wind turns the sails"}


@pytest.fixture(scope="module")
def captions(others: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two captions of each of the photographs of ``others``, as Karpathy would have them."""
    images = [
        {
            "filename": path.name,
            "filepath": path.parent.name,
            "split": "test" if at else "train",
            "sentences": [{"raw": WORDS[path.parent.name]}, {"raw": f"a {path.parent.name}, {at}"}],
        }
        for at, path in enumerate(sorted(others.glob("*/*")))
    ]
    file = tmp_path_factory.mktemp("captions") / "dataset_photos.json"
    file.write_text(json.dumps({"images": images, "dataset": "photos"}))
    return f"captions:{file}@{others}"


@pytest.fixture(scope="module")
def adapter(learnt: Path, tmp_path_factory: pytest.TempPathFactory, handful) -> Path:
    """CLIP-Adapter with both branches, fitted on other photographs."""
    folder = tmp_path_factory.mktemp("adapter") / "model"
    handful(
        "fit", learnt, "--encoder", "lite", "--method", "clip-adapter", "--select", "fixed",
        "--set", "branch=both", "--set", "blend=0.6", "--out", folder,
    ).done()  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def plain(others: Path) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Features of the five test images by the encoder itself, their captions and whose they are."""
    from PIL import Image

    paths = sorted(others.glob("*/*"))
    X = load_encoder("lite").encode_images([Image.open(path) for path in paths[1:]])
    texts = [
        text
        for at, path in enumerate(paths)
        for text in (WORDS[path.parent.name], f"a {path.parent.name}, {at}")
    ]
    return X, texts[2:], np.repeat(np.arange(5), 2)


def test_the_document_tells_what_the_features_give(handful, captions, adapter, plain) -> None:
    X, texts, owners = plain
    T = load_encoder("lite").encode_texts([f"a photo of {text}" for text in texts])
    head = FewShotClassifier.load(adapter).head_
    found = handful(
        "bench", "retrieve", captions, "--model", adapter, "--adapt", "texts", "--at", "2,1,2",
        "--template", "a photo of {}", "--json",
    ).document()  # fmt: skip
    rows = found.pop("rows")
    assert found == {
        "captions": "dataset_photos",
        "split": "test",
        "template": "a photo of {}",
        "encoder": "lite",
        "method": "clip-adapter",
        "images": 5,
        "texts": 10,
        "left_out": 0,
        "seen_in_training": 0,
        "out": None,
    }
    for row, name, read in zip(
        rows, ("plain", "adapted"), (T, head.transform_text(T)), strict=True
    ):
        expected = retrieval(X, read, owners, at=(2, 1))
        assert row == {
            "features": name,
            "adapted": ["texts"] if name == "adapted" else [],
            "image_to_text": {str(k): v for k, v in expected.image_to_text.items()},
            "text_to_image": {str(k): v for k, v in expected.text_to_image.items()},
        }
        assert list(row["image_to_text"]) == ["2", "1"]


def test_what_is_said_and_what_is_written(handful, captions, adapter, tmp_path: Path) -> None:
    said = handful("bench", "retrieve", captions, "--model", adapter).done()
    assert said.startswith("Retrieval on dataset_photos, test with lite\n")
    numbers = r"( +\d+\.\d){3}$"
    for way in ("image→text", "text→image"):
        for features in ("plain", "images and texts by clip-adapter"):
            assert re.search(rf"^{way} +{features}{numbers}", said, re.MULTILINE)
    assert re.search(r"^search +features +R@1 +R@5 +R@10$", said, re.MULTILINE)
    call = ("bench", "retrieve", captions, "--model", adapter, "--out", tmp_path / "t.md")
    assert handful(*call).done() == f"1 table in {tmp_path / 't.md'}.\n"
    written = (tmp_path / "t.md").read_text("utf-8")
    assert written.startswith("## Retrieval on dataset_photos, test with lite\n")
    assert written.count("| text→image |") == 2
    handful(*call).refused("t.md", "--force")
    (tmp_path / "t.md").write_text("old")
    document = handful(*call, "--force", "--json").document()
    assert document["out"] == str(tmp_path / "t.md")
    assert (tmp_path / "t.md").read_text("utf-8") == written


def test_an_encoder_alone(handful, captions) -> None:
    """Without a classifier nothing is adapted; one image of the training split has two captions."""
    found = handful(
        "bench", "retrieve", captions, "--encoder", "lite", "--split", "train", "--json"
    ).document()
    assert (found["split"], found["method"], found["images"], found["texts"]) == (
        "train", None, 1, 2
    )  # fmt: skip
    assert found["rows"] == [
        {
            "features": "plain",
            "adapted": [],
            # One image: whatever it is asked with is found.
            "image_to_text": {"1": 1.0, "5": 1.0, "10": 1.0},
            "text_to_image": {"1": 1.0, "5": 1.0, "10": 1.0},
        }
    ]
    same = handful("bench", "retrieve", captions, "--split", "train", "--adapt", "none", "--json")
    assert same.document() == found


@pytest.mark.parametrize("at", ["0", "1,-5", "1-5", "", "five", "1,,2"])
def test_numbers_refused(handful, captions, at: str) -> None:
    handful("bench", "retrieve", captions, f"--at={at}").refused("--at", f"'{at}'", "1,5,10")


def test_refused(handful, captions, adapter, model, others: Path, tmp_path: Path) -> None:
    verb = ("bench", "retrieve")
    handful(*verb, captions, "--adapt", "texts").refused("--adapt", "'texts'", "--model")
    handful(*verb, captions, "--model", adapter, "--adapt", "text").refused("'text'", "'texts'")
    handful(*verb, captions, "--model", model).refused("'tip-adapter'", "clip-adapter")
    handful(*verb, captions, "--model", tmp_path / "no").refused("no does not exist")
    handful(*verb, captions, "--split", "val").refused("has no validation images")
    handful(*verb, others).refused("is no file of captions", "captions:FILE@ROOT")
    (tmp_path / "mine.csv").write_text("image,caption\n1.jpg,one\n")
    handful(*verb, tmp_path / "mine.csv").refused("1 of 1 images", "1.jpg")
    handful(*verb).refused("CAPTIONS")


def test_a_photograph_that_is_none_ends_it(handful, lite, tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"no picture")
    (tmp_path / "mine.csv").write_text("image,caption\n1.jpg,one\n")
    handful("bench", "retrieve", tmp_path / "mine.csv", "--encoder", "lite").refused("1.jpg")


def test_a_classifier_of_features_that_tell_no_encoder(handful, captions, of_features) -> None:
    """The encoder is named, and what cannot be verified is said."""
    ran = handful(
        "bench", "retrieve", captions, "--model", of_features, "--encoder", "lite", "--adapt",
        "none", "--json",
    )  # fmt: skip
    assert ran.document()["encoder"] == "lite"
    assert "unverified" in ran.err
