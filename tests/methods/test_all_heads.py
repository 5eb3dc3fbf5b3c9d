"""What every method promises, asked of every method in the registry: a new one is tested here
by being registered."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data
from toy_classes import Toy, toy
from two_spaces import as_taken, side_by_side

from handful import methods
from handful.errors import InputError
from handful.methods.head import Head, Support

# Checks of scikit-learn that a method is allowed to fail: {method: {check: reason}}.
EXCEPTIONS: dict[str, dict[str, str]] = {
    name: {"check_class_weight_classifiers": "its class_weight takes no weights by hand"}
    for name in methods.names()
    if "class_weight" in methods.get(name)().settings()
}

# Methods whose scores are not the logarithms of their probabilities: {method: reason}.
OWN_SCORES = {"proker": "its scores are regressed class indicators, clipped to be probabilities"}

every_method = pytest.mark.parametrize("name", methods.names())


def make(name: str, *args: Any, **settings: Any) -> Head:
    """A head that trains for few epochs where it trains at all; the promises do not need more."""
    kind = methods.get(name)
    if "epochs" in inspect.signature(kind).parameters:
        settings.setdefault("epochs", 15)
    return kind(*args, **settings)


def toy_for(name: str, seed: int = 0, **shape: int) -> Toy:
    """Features as the method takes them, of a correction, too, where it needs one."""
    t = toy(seed, **shape)
    wide = {part: as_taken(name, getattr(t, part)) for part in ("X", "views", "queries", "names")}
    return replace(t, **wide)


def assert_same_logits(found: Head, expected: Head, queries: np.ndarray, rtol: float) -> None:
    """``rtol`` of the largest logit."""
    want = expected.logits(queries)
    np.testing.assert_allclose(found.logits(queries), want, rtol=0, atol=rtol * np.abs(want).max())


# -- scikit-learn ----------------------------------------------------------------------------------


def test_exceptions_name_methods_and_reasons() -> None:
    assert set(EXCEPTIONS) <= set(methods.names())
    assert all(reason for checks in EXCEPTIONS.values() for reason in checks.values())


class OfOneSpace(Head):
    """Takes features of one space, as scikit-learn has them, of any width, for those of both."""

    def _support(self, X: Any, y: Any, views: Any) -> Support:
        X, y = validate_data(self, X, y, dtype=np.float64)
        taken = super()._support(side_by_side(X), y, views)
        validate_data(self, X, y, dtype=np.float64)
        return taken

    def _features(self, X: Any) -> torch.Tensor:
        check_is_fitted(self)
        return torch.from_numpy(side_by_side(validate_data(self, X, reset=False)).astype(float))


# In the module, so that they can be pickled.
for _name in [n for n in methods.names() if methods.get(n).needs_correction]:
    _kind = methods.get(_name)
    globals()[_kind.__name__] = type(_kind.__name__, (OfOneSpace, _kind), {"__module__": __name__})


def of_one_space(head: Head) -> Head:
    return globals()[type(head).__name__]() if head.needs_correction else head


@every_method
def test_scikit_learn_accepts_it(name: str) -> None:
    head = of_one_space(make(name))
    check_estimator(head, expected_failed_checks=EXCEPTIONS.get(name, {}), on_skip=None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n in methods.names() if "epochs" in inspect.signature(methods.get(n)).parameters]
)
def test_scikit_learn_accepts_it_as_it_comes(name: str) -> None:
    """With the default number of epochs."""
    kind = methods.get(name)
    check_estimator(kind(), expected_failed_checks=EXCEPTIONS.get(name, {}), on_skip=None)


@every_method
def test_constructor_only_assigns_and_has_the_common_parameters(name: str) -> None:
    marks = {parameter: object() for parameter in methods.get(name)().get_params()}
    head = methods.get(name)(**marks)
    assert all(getattr(head, parameter) is mark for parameter, mark in marks.items())
    assert {"class_embeddings", "class_names", "logit_scale", "random_state"} <= set(marks)
    assert next(iter(inspect.signature(methods.get(name)).parameters)) == "class_embeddings"


@every_method
def test_says_what_it_is(name: str) -> None:
    kind = methods.get(name)
    assert kind.name == name
    assert kind.summary and kind.paper
    assert set(kind.search.settings()) <= set(kind().settings())


def test_unknown_method_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no method 'tip-adaptor'\. Did you mean 'tip-adapter'"):
        methods.get("tip-adaptor")


# -- invariances -----------------------------------------------------------------------------------


@every_method
def test_permuting_classes_permutes_logits(name: str) -> None:
    t = toy_for(name)
    order = np.array([3, 0, 4, 2, 1])
    new_label = np.argsort(order)
    expected = make(name, t.text).fit(t.X, t.y).logits(t.queries)[:, order]
    found = make(name, t.text[order]).fit(t.X, new_label[t.y]).logits(t.queries)
    # Float32 training and L-BFGS add the classes in another order.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@every_method
def test_order_of_support_images_does_not_matter(name: str) -> None:
    """Nor in training: so few images make one batch, and without views nothing else is drawn."""
    t = toy_for(name)
    order = np.random.default_rng(0).permutation(len(t.y))
    expected = make(name, t.text).fit(t.X, t.y)
    assert_same_logits(make(name, t.text).fit(t.X[order], t.y[order]), expected, t.queries, 1e-3)


@every_method
def test_lengths_of_features_do_not_matter_to_heads_that_start_from_text(name: str) -> None:
    if not methods.get(name).starts_from_text:
        pytest.skip(f"{name} works on raw features, whose length counts")
    t = toy_for(name)
    head = make(name, t.text).fit(t.X, t.y)
    for k in (1e-3, 0.7, 1e3):
        np.testing.assert_allclose(head.logits(k * t.queries), head.logits(t.queries), rtol=1e-9)
    # A power of two leaves every digit as it is, so training cannot drift apart.
    assert_same_logits(make(name, t.text).fit(4 * t.X, t.y), head, t.queries, 1e-12)
    assert_same_logits(make(name, 4 * t.text).fit(t.X, t.y), head, t.queries, 1e-12)


@every_method
def test_an_answer_does_not_depend_on_the_batch(name: str) -> None:
    t = toy_for(name)
    head = make(name, t.text).fit(t.X, t.y)
    together, alone = head.predict_proba(t.queries), [head.predict_proba([q]) for q in t.queries]
    np.testing.assert_allclose(np.concatenate(alone), together, rtol=0, atol=1e-12)
    order = np.random.default_rng(0).permutation(len(t.queries))
    np.testing.assert_array_equal(head.predict(t.queries[order]), head.predict(t.queries)[order])


# -- labels and rows -------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("text", [True, False])
def test_names_and_numbers_are_the_same_classes(name: str, text: bool) -> None:
    """Row c belongs to label c or to class_names[c], whatever the order of the names."""
    t = toy_for(name)
    names = ["pond", "airport", "viaduct", "beach", "meadow"]
    embeddings = t.text if text else None
    numbers = make(name, embeddings, class_names=names).fit(t.X, t.y)
    words = make(name, embeddings, class_names=names).fit(t.X, np.array(names)[t.y])
    assert list(numbers.classes_) == [0, 1, 2, 3, 4]
    assert list(words.classes_) == names
    np.testing.assert_array_equal(words.logits(t.queries), numbers.logits(t.queries))
    predicted = words.predict(t.queries)
    assert [names[c] for c in numbers.predict(t.queries)] == list(predicted)


@every_method
def test_without_class_names_words_are_taken_in_sorted_order(name: str) -> None:
    t = toy_for(name)
    words = np.array(["a", "b", "c", "d", "e"])[t.y]
    found = make(name, t.text).fit(t.X, words)
    assert list(found.classes_) == ["a", "b", "c", "d", "e"]
    np.testing.assert_array_equal(
        found.logits(t.queries), make(name, t.text).fit(t.X, t.y).logits(t.queries)
    )


@every_method
def test_plain_lists_will_do(name: str) -> None:
    t = toy_for(name)
    found = make(name, t.text.tolist()).fit(t.X.tolist(), t.y.tolist(), views=t.views.tolist())
    expected = make(name, t.text).fit(t.X, t.y, views=t.views)
    np.testing.assert_array_equal(found.logits(t.queries.tolist()), expected.logits(t.queries))


@every_method
@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"class_embeddings": toy().text}, 5),
        ({"class_embeddings": toy().text}, -1),
        ({"class_embeddings": toy().text, "class_names": list("abcde")}, "f"),
    ],
)
def test_a_label_outside_is_refused(name: str, settings: dict[str, Any], label: Any) -> None:
    t = toy_for(name)
    y = t.y.copy() if isinstance(label, int) else np.array(list("abcde"))[t.y]
    y[0] = label
    with pytest.raises(ValueError, match=rf"label {label!r} belongs to no row"):
        make(name, **settings).fit(t.X, y)


@every_method
def test_a_class_without_images_keeps_its_text_row(name: str) -> None:
    t = toy_for(name)
    rows = t.y != 2
    head = make(name, t.text).fit(t.X[rows], t.y[rows])
    assert list(head.classes_) == [0, 1, 2, 3, 4]
    logits = head.logits(t.names)
    assert logits.shape == (5, 5) and np.isfinite(logits).all()
    if head.starts_from_text:  # else it knows nothing of the class and never predicts it
        assert head.predict(t.names)[2] == 2
    else:
        assert (head.predict_proba(t.names)[:, 2] == 0).all()


@every_method
def test_a_class_with_neither_images_nor_text_is_refused(name: str) -> None:
    t = toy_for(name)
    rows = t.y != 2
    names = ["a", "b", "c", "d", "e"]
    with pytest.raises(ValueError, match="class 'c' has neither images nor"):
        make(name, class_names=names).fit(t.X[rows], np.array(names)[t.y[rows]])


@every_method
def test_one_class_only_is_refused(name: str) -> None:
    t = toy_for(name)
    with pytest.raises(ValueError, match="needs at least two classes"):
        make(name).fit(t.X[:4], np.full(4, 7))


@every_method
def test_images_of_one_class_only_are_refused_or_used_but_never_a_riddle(name: str) -> None:
    """Text for several classes, images of one: the library's own words, where it refuses."""
    t = toy_for(name)
    head = make(name, t.text)
    try:
        head.fit(t.X[:4], t.y[:4])
    except ValueError as error:
        assert "solver" not in str(error), "scikit-learn's words, of no use to the user"
        assert "class" in str(error)
    else:
        assert head.logits(t.queries).shape == (40, 5)


