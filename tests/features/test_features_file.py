"""Features files: the real ones load as they are, ours come back equal, bad ones are refused."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file as save_torch

from handful.datasets.sentences import SentenceRecord
from handful.errors import InputError
from handful.features.file import Features, load_features, save_features

NAMES = ["fish", "dam", "hammer"]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def write(path: Path, metadata: dict[str, Any] | None = None, **tensors: np.ndarray) -> Path:
    """Write a file that other software might have written."""
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in (metadata or {}).items()}
    safetensors.numpy.save_file(tensors, path, metadata=texts or None)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "f.safetensors"


# The accuracies are facts of the data folder's README, measured by others on the same rows.
@pytest.mark.parametrize(
    ("name", "width", "stored", "normalised"),
    [
        ("clip-rn50", 1024, 71.3, 71.5),
        ("clip-vit-b-32", 512, 81.1, 81.3),
        ("clip-vit-l-14", 768, 85.5, 85.5),
    ],
)
def test_real_features_of_satellite_images(
    shared: Path, name: str, width: int, stored: float, normalised: float
) -> None:
    f = load_features(shared / "data" / "whu-rs19" / "features" / f"{name}.safetensors")
    x, w = f.image_features, f.class_embeddings
    assert x.shape == (1005, width)
    assert f.text_features.shape == (19, 106, width)
    assert len(f.class_names) == 19
    assert len(f.templates) == 106
    assert x.dtype == w.dtype == f.text_features.dtype == np.float32
    assert f.labels.dtype == np.int64
    assert f.logit_scale == 100.0
    assert (f.split, f.view_features, f.paths, f.fingerprint) == (None, None, None, None)
    assert f.encoder.startswith("OpenAI CLIP")
    assert f.normalised == "unit L2"
    accuracy = 100 * np.mean((x @ w.T).argmax(1) == f.labels)
    assert accuracy == pytest.approx(stored, abs=0.05)
    accuracy = 100 * np.mean((unit(x) @ unit(w).T).argmax(1) == f.labels)
    assert accuracy == pytest.approx(normalised, abs=0.05)
    # The stored average is the norm_mean_norm pool of the stored templates, up to half precision.
    np.testing.assert_allclose(w, unit(unit(f.text_features).mean(1)), atol=1e-3)


def test_real_features_of_cars(shared: Path) -> None:
    f = load_features(shared / "data" / "cars-vit-b-32.safetensors")
    pool, test = f.split == 0, f.split == 2
    assert (pool.sum(), test.sum()) == (196 * 16, 1635)
    assert np.bincount(f.labels[pool]).tolist() == [16] * 196
    assert f.text_features is None
    right = (f.image_features @ f.class_embeddings.T).argmax(1) == f.labels
    assert 100 * right[test].mean() == pytest.approx(59.0, abs=0.05)


def test_only_image_features_are_needed(path: Path) -> None:
    f = load_features(write(path, image_features=rows(4, 8)))
    np.testing.assert_array_equal(f.image_features, rows(4, 8))
    others = {k: v for k, v in vars(f).items() if k not in ("image_features", "logit_scale")}
    assert set(others.values()) == {None}
    assert f.logit_scale == 100.0


def test_labels_need_no_names(path: Path) -> None:
    f = load_features(write(path, image_features=rows(3, 8), labels=np.array([0, 5, 2])))
    assert f.labels.tolist() == [0, 5, 2]
    assert f.class_names is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_number_format_becomes_float32(path: Path, dtype: torch.dtype) -> None:
    x = torch.tensor([[0.5, -2.0], [3.0, 0.25]])
    save_torch({"image_features": x.to(dtype), "labels": torch.tensor([1, 0]).int()}, path)
    f = load_features(path)
    assert (f.image_features.dtype, f.labels.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(f.image_features, x.numpy())


def test_the_logit_scale_may_be_a_tensor_or_metadata(path: Path) -> None:
    x = rows(2, 8)
    assert load_features(write(path, {"logit_scale": "12.5"}, image_features=x)).logit_scale == 12.5
    scale = np.array([0.1])
    assert load_features(write(path, image_features=x, logit_scale=scale)).logit_scale == 0.1


@pytest.mark.parametrize("named", ["class_names", "templates", "text_features_average", "labels"])
@pytest.mark.parametrize("classes_first", [True, False])
def test_either_order_of_text_features_is_recognised(
    path: Path, named: str, classes_first: bool
) -> None:
    text = rows(5, 3, 8)  # 5 classes, 3 templates
    stored = np.ascontiguousarray(text if classes_first else text.swapaxes(0, 1))
    tensors = {"image_features": rows(5, 8), "text_features": stored}
    metadata = {}
    if named == "class_names":
        metadata["class_names"] = list("abcde")
    elif named == "templates":
        metadata["templates"] = list("xyz")
    elif named == "labels":
        tensors["labels"] = np.arange(5)
    else:
        tensors["text_features_average"] = rows(5, 8)
    f = load_features(write(path, metadata, **tensors))
    np.testing.assert_array_equal(f.text_features, text)


@pytest.mark.parametrize("classes_first", [True, False])
def test_sentences_tell_the_order_too(path: Path, classes_first: bool) -> None:
    text = rows(5, 3, 8)  # 5 classes, a template, and up to 2 sentences
    text[1:, 2] = 0
    stored = np.ascontiguousarray(text if classes_first else text.swapaxes(0, 1))
    metadata = {"templates": ["{}"], "sentences": record(2, 1, 1, 1, 1)}
    f = load_features(write(path, metadata, image_features=rows(2, 8), text_features=stored))
    np.testing.assert_array_equal(f.text_features, text)
    assert f.sentences.counts == (2, 1, 1, 1, 1)
    # The class embeddings are of the prompts that there are.
    np.testing.assert_allclose(f.class_embeddings[1], unit(unit(text[1, :2]).mean(0)), atol=1e-6)


def test_templates_and_sentences_are_counted_together() -> None:
    def made(templates: list[str] | None, *counts: int) -> Features:
        sentences = SentenceRecord("x.json", "", counts) if counts else None
        text = rows(3, 4, 8)
        return Features(rows(2, 8), text_features=text, templates=templates, sentences=sentences)

    assert made(["{}", "a {}"], 1, 2, 0).templates == ("{}", "a {}")
    assert made(None, 4, 2, 1).sentences.most == 4
    for templates, counts in ((["{}"], (1, 2, 1)), (["{}", "a {}"], (3, 1, 1)), (None, (1, 3, 1))):
        with pytest.raises(
            InputError, match=r"templates with sentences has . prompts per class bu"
        ):
            made(templates, *counts)
    with pytest.raises(InputError, match="templates has 1 prompts per class but text_features"):
        made(["{}"])


def test_as_many_templates_as_classes_means_templates_first(path: Path) -> None:
    stored = rows(3, 3, 8)
    metadata = {"class_names": NAMES, "templates": ["a", "b", "c"]}
    f = load_features(write(path, metadata, image_features=rows(2, 8), text_features=stored))
    np.testing.assert_array_equal(f.text_features, stored.swapaxes(0, 1))


def test_class_embeddings_are_pooled_where_none_are_stored(path: Path) -> None:
    text = rows(2, 3, 8) * np.array([1, 100])[:, None, None]  # the templates' lengths differ
    f = load_features(
        write(
            path,
            {"class_names": NAMES},
            image_features=rows(4, 8),
            text_features=text.astype(np.float32),
        )
    )
    np.testing.assert_allclose(f.class_embeddings, unit(unit(text).mean(0)), atol=1e-6)
    assert f.class_embeddings.dtype == np.float32


BROKEN = {
    "no tensor image_features": {"features": rows(2, 8)},
    r"image_features has shape \(2, 2, 2\): expected \(N, D\)": {"image_features": rows(2, 2, 2)},
    r"image_features has shape \(0, 8\)": {"image_features": np.empty((0, 8), np.float32)},
    r"labels has shape \(2, 1\): expected \(N\)": {"labels": np.zeros((2, 1), int)},
    "labels are of type float32": {"labels": rows(4)},
    "labels has 3 images but image_features has 4": {"labels": np.zeros(3, int)},
    "row 2 has label 3: labels are 0 to 2": {"labels": np.array([0, 1, 3, 3])},
    "row 2 has label 3: labels are 0 to 2, one per class": {
        "labels": np.array([0, 1, 3, 3]),
        "text_features": rows(2, 3, 8),
    },
    "row 0 has label -1: labels are 0 to 2": {"labels": np.array([-1, 1, 2, 2])},
    "split holds 7": {"split": np.array([0, 1, 2, 7])},
    "split has 5 images": {"split": np.zeros(5, int)},
    "view_features has 6 images": {"view_features": rows(6, 2, 8)},
    "view_features has 9 numbers per row but image_features has 8": {
        "view_features": rows(4, 2, 9)
    },
    r"\(text_features_average\) has 9 numbers per row": {"text_features_average": rows(3, 9)},
    r"\(text_features_average\) has 4 classes but class_names has 3": {
        "text_features_average": rows(4, 8)
    },
    "text_features has 5 classes but class_names has 3": {"text_features": rows(5, 2, 8)},
    r"text_features has shape \(3, 8\): expected \(C, T, D\)": {"text_features": rows(3, 8)},
    "logit_scale is -1.0: it must be a positive number": {"logit_scale": np.array([-1.0])},
    "logit_scale is .*: it must be one number": {"logit_scale": np.array([1.0, 2.0])},
    "image_features holds NaN or infinity in row 1 ": {
        "image_features": np.array([[1, 2], [np.nan, 1], [3, 4], [5, 6]])
    },
    "image_features holds NaN or infinity in row 0 and 1 more": {
        "image_features": np.array([[1, np.inf], [0, 1], [1e300, 4], [5, 6]])
    },
    "text_features holds NaN or infinity in row 2": {
        "text_features": np.where(np.arange(3)[None, :, None] == 2, np.nan, np.ones((2, 3, 8)))
    },
}


@pytest.mark.parametrize("message", BROKEN)
def test_refused_tensors(path: Path, message: str) -> None:
    tensors = {"image_features": rows(4, 8)} | BROKEN[message]
    if "no tensor" in message:
        del tensors["image_features"]
    with pytest.raises(InputError, match=message) as caught:
        load_features(write(path, {"class_names": NAMES}, **tensors))
    assert str(caught.value).startswith(f"{path}: ")


def record(*counts: int) -> dict[str, Any]:
    return {"file": "x.json", "sha256": "0" * 64, "counts": counts}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"class_names": '["fish", '}, "class_names must be a JSON list"),
        ({"class_names": "[" * 100_000}, "class_names must be a JSON list"),
        ({"class_names": {"fish": 0}}, "class_names must be a JSON list"),
        ({"templates": [1, 2]}, "templates must be a JSON list"),
        ({"paths": "null"}, "paths must be a JSON list"),
        ({"paths": ["a.jpg"]}, "paths has 1 images but image_features has 4"),
        ({"class_names": []}, r"class_names has shape \(0,\)"),
        ({"logit_scale": "high"}, "logit_scale is 'high'"),
        ({"logit_scale": "nan"}, "logit_scale is nan"),
        ({"sentences": [1, 2]}, "sentences must be a JSON object with file, sha256 and counts"),
        ({"sentences": "{"}, "sentences must be a JSON object"),
        ({"sentences": record(1, 2), "class_names": NAMES}, "sentences has 2 classes but class_n"),
        ({"sentences": record()}, r"sentences has shape \(0,\): expected \(C\)"),
        ({"sentences": record(0, 0)}, r"templates with sentences has shape \(0,\)"),
    ],
)
def test_refused_metadata(path: Path, metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_features(write(path, metadata, image_features=rows(4, 8)))


def test_refused_files(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_features(path)
    with pytest.raises(InputError, match="is a folder"):
        load_features(tmp_path)
    whole = write(path, image_features=rows(4, 8)).read_bytes()
    for content in (b"", b"no safetensors file" * 20, whole[:12], whole[:-1], b"PK\3\4" + whole):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a safetensors file, or it is damaged"):
            load_features(str(path))


finite = st.floats(-(2.0**100), 2.0**100, width=32)
text = st.text(max_size=8)


@st.composite
def contents(draw: st.DrawFn) -> Features:
    n, d, c, t, v, s = (draw(st.integers(1, 4)) for _ in range(6))

    def maybe(strategy: st.SearchStrategy[Any]) -> Any:
        return draw(st.none() | strategy)

    def floats(*shape: int) -> st.SearchStrategy[Any]:
        return hnp.arrays(np.float32, shape, elements=finite)

    def several(size: int, of: st.SearchStrategy[Any] = text) -> st.SearchStrategy[Any]:
        return st.lists(of, min_size=size, max_size=size).map(tuple)

    # Templates, sentences, or both; the number of sentences differs between classes.
    templates, sentences = draw(st.sampled_from([(t, 0), (0, s), (t, s)]))
    counts = [sentences, *draw(several(c - 1, st.integers(0, sentences)))]
    record = SentenceRecord(draw(st.none() | text), draw(text), tuple(counts))
    return Features(
        image_features=draw(floats(n, d)),
        labels=maybe(hnp.arrays(np.int64, n, elements=st.integers(0, c - 1))),
        text_features=maybe(floats(c, templates + sentences, d)),
        class_embeddings=maybe(floats(c, d)),
        # Without names a reader could not tell the order of text features.
        class_names=draw(several(c)),
        logit_scale=draw(st.floats(1e-3, 1e6)),
        split=maybe(hnp.arrays(np.int64, n, elements=st.integers(0, 2))),
        view_features=maybe(floats(n, v, d)),
        paths=maybe(several(n)),
        templates=draw(several(t)) if templates else draw(st.sampled_from([None, ()])),
        sentences=record if sentences else None,
        encoder=maybe(text),
        fingerprint=maybe(text),
        normalised=maybe(text),
    )


@given(contents())
@settings(max_examples=60, deadline=None)
def test_what_is_saved_comes_back_equal(features: Features) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.safetensors"
        save_features(path, features)
        assert [file.name for file in Path(folder).iterdir()] == [path.name]
        equal(load_features(path), features)


def equal(one: Features, other: Features) -> None:
    for field in dataclasses.fields(Features):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(theirs, np.ndarray):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
        else:
            assert mine == theirs, field.name


def test_a_real_file_survives_the_way_out_and_back(shared: Path, path: Path) -> None:
    source = shared / "data" / "whu-rs19" / "features" / "clip-vit-b-32.safetensors"
    features = load_features(source)
    save_features(path, features)
    equal(load_features(path), features)


def test_an_existing_file_is_kept_unless_told(path: Path) -> None:
    save_features(path, Features(rows(2, 8)))
    with pytest.raises(InputError, match="exists already"):
        save_features(path, Features(rows(3, 8)))
    assert len(load_features(path).image_features) == 2
    save_features(path, Features(rows(3, 8)), overwrite=True)
    assert len(load_features(path).image_features) == 3


def test_a_failed_write_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: Any, name: Path, metadata: Any) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(InputError, match="No space left"):
        save_features(path, Features(rows(2, 8)))
    assert not list(path.parent.iterdir())


def test_features_are_checked_when_they_are_made() -> None:
    with pytest.raises(InputError, match="labels has 3 images but image_features has 2"):
        Features(rows(2, 8), labels=np.zeros(3, int))
    made = Features(rows(2, 8).astype(np.float64), labels=[0, 1], paths=[Path("a"), Path("b")])
    assert made.image_features.dtype == np.float32
    assert made.labels.dtype == np.int64
    assert made.paths == ("a", "b")


def test_half_precision_rounds_to_three_digits(tmp_path: Path) -> None:
    features = Features(rows(3, 8), labels=np.array([0, 1, 1]))
    for dtype in ("float32", "float16"):
        save_features(tmp_path / f"{dtype}.safetensors", features, dtype=dtype)
    found = load_features(tmp_path / "float16.safetensors")
    assert found.image_features.dtype == np.float32
    np.testing.assert_array_equal(
        found.image_features, features.image_features.astype(np.float16).astype(np.float32)
    )
    np.testing.assert_array_equal(found.labels, features.labels)


def test_a_feature_too_large_for_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    with pytest.raises(InputError, match=r"a feature is 7e\+04, too large for float16"):
        save_features(path, Features(np.full((2, 3), 7e4, np.float32)), dtype="float16")
    assert not path.exists()
