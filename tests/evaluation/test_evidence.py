"""The nearest support images, and what names and images have to do with an answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from two_spaces import as_taken

from handful import FewShotTask, methods
from handful.evaluation import evidence as module
from handful.evaluation.evidence import Evidence, shares

NAMES = [f"photo {i}.jpg" for i in range(12)]


def task(seed: int = 0, **changes: object) -> FewShotTask:
    """Three classes of four images, 8 wide, of many lengths; text near the classes."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, 8))
    y = np.repeat([0, 1, 2], 4)
    X = (centres[y] + 0.7 * rng.normal(size=(12, 8))) * rng.uniform(1, 20, size=(12, 1))
    text = centres + 0.5 * rng.normal(size=(3, 8))
    return replace(FewShotTask(X, y, class_embeddings=text), **changes)  # type: ignore[arg-type]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


# -- the nearest -----------------------------------------------------------------------------------


def test_the_nearest_are_those_of_the_largest_cosine() -> None:
    t = task()
    queries = np.random.default_rng(1).normal(size=(50, 8))
    found, cosines = Evidence.of(t, NAMES, 3).nearest(queries, 4)
    every = unit(queries) @ unit(t.X).T
    # float16 rounds to three digits.
    np.testing.assert_allclose(cosines, np.take_along_axis(every, found, axis=1), atol=2e-3)
    np.testing.assert_allclose(cosines, -np.sort(-every, axis=1)[:, :4], atol=2e-3)
    assert (np.diff(cosines, axis=1) <= 1e-6).all()


def test_an_image_is_nearest_to_itself_and_its_cosine_is_1() -> None:
    t = task()
    found, cosines = Evidence.of(t, NAMES, 3).nearest(t.X, 1)
    np.testing.assert_array_equal(found[:, 0], np.arange(12))
    np.testing.assert_allclose(cosines, 1, atol=1e-5)


def test_of_equal_images_the_first_comes_first_in_any_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    t = task()
    X = np.concatenate([t.X[:4]] * 3)
    known = Evidence.of(replace(t, X=X), NAMES, 3)
    found, cosines = known.nearest(t.X, 7)
    np.testing.assert_array_equal(found[0, :3], [0, 4, 8])
    monkeypatch.setattr(module, "_AT_ONCE", 1)  # one image at a time
    one, alone = known.nearest(t.X, 7)
    np.testing.assert_array_equal(one, found)
    np.testing.assert_allclose(alone, cosines, atol=1e-12)


def test_fewer_images_than_asked_for_are_all_of_them() -> None:
    found, cosines = Evidence.of(task(), NAMES, 3).nearest(task().X[:2], 99)
    assert found.shape == cosines.shape == (2, 12)
    assert sorted(found[0]) == list(range(12))


def test_no_image_has_no_neighbours() -> None:
    found, cosines = Evidence.of(task(), NAMES, 3).nearest(np.empty((0, 8)), 3)
    assert found.shape == cosines.shape == (0, 3)


def test_of_several_encoders_the_cosine_is_the_mean_of_theirs() -> None:
    t = task()
    both = np.concatenate([t.X, 100 * task(1).X[:, :3]], axis=1)
    known = Evidence.of(replace(t, X=both, widths=(8, 3)), NAMES, 3)
    found, cosines = known.nearest(both[::-1], 12)
    parts = [unit(part) for part in np.split(both, [8], axis=1)]
    expected = sum(part[::-1] @ part.T for part in parts) / 2
    np.testing.assert_allclose(cosines, np.take_along_axis(expected, found, axis=1), atol=2e-3)


def test_features_before_a_projection_stay_before_it() -> None:
    t = task()
    wide = np.random.default_rng(2).normal(size=(12, 20))
    before = replace(t, X=wide, projection=np.random.default_rng(3).normal(size=(20, 8)))
    assert Evidence.of(before, NAMES, 3).features.shape == (12, 20)


def test_of_corrected_features_the_corrected_ones_are_compared() -> None:
    t = task()
    assert t.class_embeddings is not None
    other = np.random.default_rng(4).normal(size=(12, 8))
    wide = np.concatenate([t.X, other], axis=1)
    known = Evidence.of(replace(t, X=wide, corrected=True), NAMES, 3)
    alone = Evidence.of(replace(t, X=other), NAMES, 3)
    assert known.features.shape == (12, 8) and (known.dim, alone.dim) == (16, 8)
    for one, two in zip(known.nearest(wide[::-1], 5), alone.nearest(other[::-1], 5), strict=True):
        np.testing.assert_array_equal(one, two)
    again = Evidence.from_saved(known.to_json(), known.arrays())
    assert again.corrected and again.dim == 16
    told = alone.to_json()
    del told["corrected"]  # as saved before there were corrections
    assert not Evidence.from_saved(told, alone.arrays()).corrected