@every_method
def test_as_many_names_as_rows(name: str) -> None:
    t = toy_for(name)
    for y in (t.y, np.array(list("abcde"))[t.y]):
        with pytest.raises(ValueError, match=r"5 class embeddings.*4|4.*5 class embeddings"):
            make(name, t.text, class_names=list("abcd")).fit(t.X, y)


@every_method
def test_a_name_given_twice_is_refused_where_labels_are_names(name: str) -> None:
    """Otherwise one of the two rows would silently take all images of both."""
    t = toy_for(name)
    names = ["crane", "b", "crane", "d", "e"]
    with pytest.raises(ValueError, match="crane"):
        make(name, t.text, class_names=names).fit(t.X, np.array(names)[t.y])


@every_method
@pytest.mark.parametrize("place", ["X", "views", "class_embeddings"])
def test_numbers_that_are_not_numbers_are_refused(name: str, place: str) -> None:
    t = toy_for(name)
    given = {"X": t.X.copy(), "views": t.views.copy(), "class_embeddings": t.text.copy()}
    given[place].flat[0] = np.nan
    with pytest.raises(ValueError, match=r"(?i)nan|not finite"):
        make(name, given["class_embeddings"]).fit(given["X"], t.y, views=given["views"])


@every_method
def test_shapes_that_disagree_are_refused(name: str) -> None:
    t = toy_for(name)
    width = t.X.shape[1]
    with pytest.raises(
        ValueError, match=rf"views have shape \(20, 3, {width - 1}\): expected \(20, V, {width}\)"
    ):
        make(name, t.text).fit(t.X, t.y, views=t.views[:, :, 1:])
    with pytest.raises(
        ValueError, match=r"class embeddings have shape \(5, 23\): expected \(C, 24"
    ):
        make(name, t.text[:, 1:]).fit(t.X, t.y)


