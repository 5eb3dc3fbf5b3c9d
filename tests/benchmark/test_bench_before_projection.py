"""Methods on features before the visual projection, among others in one plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful import Features, InputError, methods, save_features, select
from handful.benchmark.one_run import task_of
from handful.benchmark.plan import Plan
from handful.benchmark.protocols import draw
from handful.benchmark.runner import Ran, run_plan
from handful.benchmark.sources import features_source

L1P, L2P = "elevater-l1p", "elevater-l2p"
QUICK: dict[str, Any] = {"shots": (1,), "seeds": (1,), "select": "fixed"}


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Three classes of eight images in 4 dimensions behind the projection and 6 before it."""
    rng = np.random.default_rng(0)
    projection, labels = rng.normal(size=(6, 4)), np.tile([0, 1, 2], 8)
    before = rng.normal(size=(3, 6))[labels] + 0.3 * rng.normal(size=(24, 6))
    features = Features(
        before @ projection,
        labels=labels,
        split=np.repeat([0, 2], 12),
        view_features=(before @ projection)[:, None],
        class_embeddings=rng.normal(size=(3, 4)),
        pooled_features=before,
        projection=projection,
    )
    save_features(tmp_path / "full.safetensors", features)
    return tmp_path / "full.safetensors"


@pytest.fixture
def plain(full: Path, tmp_path: Path) -> Path:
    features = replace(features_source(full).features, pooled_features=None, projection=None)
    save_features(tmp_path / "plain.safetensors", features)
    return tmp_path / "plain.safetensors"


def made(out: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return {row["method"]: row for row in rows if row["kind"] == "run"}


def test_each_method_sees_its_own_features(full: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    plan = Plan((str(full),), methods=(L2P, L1P), settings={"all": {"epochs": 2}}, **QUICK)
    assert run_plan(plan, out) == Ran(2, 0, 2)
    found = made(out)
    assert found[L2P]["trained_parameters"] == 3 * 4 + 3
    assert found[L1P]["trained_parameters"] == 3 * 6 + 3
    (source,) = plan.sources()
    drawn = draw("coop", source, 1, 1)
    seen = source.seen_by(L1P)
    task = task_of(seen, drawn, "fixed")
    f = source.features
    np.testing.assert_array_equal(task.X, f.pooled_features[drawn.support])  # type: ignore[index]
    assert task.views is None and task_of(source, drawn, "fixed").projection is None
    head = select(L1P, task, "fixed", random_state=1, epochs=2)
    expected = head.score(f.pooled_features[drawn.test], source.labels[drawn.test])  # type: ignore[index]
    assert found[L1P]["accuracy"] == pytest.approx(expected)


def test_what_a_source_cannot_serve_is_refused_before_any_run(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    with pytest.raises(InputError, match=r"plain has no features before .* use elevater-l2p\.$"):
        run_plan(Plan((str(plain),), methods=(L2P, L1P), **QUICK), out)
    assert not out.exists()


def test_of_all_methods_it_is_left_out_with_one_notice(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    plan = Plan((str(plain),), settings={"all": {"epochs": 1}}, **QUICK)
    with pytest.warns(RuntimeWarning, match="is left out") as said:
        run_plan(plan, out)
    (notice,) = [str(one.message) for one in said if "left out" in str(one.message)]
    assert notice.startswith("'elevater-l1p' is left out on 1 of 1 sources: plain has no features")
    corrected = {n for n in methods.names() if methods.get(n).needs_correction}
    assert made(out).keys() == set(methods.names()) - {L1P} - corrected


@pytest.mark.parametrize("name", ["clip", "dinov2"])
def test_images_are_encoded_twice_only_where_a_method_asks(
    name: str, tiny, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.jsonl"
    given = {"images": (str(photos),), "encoder": f"dir:{tiny(name)}", **QUICK}
    chosen = Plan(methods=(L2P, L1P), settings={"all": {"epochs": 1}}, **given)
    if name == "dinov2":
        with pytest.raises(InputError, match="no projection behind its image tower"):
            run_plan(chosen, out)
        (source,) = Plan(**given).sources()
        assert source.lacks(L1P) and not source.lacks(L2P)
        return
    assert run_plan(chosen, out) == Ran(2, 0, 2)
    (alone,) = Plan(methods=(L2P,), **given).sources()
    assert alone.features.pooled_features is None
    (both,) = chosen.sources()
    assert both.digest == alone.digest  # what was run without it need not be run again
