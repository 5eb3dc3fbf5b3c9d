"""Every image is encoded once, in order, in bounded memory, and nothing finished is lost."""

from __future__ import annotations

import hashlib
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from handful.encoders.decode import open_image
from handful.encoders.views import CENTRE, random_views
from handful.errors import HandfulError, InputError
from handful.features import extract
from handful.features.extract import EncodedImages, encode_images, stream_images
from handful.features.store import FeatureStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    store = FeatureStore(tmp_path / "features.sqlite3")
    yield store
    store.close()


def one_by_one(encoder, paths, views=(CENTRE,)) -> np.ndarray:
    """What extraction must give, in the plainest way."""
    plain = type(encoder)()
    rows = [
        plain.encode_images(plain.preprocess(open_image(path), view, digest(path))[None])[0]
        for path in paths
        for view in views
    ]
    return np.array(rows).reshape(len(paths), len(views), plain.dim)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("views", [(CENTRE,), (CENTRE, *random_views(2)), random_views(5)])
def test_rows_are_in_the_order_of_the_paths(encoder, pictures, store, views) -> None:
    paths = pictures(23)[::-1]
    result = encode_images(encoder, paths, views=views, store=store, batch_size=4)
    np.testing.assert_array_equal(result.features, one_by_one(encoder, paths, views))
    assert result.features.dtype == np.float32
    assert result.kept.tolist() == list(range(23))
    assert result.digests == tuple(digest(path) for path in paths)
    assert (result.encoded, result.reused) == (23 * len(views), 0)
    assert max(encoder.batches) <= 4


def test_the_second_call_encodes_nothing(encoder, pictures, store) -> None:
    paths, views = pictures(10), (CENTRE, *random_views(1))
    first = encode_images(encoder, paths, views=views, store=store)
    encoder.batches.clear()
    second = encode_images(encoder, paths, views=views, store=store)
    assert not encoder.batches
    assert (second.encoded, second.reused) == (0, 20)
    np.testing.assert_array_equal(first.features, second.features)


def test_a_missing_view_alone_is_encoded(encoder, pictures, store) -> None:
    paths, crop = pictures(6), random_views(1)
    encode_images(encoder, paths, store=store)
    result = encode_images(encoder, paths, views=(CENTRE, *crop), store=store)
    assert (result.encoded, result.reused) == (6, 6)
    np.testing.assert_array_equal(result.features, one_by_one(encoder, paths, (CENTRE, *crop)))


def test_another_encoder_reuses_nothing(encoder, pictures, store) -> None:
    paths = pictures(3)
    encode_images(encoder, paths, store=store)
    encoder.fingerprint = "fake-2"
    assert encode_images(encoder, paths, store=store).encoded == 3


def test_an_edited_image_is_another_image(encoder, pictures, store) -> None:
    paths = pictures(3)
    before = encode_images(encoder, paths, store=store)
    open_image(paths[1]).rotate(180).save(paths[1])
    after = encode_images(encoder, paths, store=store)
    assert (after.encoded, after.reused) == (1, 2)
    assert after.digests[1] != before.digests[1]
    np.testing.assert_array_equal(after.features, one_by_one(encoder, paths))


def test_identical_images_are_encoded_once_however_far_apart(encoder, pictures) -> None:
    paths = pictures(40)
    paths.append(paths[0].with_name("copy.png"))
    paths[-1].write_bytes(paths[0].read_bytes())
    result = encode_images(encoder, [*paths, paths[3], paths[3]], batch_size=4)
    assert sum(encoder.batches) == result.encoded == 40
    assert result.reused == 3
    np.testing.assert_array_equal(
        result.features, one_by_one(encoder, [*paths, paths[3], paths[3]])
    )


def test_unreadable_images_are_skipped_and_named(encoder, pictures) -> None:
    paths = pictures(12)
    paths[2].write_bytes(b"no picture")
    paths[7].unlink()
    paths[11].write_bytes(paths[11].read_bytes()[:60])
    result = encode_images(encoder, paths, strict=False, batch_size=4)
    kept = [i for i in range(12) if i not in (2, 7, 11)]
    assert result.kept.tolist() == kept
    np.testing.assert_array_equal(result.features, one_by_one(encoder, [paths[i] for i in kept]))
    assert len(result.digests) == 9
    assert [path for path, _ in result.skipped] == [paths[2], paths[7], paths[11]]
    assert all(str(path) in reason for path, reason in result.skipped)


def test_strict_raises_for_the_first_unreadable_image(encoder, pictures) -> None:
    paths = pictures(12)
    paths[5].unlink()  # missing is noticed sooner than damaged, but comes later
    paths[4].write_bytes(b"no picture")
    with pytest.raises(InputError, match=paths[4].name):
        encode_images(encoder, paths)
    assert not working_threads()