# -- text and views --------------------------------------------------------------------------------


@every_method
def test_templates_are_pooled_by_norm_mean_norm(name: str) -> None:
    t = toy_for(name)
    templates = np.random.default_rng(1).normal(size=(5, 3, 24)) + t.text[:, None]
    short = templates / np.linalg.norm(templates, axis=-1, keepdims=True)
    found = make(name, templates).fit(t.X, t.y)
    assert_same_logits(found, make(name, short.mean(axis=1)).fit(t.X, t.y), t.queries, 1e-4)
    one = make(name, t.text[:, None]).fit(t.X, t.y)
    assert_same_logits(one, make(name, t.text).fit(t.X, t.y), t.queries, 1e-4)


@every_method
def test_without_text_class_means_stand_in(name: str) -> None:
    t = toy_for(name)
    X = toy().X
    short = X / np.linalg.norm(X, axis=1, keepdims=True)
    means = np.stack([short[t.y == c].mean(axis=0) for c in range(5)])
    found = make(name).fit(t.X, t.y)
    assert (found.predict(t.X) == t.y).mean() > 0.9
    assert_same_logits(found, make(name, means).fit(t.X, t.y), t.queries, 1e-3)


@every_method
def test_one_view_is_the_image_itself(name: str) -> None:
    t = toy_for(name)
    found = make(name, t.text).fit(t.X, t.y, views=t.X[:, None])
    assert_same_logits(found, make(name, t.text).fit(t.X, t.y), t.queries, 1e-6)


