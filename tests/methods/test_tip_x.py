"""Tip-X: what is left of it at γ = 0, its published outputs, and answers free of the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from oracles import Oracle, OracleInputs, assert_agree

from handful import FewShotTask, select
from handful.functional.text_profile import (
    Rescale,
    class_profiles,
    divergence,
    log_profile,
    profile_votes,
    profile_votes_by_key,
)
from handful.methods.tip_adapter import TipAdapter
from handful.methods.tip_x import TipX
from handful.methods.zero_shot import ZeroShot

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 16))
Y = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
X = CENTRES[Y] + 0.5 * RNG.normal(size=(10, 16))
VIEWS = X[:, None] + 0.3 * RNG.normal(size=(10, 5, 16))
TEXT = CENTRES + 0.8 * RNG.normal(size=(4, 16))
QUERIES = CENTRES[RNG.integers(4, size=30)] + 0.8 * RNG.normal(size=(30, 16))


def fit(rows: np.ndarray = X, labels: np.ndarray = Y, **settings: Any) -> TipX:
    return TipX(TEXT, **settings).fit(rows, labels)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def terms(keys: np.ndarray, temperature: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and divergences of the queries from keys, by their definitions."""
    x, f, text = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (QUERIES, keys, TEXT))
    p, q = softmax(x @ text.T / temperature), softmax(f @ text.T / temperature)
    return x @ f.T, np.array([[(a * np.log(a / b)).sum() for b in q] for a in p])


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rescale", ["support", "batch"])
@pytest.mark.parametrize("views", [None, VIEWS])
def test_without_profiles_it_is_tip_adapter(rescale: str, views: np.ndarray | None) -> None:
    settings = {"blend": 2.0, "sharpness": 5.5}
    tip_x = TipX(TEXT, profile_blend=0.0, rescale=rescale, **settings).fit(X, Y, views=views)
    tip = TipAdapter(TEXT, **settings).fit(X, Y, views=views)
    np.testing.assert_array_equal(tip_x.logits(QUERIES), tip.logits(QUERIES))


def test_without_profiles_and_cache_it_is_zero_shot() -> None:
    expected = ZeroShot(TEXT).fit(X, Y).logits(QUERIES)
    found = fit(blend=0.0, profile_blend=0.0).logits(QUERIES)
    np.testing.assert_array_equal(found, expected)


def test_the_profiles_enter_in_proportion() -> None:
    none, one, three = (fit(profile_blend=g).logits(QUERIES) for g in (0.0, 1.0, 3.0))
    np.testing.assert_allclose(three - none, 3 * (one - none), rtol=1e-9)
    assert np.abs(one - none).max() > 0.1


# -- the equations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 0.1])
def test_rescaled_by_the_batch_it_is_the_equation_of_the_paper(temperature: float) -> None:
    """Two keys a class; ρ over all queries and keys; sums over the keys by one-hot labels."""
    rows = np.flatnonzero(Y != 3)[[0, 1, 3, 4, 5, 6]]
    keys, labels = np.concatenate([X[rows], X[9:], X[9:] + 0.1]), np.repeat(range(4), 2)
    head = fit(keys, labels, rescale="batch", temperature=temperature)
    affinity, divergences = terms(keys, temperature)
    slope = np.ptp(affinity) / np.ptp(divergences)
    rescaled = slope * (divergences - divergences.min()) + affinity.min()
    one_hot = np.eye(4)[labels]
    expected = ZeroShot(TEXT).fit(keys, labels).logits(QUERIES)
    expected += head.blend * np.exp(-head.sharpness * (1 - affinity)) @ one_hot
    expected -= head.profile_blend * rescaled @ one_hot
    np.testing.assert_allclose(head.logits(QUERIES), expected, atol=1e-4)


def test_by_default_the_range_is_that_among_support_images() -> None:
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    text = torch.from_numpy(TEXT)
    log_q = log_profile(torch.from_numpy(X), text)
    off = ~np.eye(10, dtype=bool)
    affinity, divergences = (unit @ unit.T)[off], divergence(log_q, log_q).numpy()[off]
    expected = [divergences.min(), divergences.max(), affinity.min(), affinity.max()]
    head = fit()
    np.testing.assert_allclose(head.range_, expected, rtol=1e-5)
    again = fit()
    again.range_ = again.range_ * np.float32(2)  # and prediction reads it
    assert np.abs(again.logits(QUERIES) - head.logits(QUERIES)).max() > 0.1
    batch, other = fit(rescale="batch"), fit(rescale="batch")
    other.range_ = other.range_ * np.float32(2)
    np.testing.assert_array_equal(other.logits(QUERIES), batch.logits(QUERIES))