def test_nothing_to_encode(encoder, pictures) -> None:
    empty = encode_images(encoder, [], views=random_views(2))
    assert empty.features.shape == (0, 2, encoder.dim)
    (path,) = pictures(1)
    path.write_bytes(b"no picture")
    result = encode_images(encoder, [path], strict=False)
    assert result.features.shape == (0, 1, encoder.dim)
    assert len(result.skipped) == 1
    assert not encoder.batches


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_killed_run_loses_at_most_the_batch_in_flight(encoder, pictures, store, failure) -> None:
    paths = pictures(50)
    encoder.fail_after, encoder.failure = 5, failure
    with pytest.raises(failure):
        encode_images(encoder, paths, store=store, batch_size=4)
    assert store.info().images == 20
    assert not working_threads()
    encoder.fail_after = None
    result = encode_images(encoder, paths, store=store, batch_size=4)
    assert (result.encoded, result.reused) == (30, 20)
    np.testing.assert_array_equal(result.features, one_by_one(encoder, paths))


def test_nan_is_refused_and_not_kept(encoder, pictures, store) -> None:
    encoder.encode_images = lambda pixels: np.full((len(pixels), encoder.dim), np.nan, np.float32)
    with pytest.raises(HandfulError, match="NaN"):
        encode_images(encoder, pictures(3), store=store)
    assert store.info().images == 0


def test_an_encoder_that_refuses_is_no_unreadable_image(encoder, pictures) -> None:
    encoder.fail_after, encoder.failure = 0, InputError
    with pytest.raises(InputError, match="killed"):
        encode_images(encoder, pictures(3), strict=False)


def test_the_photographs_that_come_with_the_package(encoder, photos: Path, store) -> None:
    paths = sorted(photos.glob("*/*.webp"))
    first = encode_images(encoder, paths, store=store)
    assert (len(first.kept), first.encoded, first.skipped) == (len(paths), len(paths), ())
    assert len(paths) == 104
    assert encode_images(encoder, paths, store=store).encoded == 0


class CountingPreprocess:
    """Count the pixel arrays that are alive."""

    def __init__(self, preprocess) -> None:
        self.preprocess = preprocess
        self.alive = self.most = self.made = 0
        self.lock = threading.Lock()

    def __call__(self, image, view, key):
        pixels = self.preprocess(image, view, key)
        weakref.finalize(pixels, self.freed)
        with self.lock:
            self.made += 1
            self.alive += 1
            self.most = max(self.most, self.alive)
        return pixels

    def freed(self) -> None:
        with self.lock:
            self.alive -= 1


@pytest.mark.parametrize("views", [(CENTRE,), random_views(4)])
def test_pixels_in_memory_are_bounded(encoder, pictures, views) -> None:
    paths, encode = pictures(120), encoder.encode_images
    encoder.preprocess = counting = CountingPreprocess(encoder.preprocess)

    def slowly(pixels):
        time.sleep(0.003)  # the threads could run far ahead
        return encode(pixels)

    encoder.encode_images = slowly
    encode_images(encoder, paths, views=views, batch_size=8, workers=2)
    assert counting.made == 120 * len(views)
    # One batch at the model and two ahead of it; an image's views come together.
    assert counting.most <= 3 * 8 + 2 * len(views)
    assert counting.alive == 0


def test_the_stream_gives_the_same_chunk_by_chunk(encoder, pictures, store) -> None:
    paths = pictures(25)
    paths[13].write_bytes(b"no picture")
    encode_images(encoder, paths[:5], store=store)
    whole = encode_images(encoder, paths, strict=False)
    chunks = list(stream_images(encoder, paths, store=store, strict=False, chunk_size=10))
    assert [part for part, _ in chunks] == [
        tuple(paths[:10]),
        tuple(paths[10:20]),
        tuple(paths[20:]),
    ]
    np.testing.assert_array_equal(
        np.concatenate([result.features for _, result in chunks]), whole.features
    )
    kept = [
        start + i
        for start, (_, result) in zip((0, 10, 20), chunks, strict=True)
        for i in result.kept
    ]
    assert kept == whole.kept.tolist()
    assert [(r.encoded, r.reused, len(r.skipped)) for _, r in chunks] == [
        (5, 5, 0),
        (9, 0, 1),
        (5, 0, 0),
    ]


def test_the_stream_reads_no_further_than_it_must(encoder, pictures) -> None:
    encoder.preprocess = counting = CountingPreprocess(encoder.preprocess)
    stream = stream_images(encoder, pictures(100), chunk_size=10, batch_size=5)
    next(stream)
    stream.close()
    assert counting.made <= 10 + 2 * 5
    assert not working_threads()


def test_the_stream_keeps_no_features(encoder, pictures) -> None:
    alive: list[weakref.ref[EncodedImages]] = []
    for _, result in stream_images(encoder, pictures(40), chunk_size=10):
        alive = [ref for ref in alive if ref() is not None]
        alive.append(weakref.ref(result))
        assert len(alive) <= 2  # this chunk, and the one that the loop variable held before


def test_the_progress_bar_counts_every_image(encoder, pictures, store, monkeypatch) -> None:
    shown: list[tuple[int, list[int]]] = []

    @contextmanager
    def record(label, total, unit="images"):
        shown.append((total, []))
        yield shown[-1][1].append

    monkeypatch.setattr(extract, "progress", record)
    paths = pictures(21)
    encode_images(encoder, paths[:9], store=store, batch_size=4)
    paths[15].write_bytes(b"no picture")
    encode_images(encoder, paths, store=store, strict=False, batch_size=4)
    assert [total for total, _ in shown] == [9, 21]
    assert [sum(steps) for _, steps in shown] == [9, 21]
    assert shown[0][1] == [4, 4, 1]


def working_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("handful-prepare")]