@every_method
def test_views_are_accepted(name: str) -> None:
    t = toy_for(name)
    head = make(name, t.text).fit(t.X, t.y, views=t.views)
    assert (head.predict(t.X) == t.y).mean() > 0.9


# -- numbers -------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("classes", [2, 5])
def test_probabilities_scores_and_labels_agree(name: str, classes: int) -> None:
    t = toy_for(name, classes=classes)
    head = make(name, t.text).fit(t.X, t.y)
    logits, probabilities = head.logits(t.queries), head.predict_proba(t.queries)
    assert logits.dtype == probabilities.dtype == np.float64
    assert probabilities.shape == (40, classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-12)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        probabilities, exponentials / exponentials.sum(axis=1, keepdims=True), atol=1e-12
    )
    np.testing.assert_array_equal(head.predict(t.queries), head.classes_[logits.argmax(axis=1)])
    scores = head.decision_function(t.queries)
    if name in OWN_SCORES:  # of which the probabilities are made in another way than by softmax
        top = (scores > 0).astype(int) if classes == 2 else scores.argmax(axis=1)
        np.testing.assert_array_equal(top, logits.argmax(axis=1))
        return
    np.testing.assert_array_equal(scores, logits[:, 1] - logits[:, 0] if classes == 2 else logits)


@every_method
def test_single_precision_input_gives_the_same_head(name: str) -> None:
    t = toy_for(name)
    X, text, queries = (a.astype(np.float32) for a in (t.X, t.text, t.queries))
    found = make(name, text).fit(X, t.y)
    expected = make(name, text.astype(np.float64)).fit(X.astype(np.float64), t.y)
    np.testing.assert_array_equal(
        found.logits(queries), expected.logits(queries.astype(np.float64))
    )


# -- state ---------------------------------------------------------------------------------------


@every_method
def test_the_callers_arrays_are_neither_written_nor_kept(name: str) -> None:
    t = toy_for(name)
    given = [t.X.astype(np.float32), t.y.copy(), t.views.astype(np.float32), t.text.copy()]
    before = [a.copy() for a in given]
    X, y, views, text = given
    head = make(name, text).fit(X, y, views=views)
    logits = head.logits(t.queries)
    for now, then in zip(given, before, strict=True):
        np.testing.assert_array_equal(now, then)
        now[...] = 0
    np.testing.assert_array_equal(head.logits(t.queries), logits)


@every_method
def test_arrays_may_lie_in_memory_as_they_like(name: str) -> None:
    """Rows reversed, columns first, every second row."""
    t = toy_for(name)
    expected = make(name, t.text).fit(t.X, t.y, views=t.views).logits(t.queries)
    for change in (
        lambda a: a[::-1].copy()[::-1],
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=0)[::2],
    ):
        head = make(name, change(t.text)).fit(change(t.X), change(t.y), views=change(t.views))
        # safetensors writes the bytes as they lie.
        assert all(array.flags.c_contiguous for array in head.arrays().values())
        found = head.logits(change(t.queries))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@every_method
def test_arrays_that_must_not_be_written_raise_no_warning(name: str) -> None:
    """Memory maps and the columns of tables are read-only."""
    t = toy_for(name)
    for array in (t.X, t.y, t.views, t.text, t.queries):
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # PyTorch warns of this once in a process; ask it to do so each time.
        torch.set_warn_always(True)
        try:
            make(name, t.text).fit(t.X, t.y, views=t.views).predict_proba(t.queries)
        finally:
            torch.set_warn_always(False)


@every_method
def test_fitting_again_forgets_everything(name: str) -> None:
    first, second = toy_for(name, 0), toy_for(name, 1, classes=3, shots=2, width=10)
    head = make(name).fit(first.X, first.y)
    head.fit(second.X, second.y)
    fresh = make(name).fit(second.X, second.y)
    np.testing.assert_array_equal(head.logits(second.queries), fresh.logits(second.queries))
    assert vars(head).keys() == vars(fresh).keys()