def test_a_class_with_more_images_is_not_held_back_by_their_number() -> None:
    """The published sum falls with every image; copies of a class's images leave the mean as it
    is, and weigh the whole term by the mean number of images."""
    copies = np.concatenate([np.arange(10), np.flatnonzero(Y == 2)])
    one, more = (fit(X[r], Y[r], blend=0.0) for r in (np.arange(10), copies))
    more.range_ = one.range_
    zero_shot = ZeroShot(TEXT).fit(X, Y).logits(QUERIES)
    np.testing.assert_allclose(
        more.logits(QUERIES) - zero_shot, 14 / 10 * (one.logits(QUERIES) - zero_shot), rtol=1e-5
    )


def test_a_class_without_images_plays_no_part_in_the_term() -> None:
    """The others have three keys on the mean; its own votes are the mean of theirs."""
    rows, labels = X[:9], Y[:9]
    head = fit(rows, labels, blend=0.0)
    found = head.logits(QUERIES) - ZeroShot(TEXT).fit(rows, labels).logits(QUERIES)
    lowest, highest, start, end = head.range_.astype(float)
    _, divergences = terms(rows)
    means = np.stack([divergences[:, labels == c].mean(axis=1) for c in range(3)], axis=1)
    rescaled = (end - start) / (highest - lowest) * (means - lowest) + start
    np.testing.assert_allclose(found[:, :3], -head.profile_blend * 3 * rescaled, atol=1e-3)
    np.testing.assert_allclose(found[:, 3], found[:, :3].mean(axis=1), atol=1e-3)


def test_profiles_are_those_of_the_keys_where_there_are_views() -> None:
    found, expected = TipX(TEXT).fit(X, Y, views=VIEWS), TipX(TEXT).fit(VIEWS.mean(axis=1), Y)
    np.testing.assert_allclose(found.profiles_, expected.profiles_, atol=1e-6)
    np.testing.assert_allclose(found.range_, expected.range_, rtol=1e-4)


# -- the batch -------------------------------------------------------------------------------------


def test_only_rescaling_by_the_batch_makes_answers_depend_on_it() -> None:
    for rescale, same in (("support", True), ("batch", False)):
        head = fit(rescale=rescale)
        together, few = head.logits(QUERIES), head.logits(QUERIES[:5])
        assert np.allclose(few, together[:5], rtol=0, atol=1e-9) == same


def test_copies_of_a_query_are_no_other_batch() -> None:
    head = fit(rescale="batch")
    np.testing.assert_allclose(
        head.logits(np.tile(QUERIES, (2, 1)))[30:], head.logits(QUERIES), atol=1e-9
    )


# -- few images ------------------------------------------------------------------------------------


def test_one_image_per_class_has_a_range() -> None:
    rows = [0, 3, 5, 9]
    head = fit(X[rows], Y[rows])
    lowest, highest, start, end = head.range_
    assert 0 < lowest < highest and start < end < 1
    without = fit(X[rows], Y[rows], profile_blend=0.0)
    assert np.abs(head.logits(QUERIES) - without.logits(QUERIES)).max() > 1


def test_one_image_in_each_of_two_classes_still_compares_profiles() -> None:
    text, rows = TEXT[:2], [0, 3]
    head = TipX(text, blend=0.0).fit(X[rows], Y[rows])
    votes = head.logits(QUERIES) - ZeroShot(text).fit(X[rows], Y[rows]).logits(QUERIES)
    log_p, log_q = (log_profile(torch.from_numpy(a), torch.from_numpy(text)) for a in (QUERIES, X))
    nearest = divergence(log_p, log_q[rows]).argmin(dim=1)
    np.testing.assert_array_equal(votes.argmax(axis=1), nearest)


@pytest.mark.parametrize("rescale", ["support", "batch"])
def test_a_single_image_in_all_leaves_tip_adapter(rescale: str) -> None:
    expected = TipAdapter(TEXT, blend=1.0, sharpness=8.0).fit(X[:1], Y[:1])
    found = fit(X[:1], Y[:1], rescale=rescale)
    one = slice(0, 1)  # one query and one key have no range either
    np.testing.assert_allclose(
        found.predict_proba(QUERIES[one]), expected.predict_proba(QUERIES[one]), rtol=1e-9
    )
    if rescale == "support":
        np.testing.assert_array_equal(found.predict(QUERIES), expected.predict(QUERIES))