@pytest.mark.parametrize("text", [True, False])
def test_labels_are_columns(text: bool) -> None:
    t = task()
    words = np.array(["pond", "airport", "beach"])
    named = replace(
        t,
        y=words[t.y],
        class_embeddings=t.class_embeddings if text else None,
        class_names=list(words) if text else None,
    )
    known = Evidence.of(named, NAMES, 3)
    head = methods.get("nearest-class-mean")(**named.head_arguments()).fit(named.X, named.y)
    np.testing.assert_array_equal(head.classes_[known.labels], named.y)
    assert known.named == text


def test_of_many_images_the_first_of_each_class_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.array([2, 0, 1, 0, 0, 2, 0, 0, 1, 0, 0, 0])
    known = task(y=y)
    monkeypatch.setattr(module, "_MOST", 7 * 8 + 7)
    kept = Evidence.of(known, NAMES, 3)
    # Two of each class would be six; three would be seven, as classes 1 and 2 have but two.
    assert kept.names == tuple(NAMES[row] for row in (0, 1, 2, 3, 4, 5, 8))
    np.testing.assert_array_equal(kept.labels, y[[0, 1, 2, 3, 4, 5, 8]])
    monkeypatch.setattr(module, "_MOST", 0)
    assert Evidence.of(known, NAMES, 3).names == tuple(NAMES[row] for row in (0, 1, 2))


# -- the saved form --------------------------------------------------------------------------------


