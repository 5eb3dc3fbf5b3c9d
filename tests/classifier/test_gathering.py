"""From images to a task: what is drawn, what is left out, what is never touched."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handful import Features, InputError
from handful.classifier.gather import gather_features, gather_images, row_digests
from handful.datasets.sampling import few_shot
from handful.datasets.source import open_images
from handful.features.store import FeatureStore


@pytest.fixture
def gather(encoder, tmp_path: Path):
    def gather(folder: Path, **options):
        options = {
            "shots": "all",
            "seed": 1,
            "templates": ("a {} picture",),
            "text_pool": "norm_mean_norm",
            "views": 0,
            "store": None,
            "strict": False,
            **options,
        }
        return gather_images(open_images(folder), encoder, **options)

    return gather


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_all_images(gather, encoder, pictures: Path) -> None:
    found = gather(pictures)
    paths = sorted(pictures.glob("*/*.png"))
    assert found.class_names == ("blue", "green", "red")
    assert found.counts == (4, 4, 4)
    assert found.digests == tuple(digest(path) for path in paths)
    assert (found.encoded, found.reused, found.skipped, found.unused) == (12, 0, (), 0)
    assert found.task.y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.task.logit_scale == encoder.logit_scale
    assert found.task.class_embeddings.shape == (3, 6)
    assert found.task.X_val is None


def test_shots_are_coops_draw(gather, pictures: Path) -> None:
    source = open_images(pictures)
    for seed in (1, 2):
        drawn = few_shot(source.train.labels, 2, seed).support
        found = gather(pictures, shots=2, seed=seed)
        assert found.digests == tuple(digest(source.train.paths[row]) for row in drawn)
        assert (found.counts, found.unused) == ((2, 2, 2), 6)


def test_splits(gather, encoder, paint, tmp_path: Path) -> None:
    """Validation images are judged on, test images are not even read."""
    for seed, split in enumerate(("train", "val", "test")):
        paint(tmp_path / "splits" / split, n=5, seed=seed)
    for path in (tmp_path / "splits" / "test").glob("*/*.png"):
        path.write_bytes(b"no picture")
    found = gather(tmp_path / "splits", strict=True)
    assert (len(found.task.X), len(found.task.X_val)) == (15, 15)
    assert encoder.seen == 30
    val = {digest(path) for path in (tmp_path / "splits" / "val").glob("*/*.png")}
    assert not val & set(found.digests)
    few = gather(tmp_path / "splits", shots=2)
    assert (len(few.task.X), len(few.task.X_val)) == (6, 6)
    many = gather(tmp_path / "splits", shots=5)
    assert (len(many.task.X), len(many.task.X_val)) == (15, 12)  # min(K, 4) per class


def test_the_second_time_nothing_is_encoded(gather, pictures: Path, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features.sqlite3")
    first, second = (gather(pictures, store=store, views=2) for _ in range(2))
    assert (first.encoded, first.reused) == (36, 0)
    assert (second.encoded, second.reused) == (0, 36)
    np.testing.assert_array_equal(first.task.X, second.task.X)
    np.testing.assert_array_equal(first.task.views, second.task.views)
    assert first.task.views.shape == (12, 2, 6)
    store.close()


def test_unreadable_images_are_left_out(gather, pictures: Path) -> None:
    bad = pictures / "green" / "0-1.png"
    bad.write_bytes(b"no picture")
    found = gather(pictures, views=1)
    assert found.counts == (4, 3, 4)
    assert found.task.y.tolist() == [0] * 4 + [1] * 3 + [2] * 4
    assert len(found.task.views) == len(found.task.groups) == len(found.digests) == 11
    assert [path for path, _ in found.skipped] == [bad]
    with pytest.raises(InputError, match=r"0-1\.png"):
        gather(pictures, strict=True)


def test_unreadable_validation_images_are_left_out(gather, paint, tmp_path: Path) -> None:
    paint(tmp_path / "splits" / "train", n=3, seed=0)
    paint(tmp_path / "splits" / "val", n=2, seed=1)
    bad = tmp_path / "splits" / "val" / "green" / "1-0.png"
    bad.write_bytes(b"no picture")
    found = gather(tmp_path / "splits")
    assert found.task.y_val.tolist() == [0, 0, 1, 2, 2]
    assert [path for path, _ in found.skipped] == [bad]
    for path in (tmp_path / "splits" / "val").glob("*/*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="none of the 6 validation images"):
        gather(tmp_path / "splits")


def test_a_lost_class_is_named_with_an_image_of_its_own(gather, pictures: Path) -> None:
    (pictures / "blue" / "0-0.png").write_bytes(b"no picture")
    for path in (pictures / "green").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"class 'green' can be read \(for one, .*green/0-0\.png"):
        gather(pictures)


def test_near_duplicates_are_one_group(gather, pictures: Path) -> None:
    original = Image.open(pictures / "red" / "0-2.png")
    original.resize((64, 64)).save(pictures / "red" / "copy.jpg", quality=80)
    names = ["/".join(path.parts[-2:]) for path in open_images(pictures).train.paths]
    groups = dict(zip(names, gather(pictures).task.groups.tolist(), strict=True))
    assert groups["red/copy.jpg"] == groups["red/0-2.png"]
    assert groups["red/copy.jpg"] != groups["blue/0-2.png"]


def test_the_users_groups_are_taken_as_they_are(gather, pictures: Path) -> None:
    paths = sorted(pictures.glob("*/*.png"))
    table = pictures / "table.csv"
    rows = [f"{p},{p.parent.name},{'abc'[i % 3]}" for i, p in enumerate(paths)]
    table.write_text("image,label,group\n" + "\n".join(rows))
    assert gather(table).task.groups.tolist() == [0, 1, 2] * 4


# -- features files --------------------------------------------------------------------------------


def rows_of(split: list[int] | None) -> Features:
    random = np.random.default_rng(0)
    return Features(
        random.normal(size=(12, 6)).astype(np.float32),
        labels=np.repeat([0, 1, 2], 4),
        class_embeddings=np.eye(3, 6, dtype=np.float32),
        class_names=("a", "b", "c"),
        split=None if split is None else np.array(split),
        view_features=random.normal(size=(12, 2, 6)).astype(np.float32),
        logit_scale=33.0,
    )


def test_rows_of_a_features_file() -> None:
    features = rows_of([0, 0, 1, 2] * 3)
    found = gather_features(features, name="f", shots="all", seed=1)
    support, judged = np.flatnonzero(features.split == 0), np.flatnonzero(features.split == 1)
    np.testing.assert_array_equal(found.task.X, features.image_features[support])
    np.testing.assert_array_equal(found.task.views, features.view_features[support])
    np.testing.assert_array_equal(found.task.X_val, features.image_features[judged])
    assert found.task.y_val.tolist() == [0, 1, 2]
    assert found.task.logit_scale == 33
    assert found.counts == (2, 2, 2)
    assert found.digests == row_digests(features.image_features[support])
    assert found.unused == 0


def test_shots_of_a_features_file() -> None:
    features = rows_of(None)
    drawn = few_shot(features.labels, 2, 5).support
    found = gather_features(features, name="f", shots=2, seed=5)
    np.testing.assert_array_equal(found.task.X, features.image_features[drawn])
    assert (found.counts, found.unused, found.task.X_val) == ((2, 2, 2), 6, None)
    with pytest.raises(InputError, match="'a' has 4, 'b' has 4, 'c' has 4"):
        gather_features(features, name="f", shots=5, seed=1)


def test_a_class_without_rows_keeps_its_text() -> None:
    features = rows_of([0] * 8 + [2] * 4)
    found = gather_features(features, name="f", shots="all", seed=1)
    assert found.class_names == ("a", "b", "c")
    assert found.counts == (4, 4, 0)


def test_digests_tell_rows_apart() -> None:
    X = rows_of(None).image_features
    assert len(set(row_digests(X))) == 12
    assert row_digests(X[::-1]) == row_digests(X)[::-1]
    assert row_digests(np.asfortranarray(X)) == row_digests(X)