# -- selection -------------------------------------------------------------------------------------


def test_sweep_gives_what_refitting_with_each_pair_gives() -> None:
    """In the order that selection asks in, and in any other."""
    points = [{"sharpness": b, "profile_blend": g} for b in (1.0, 20.0) for g in (0.5, 2.0, 9.0)]
    points += [{"profile_blend": 3.0}, points[0], {"sharpness": 20.0}]
    head = fit()
    for point, (base, votes) in zip(points, head.sweep(QUERIES, points), strict=True):
        expected = fit(**point, blend=2.5).logits(QUERIES)
        np.testing.assert_allclose((base + 2.5 * votes).numpy(), expected, rtol=1e-12)


def test_both_settings_are_searched() -> None:
    head = select("tip-x", FewShotTask(X, Y, QUERIES[:8], np.arange(8) % 4, TEXT), "val")
    assert head.selection_.settings.keys() == {"sharpness", "profile_blend", "blend"}
    assert len(head.selection_.trace) == 20 * 12


# -- as published ----------------------------------------------------------------------------------

# Logits that depend on divergences, which were published in float32: absolute 2e-3 is stated.
LOOSE = 2e-3


def test_divergences_as_published(oracle: Oracle, oracle_inputs: OracleInputs) -> None:
    """Absolute 2e-6, as stated: sums in float32, with cancellation."""
    published, given = oracle("tip_x"), oracle_inputs
    log_p, log_q = (log_profile(x, given.text) for x in (given.queries, given.support))
    found = divergence(log_p, log_q)
    assert found.shape == (40, 76)
    assert (found - published["mended_kl_140"][:40]).abs().max() < 2e-6
    assert (published["kl_official_140"][100:] == 0).all()  # the defect
    ends = torch.stack([found.min(), found.max()])
    assert (ends - published["kl_range_query"]).abs().max() < 2e-6


@pytest.mark.parametrize(
    ("ends", "name"),
    [
        ("affinity_range_query", "mended_query_kl_logits"),
        # The defect: queries sent to the range of the cosines of validation images.
        ("affinity_range_val", "query_kl_logits_official_val_range"),
    ],
)
def test_rescaled_votes_as_published(
    oracle: Oracle, oracle_inputs: OracleInputs, ends: str, name: str
) -> None:
    published, given = oracle("tip_x"), oracle_inputs
    log_p, log_q = (log_profile(x, given.text) for x in (given.queries, given.support))
    lowest, highest = published["kl_range_query"].tolist()
    rescale = Rescale(lowest, highest, *published[ends].tolist())
    by_key = profile_votes_by_key(divergence(log_p, log_q), given.labels, 19, rescale)
    assert_agree(by_key, published[name])
    profiles = class_profiles(log_q, given.labels, 19)
    assert_agree(profile_votes(log_p, profiles, 4, rescale), published[name])


def test_head_as_published(oracle: Oracle, oracle_inputs: OracleInputs) -> None:
    published, given = oracle("tip_x"), oracle_inputs
    head = TipX(
        given.text.numpy(), blend=2.595, sharpness=5.9, profile_blend=3.09, rescale="batch"
    ).fit(given.support.numpy(), given.labels.numpy())
    found = torch.from_numpy(head.logits(given.queries.numpy()))
    assert (found - published["mended_query_logits"]).abs().max() < LOOSE
    assert (published["query_logits_official_val_range"] - found).abs().max() > 0.1


def test_the_measured_range_can_be_given(oracle: Oracle, oracle_inputs: OracleInputs) -> None:
    """The head's own prediction, answers free of the batch, with the ranges that were published."""
    published, given = oracle("tip_x"), oracle_inputs
    head = TipX(given.text.numpy(), blend=2.595, sharpness=5.9, profile_blend=3.09).fit(
        given.support.numpy(), given.labels.numpy()
    )
    for ends, name in (
        ("affinity_range_query", "mended_query_logits"),
        ("affinity_range_val", "query_logits_official_val_range"),
    ):
        head.range_ = torch.cat([published["kl_range_query"], published[ends]]).numpy()
        found = torch.from_numpy(head.logits(given.queries.numpy()))
        assert (found - published[name]).abs().max() < LOOSE
        alone = torch.from_numpy(head.logits(given.queries[3:4].numpy()))
        assert (alone - published[name][3:4]).abs().max() < LOOSE