def test_what_is_saved_answers_the_same() -> None:
    t = task()
    both = replace(t, X=np.concatenate([t.X, t.X[:, :3]], axis=1), widths=(8, 3))
    known = Evidence.of(both, NAMES, 3)
    again = Evidence.from_saved(known.to_json(), known.arrays())
    for one, other in zip(again.nearest(both.X, 5), known.nearest(both.X, 5), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.names == known.names and again.named


@pytest.mark.parametrize(
    "damage",
    [
        {"names": NAMES[:5]},
        {"names": [*NAMES[:11], 3]},
        {"names": "photo"},
        {"widths": [3, 4]},
        {"widths": [-3, 11]},
        {"widths": "8"},
        {"named": "yes"},
        {"features": np.zeros((12, 8), np.float32)},
        {"features": np.full((12, 8), np.nan, np.float16)},
        {"features": np.zeros(12, np.float16)},
        {"labels": np.zeros(11, np.int64)},
        {"labels": np.full(12, -1, np.int64)},
        {"corrected": "yes"},
        {"labels": np.zeros(12, np.float32)},
    ],
)
def test_what_is_damaged_is_refused(damage: dict[str, object]) -> None:
    known = Evidence.of(task(), NAMES, 3)
    told = {k: damage.get(k, v) for k, v in known.to_json().items()}
    arrays = {k: damage.get(k, v) for k, v in known.arrays().items()}
    with pytest.raises((ValueError, TypeError, LookupError)):
        Evidence.from_saved(told, arrays)  # type: ignore[arg-type]


# -- shares ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", methods.names())
def test_the_two_margins_are_the_margin_of_the_answer(name: str) -> None:
    t = task()
    head = methods.get(name)(t.class_embeddings).fit(as_taken(name, t.X), t.y)
    queries = np.random.default_rng(1).normal(size=(60, 8))
    found = shares(head, as_taken(name, queries))
    two = np.sort(head.logits(as_taken(name, queries)), axis=1)[:, -2:]
    np.testing.assert_allclose(
        found.names_margin + found.images_margin, two[:, 1] - two[:, 0], atol=1e-9
    )
    assert ((found.names >= 0) & (found.names <= 1)).all()
    zero_shot = methods.get("zero-shot")(t.class_embeddings).fit(t.X, t.y)
    np.testing.assert_array_equal(found.names_alone, zero_shot.predict(queries))
    if name == "zero-shot":
        assert (found.names == 1).all()
    if not head.starts_from_text:
        assert (found.names == 0).all() and (found.names_margin == 0).all()


def test_a_share_by_hand() -> None:
    """Votes alone decide, with the names, against them, and the names with and against votes."""
    text, keys = np.eye(3)[:2], np.array([[1.0, 0, 0], [0, 1.0, 0]])
    head = methods.get("tip-adapter")(text, blend=2.0, sharpness=1.0, logit_scale=1.0)
    head.fit(keys, [0, 1])
    x = np.array([[0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    found = shares(head, x)
    t, q = 0.8 - 0.6, 2 * (np.exp(0.8 - 1) - np.exp(0.6 - 1))
    np.testing.assert_allclose(found.names_margin, [t, 0], atol=1e-6)
    np.testing.assert_allclose(found.images_margin, [q, 0], atol=1e-6)
    np.testing.assert_allclose(found.names, [t / (t + q), 0.5], atol=1e-6)
    np.testing.assert_array_equal(found.names_alone, [0, 0])
    wrong = methods.get("tip-adapter")(text[::-1], blend=20.0, sharpness=1.0, logit_scale=1.0)
    against = shares(wrong.fit(keys, [0, 1]), x[:1])
    assert against.names_margin[0] < 0 < against.images_margin[0]
    assert against.names[0] == 0 and against.names_alone[0] == 1


def test_without_names_everything_is_from_the_images() -> None:
    t = task()
    head = methods.get("tip-adapter")().fit(t.X, t.y)
    found = shares(head, t.X, named=False)
    assert (found.names == 0).all() and (found.names_margin == 0).all()
    assert (found.images_margin > 0).all()


# -- what a head makes of the names ----------------------------------------------------------------


def test_best_tells_how_much_it_trusts_the_names() -> None:
    """At one image per class a large penalty leaves nothing but the names, at their own scale."""
    t = task()
    one = [0, 4, 8]
    head = methods.get("best")(t.class_embeddings, penalty=1e9).fit(t.X[one], t.y[one])
    np.testing.assert_allclose(head.names_logits(t.X), head.logits(t.X), atol=1e-3)
    strangers = methods.get("best")(t.class_embeddings[[1, 2, 0]]).fit(t.X, t.y)  # type: ignore[index]
    assert shares(strangers, t.X).names.mean() < 0.1


def test_lp_plus_plus_has_a_weight_of_each_name() -> None:
    t = task()
    head = methods.get("lp++")(t.class_embeddings).fit(t.X, t.y)
    rest = head.logits(t.X) - head.names_logits(t.X)
    np.testing.assert_allclose(rest, unit(t.X) @ head.weight_.T + head.bias_, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("elevater-l2p", {"epochs": 0}),
        ("elevater-l2p", {"epochs": 0, "start_norm": 1.0}),
        ("elevater-l2p", {"epochs": 0, "start_norm": 2.0, "feature_norm": 0.0}),
        ("elevater-l1p", {"epochs": 0, "start_norm": 1.0}),
        ("wise-ft", {"blend": 0.0}),
        ("wise-ft", {"blend": 0.0, "base": "lp++"}),
        ("zs-lp", {"epochs": 0}),
        ("tip-adapter", {"blend": 0.0}),
    ],
)
def test_what_is_not_trained_is_all_names(name: str, settings: dict[str, object]) -> None:
    t = task()
    head = methods.get(name)(t.class_embeddings, **settings).fit(t.X, t.y)
    np.testing.assert_allclose(head.names_logits(t.X), head.logits(t.X), rtol=1e-5, atol=1e-4)


def test_before_the_projection_the_names_say_what_they_say_behind_it() -> None:
    t = task()
    rng = np.random.default_rng(2)
    wide, projection = rng.normal(size=(12, 20)), rng.normal(size=(20, 8))
    head = methods.get("elevater-l1p")(t.class_embeddings, projection=projection, epochs=0)
    head.fit(wide, t.y)
    zero_shot = methods.get("zero-shot")(t.class_embeddings).fit(wide @ projection, t.y)
    queries = rng.normal(size=(40, 20))
    np.testing.assert_array_equal(
        shares(head, queries).names_alone, zero_shot.predict(queries @ projection)
    )
    np.testing.assert_allclose(head.names_logits(queries), head.logits(queries), rtol=1e-5)


def test_of_several_encoders_the_first_one_reads_the_names() -> None:
    t = task()
    both = np.concatenate([t.X, task(1).X[:, :3]], axis=1)
    head = methods.get("cafo")(t.class_embeddings, widths=(8, 3), epochs=0).fit(both, t.y)
    zero_shot = methods.get("zero-shot")(t.class_embeddings).fit(t.X, t.y)
    np.testing.assert_allclose(head.names_logits(both), zero_shot.logits(t.X), rtol=1e-12)