@every_method
def test_one_seed_one_head(name: str) -> None:
    t = toy_for(name)

    def fitted(seed: int, noise: int) -> np.ndarray:
        np.random.seed(noise)
        torch.manual_seed(noise)
        head = make(name, t.text, random_state=seed).fit(t.X, t.y, views=t.views)
        return head.logits(t.queries)

    np.testing.assert_array_equal(fitted(seed=3, noise=1), fitted(seed=3, noise=2))
    if "epochs" in make(name).settings():
        assert not np.array_equal(fitted(seed=3, noise=1), fitted(seed=4, noise=1))


@every_method
def test_a_seed_leaves_the_global_generators_alone(name: str) -> None:
    t = toy_for(name)
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3).tolist(), np.random.rand(3).tolist()
    torch.manual_seed(5)
    np.random.seed(5)
    make(name, t.text, random_state=3).fit(t.X, t.y, views=t.views)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist()) == expected


@every_method
def test_without_a_seed_the_global_generator_decides(name: str) -> None:
    """As everywhere in scikit-learn: who seeds the global generator can repeat a fit."""
    t = toy_for(name)

    def fitted() -> np.ndarray:
        torch.manual_seed(5)
        head = make(name, t.text, random_state=None).fit(t.X, t.y, views=t.views)
        return head.logits(t.queries)

    np.testing.assert_array_equal(fitted(), fitted())


@every_method
@pytest.mark.parametrize("kind_of_labels", ["numbers", "names", "two classes", "no text"])
def test_what_is_saved_gives_the_same_logits_bit_for_bit(
    name: str, kind_of_labels: str, tmp_path: Path
) -> None:
    t = toy_for(name, classes=2 if kind_of_labels == "two classes" else 5)
    y = np.array(list("vwxyz"))[t.y] if kind_of_labels == "names" else t.y
    text = None if kind_of_labels == "no text" else t.text
    head = make(name, text, logit_scale=30.0).fit(t.X, y, views=t.views)
    save_file(head.arrays(), tmp_path / "head.safetensors")
    arrays = load_file(tmp_path / "head.safetensors")
    again = type(head).from_arrays(arrays, head.classes_, head.settings(), head.logit_scale)
    np.testing.assert_array_equal(again.logits(t.queries), head.logits(t.queries))
    np.testing.assert_array_equal(again.predict(t.queries), head.predict(t.queries))
    assert again.settings() == head.settings()
    with pytest.raises(ValueError, match=f"{t.X.shape[1]} features"):
        again.predict(t.queries[:, 1:])


@every_method
def test_settings_are_the_parameters_that_a_task_does_not_give(name: str) -> None:
    head = methods.get(name)()
    common = {"class_embeddings", "class_names", "logit_scale", "random_state"}
    from_some_tasks = {"widths", "projection"}
    assert head.settings().keys() == head.get_params().keys() - common - from_some_tasks
    assert ("projection" in head.get_params()) == head.before_projection
    assert clone(head).settings() == head.settings()


# -- several at once -------------------------------------------------------------------------------


@every_method
def test_together_as_alone(name: str) -> None:
    """Heads of several shapes, seeds, texts and settings, fitted together and one by one.

    Not bit for bit: a product of stacked matrices adds up in another order than the product of
    one, and float32 training carries the difference of the last digit along.
    """
    kind = methods.get(name)
    shapes: list[dict[str, int]] = [{}, {}, {"shots": 3}, {"classes": 3}]
    tasks = [toy_for(name, seed, **shape) for seed, shape in enumerate(shapes)]
    data = [(t.X, t.y, views) for t in tasks for views in (None, t.views)]
    texts = [t.text for t in tasks for _ in range(2)]

    def heads() -> list[Head]:
        return [make(name, text, random_state=seed) for seed, text in enumerate(texts)]

    together, alone = heads(), heads()
    kind.fit_many(together, data)
    for head, single, (X, y, views), t in zip(
        together, alone, data, [t for t in tasks for _ in range(2)], strict=True
    ):
        assert_same_logits(head, single.fit(X, y, views=views), t.queries, 1e-4)


@every_method
def test_no_heads_are_fitted_without_complaint(name: str) -> None:
    methods.get(name).fit_many([], [])
