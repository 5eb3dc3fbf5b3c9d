"""No method sees a test image: what reaches methods and selection is followed to its last array.

Asked of every method in the registry, under every selection policy, through the runner itself: a
new method is examined here by being registered.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_corrections import small_correction

from handful import Features, FewShotTask, load_features, methods, save_features
from handful.benchmark import one_run, runner
from handful.benchmark.one_run import Run, learn, task_of
from handful.benchmark.plan import Plan
from handful.benchmark.protocols import Draw, draw
from handful.benchmark.source import Source
from handful.benchmark.sources import features_source
from handful.methods.head import Head
from handful.selection.select import POLICIES

every_method = pytest.mark.parametrize("name", methods.names())


def corrected(name: str, width: int, folder: Path) -> dict[str, str]:
    """What a plan is told of a correction, for a method that needs one."""
    if not methods.get(name).needs_correction:
        return {}
    path = folder / "correction.safetensors"
    small_correction(width).save(path)
    return {"correction": str(path)}


every_policy = pytest.mark.parametrize("policy", POLICIES)

WIDTH, CLASSES = 24, 4
# Orthonormal columns: what is before it is as wide again, and comes back behind it.
PROJECTION = np.linalg.qr(np.random.default_rng(1).normal(size=(2 * WIDTH, WIDTH)))[0]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of four classes with views, text and all three splits, in no order."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, WIDTH))
    labels = rng.permutation(np.repeat(np.arange(CLASSES), 25))
    split = np.empty_like(labels)
    for c in range(CLASSES):
        split[labels == c] = rng.permutation(np.repeat([0, 1, 2], [8, 6, 11]))
    X = centres[labels] + 0.9 * rng.normal(size=(len(labels), WIDTH))
    path = tmp_path_factory.mktemp("toy") / "toy.safetensors"
    save_features(
        path,
        Features(
            image_features=X,
            labels=labels,
            split=split,
            view_features=X[:, None] + 0.3 * rng.normal(size=(len(labels), 2, WIDTH)),
            text_features=(centres + 0.8 * rng.normal(size=(3, *centres.shape))).swapaxes(0, 1),
            class_names=tuple("abcd"),
            logit_scale=20.0,
            pooled_features=X @ PROJECTION.T,
            projection=PROJECTION,
        ),
    )
    return path


# -- following objects -----------------------------------------------------------------------------


def reachable(start: object) -> Iterator[np.ndarray]:
    """Every array that ``start`` leads to: itself, what it is a view of, and lists of numbers."""
    seen: dict[int, object] = {}  # kept, so that no number is given to a second object
    left: list[object] = [start]
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, type | types.ModuleType | str | None):
            continue
        seen[id(one)] = one
        if isinstance(one, torch.Tensor):
            # Not followed further: these are new objects every time.
            yield one.detach().numpy()
            yield torch.empty(0, dtype=one.dtype).set_(one.untyped_storage()).numpy()
        elif isinstance(one, np.ndarray):
            if one.dtype == object:
                left += one.ravel().tolist()
            else:
                yield one
            left.append(one.base)
        elif isinstance(one, bytes | bytearray | memoryview):
            octets = np.frombuffer(one, np.uint8)
            yield octets
            if octets.size % 4 == 0:
                yield octets.view(np.float32)
        elif isinstance(one, Mapping):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            numbers = [x for x in one if isinstance(x, int | float | np.number)]
            if numbers and len(numbers) == len(one):
                yield np.array(numbers)
            else:
                left += one
        elif isinstance(one, types.FunctionType):
            left += [cell.cell_contents for cell in one.__closure__ or ()]
            left += [one.__defaults__, one.__kwdefaults__]
        elif isinstance(one, types.MethodType):
            left += [one.__self__, one.__func__]
        if is_dataclass(one):
            left += [getattr(one, field.name) for field in fields(one)]
        left += vars(one).values() if hasattr(one, "__dict__") else ()
        slots = [name for c in type(one).__mro__ for name in getattr(c, "__slots__", ())]
        left += [getattr(one, name, None) for name in slots]


def test_following_finds_arrays_wherever_they_are() -> None:
    hidden = np.arange(6.0)

    class Slotted:
        __slots__ = ("inside",)

    slotted = Slotted()
    slotted.inside = {"a": (hidden,)}

    class Named(list):  # type: ignore[type-arg]
        pass

    named = Named(["a"])
    named.hidden = hidden
    places: list[Any] = [
        hidden,
        hidden[2:3],
        torch.from_numpy(hidden)[1:2],
        torch.from_numpy(hidden)[1:2].numpy(),
        hidden.tolist(),
        [[hidden.tolist()]],
        slotted,
        named,
        lambda: hidden,
        lambda x=hidden: x,
        np.array([{1: hidden}], dtype=object),
        types.SimpleNamespace(a=hidden).__dict__,
    ]
    for place in places:
        found = [a for a in reachable(place) if np.array_equal(a.astype(float).ravel(), hidden)]
        assert found, place


class Guard:
    """Says whether an object leads to rows or labels that it must not lead to.

    Args:
        source: what the runner read; none of its arrays of images may be reached at all.
        hidden: rows of the source that nobody may see, neither as they are nor scaled.
        labels: of the test, which may be found nowhere in their order.
    """

    def __init__(self, source: Source, hidden: np.ndarray, labels: np.ndarray) -> None:
        f = source.features
        arrays = (f.image_features, f.labels, f.view_features, f.split, source.labels)
        self.memory = [a for a in (*arrays, f.pooled_features) if a is not None]
        rows = [f.image_features[hidden]]
        if f.view_features is not None:
            rows.append(f.view_features[hidden].reshape(-1, f.image_features.shape[1]))
        self.rows = [self.unit(np.concatenate(rows))]
        if f.pooled_features is not None:
            self.rows.append(self.unit(f.pooled_features[hidden]))
        self.labels = labels.astype(np.int64).tobytes()

    @staticmethod
    def unit(rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float64)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)

    def check(self, what: str, given: object) -> None:
        for array in reachable(given):
            for secret in self.memory:
                assert not np.may_share_memory(array, secret), f"{what} holds memory of the source"
            if array.dtype.kind in "iu" and array.ndim == 1:
                assert self.labels not in array.astype(np.int64).tobytes(), f"{what}: test labels"
            if array.dtype.kind != "f":
                continue
            for rows in self.rows:
                width = rows.shape[1]
                readings = [np.moveaxis(array, a, -1) for a in range(array.ndim)]
                readings += [array.reshape(-1, width)] if array.size % width == 0 else []
                for reading in readings:
                    if reading.shape and reading.shape[-1] == width:
                        cosines = self.unit(reading.reshape(-1, width)) @ rows.T
                        assert cosines.max(initial=0) < 1 - 1e-6, f"{what} holds a hidden row"


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Follow everything that the runner hands to selection and to heads; count how often."""
    calls = {"select": 0, "fit": 0, "fit_many": 0}
    guards: list[Guard] = []

    def follow(target: Any, name: str) -> None:
        original = vars(target)[name] if isinstance(target, type) else getattr(target, name)
        inner = getattr(original, "__func__", original)

        def followed(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            guards[-1].check(name, [a for a in args if not isinstance(a, type)] + [kwargs])
            return inner(*args, **kwargs)

        is_class_method = isinstance(original, classmethod)
        monkeypatch.setattr(target, name, classmethod(followed) if is_class_method else followed)

    run_once = runner.run_once

    def guarded(
        run: Run, source: Source, drawn: Draw, task: FewShotTask, *others: Any
    ) -> dict[str, Any]:
        hidden = drawn.test
        if run.select != "val" and drawn.validation is not None:
            hidden = np.concatenate([hidden, drawn.validation])
        guards.append(Guard(source, hidden, source.labels[drawn.test]))
        return run_once(run, source, drawn, task, *others)

    monkeypatch.setattr(runner, "run_once", guarded)
    follow(one_run, "select")
    kinds = {c for name in methods.names() for c in methods.get(name).__mro__}
    for kind in kinds:
        for name in ("fit", "fit_many"):
            if issubclass(kind, Head) and name in vars(kind):
                follow(kind, name)
    return calls


# -- what methods see ------------------------------------------------------------------------------


@every_method
@every_policy
def test_nothing_leads_to_a_test_image(
    name: str, policy: str, toy: Path, tmp_path: Path, watch: dict[str, int]
) -> None:
    plan = Plan(
        features=(str(toy),),
        methods=(name,),
        shots=(1, 4),
        seeds=(1,),
        select=policy,
        **corrected(name, WIDTH, tmp_path),
    )
    runner.run_plan(plan, tmp_path / "results.jsonl")
    assert watch["select"] == 2
    assert watch["fit"] + watch["fit_many"] >= 2


# The shared files hold no features before the projection.
@pytest.mark.parametrize(
    "name", [n for n in methods.names() if not methods.get(n).before_projection]
)
def test_nothing_leads_to_a_test_image_of_real_features(
    name: str, shared: Path, tmp_path: Path, watch: dict[str, int]
) -> None:
    path = shared / "data/whu-rs19/features/clip-vit-b-32.safetensors"
    plan = Plan(
        (str(path),),
        methods=(name,),
        shots=(2,),
        seeds=(1,),
        protocol="whu",
        **corrected(name, 512, tmp_path),
    )
    runner.run_plan(plan, tmp_path / "results.jsonl")
    assert watch["select"] == 1


Leak = Callable[[Source, Draw, FewShotTask], FewShotTask]


class Names(tuple):  # type: ignore[type-arg]
    """Class names that carry something."""


def carrying(task: FewShotTask, load: object) -> FewShotTask:
    names = Names(task.class_names or ())
    names.load = load
    return replace(task, class_names=names)


LEAKS: dict[str, Leak] = {
    "the whole source is learnt from": lambda s, d, t: replace(
        t, X=s.features.image_features, y=s.labels, views=None, groups=None
    ),
    "a view, and not a copy, of the first rows": lambda s, d, t: replace(
        t, X=s.features.image_features[:40], y=s.labels[:40].copy(), views=None, groups=None
    ),
    "labels are a view": lambda s, d, t: replace(
        t, X=t.X[:9].copy(), y=s.labels[:9], views=None, groups=None
    ),
    "settings are chosen on the test": lambda s, d, t: replace(
        t, X_val=s.features.image_features[d.test], y_val=s.labels[d.test]
    ),
    "one test image is among the support, at unit length": lambda s, d, t: replace(
        t, X=np.concatenate([t.X[:-1], Guard.unit(s.features.image_features[d.test[:1]])])
    ),
    "views of a test image": lambda s, d, t: replace(
        t,
        views=np.concatenate([t.views[:-1], s.features.view_features[d.test[:1]]]),  # type: ignore[index]
    ),
    "test images among the texts": lambda s, d, t: replace(
        t, class_embeddings=s.features.image_features[d.test[:CLASSES]]
    ),
    "the source is hidden in the names": lambda s, d, t: carrying(t, s),
    "a function that knows the test labels": lambda s, d, t: carrying(
        t, lambda labels=s.labels[d.test]: labels
    ),
    "test labels as a list": lambda s, d, t: carrying(t, {"a": s.labels[d.test].tolist()}),
    "test images before the projection": lambda s, d, t: carrying(
        t, 2 * s.features.pooled_features[d.test]
    ),
    "test images on their side": lambda s, d, t: carrying(
        t, torch.from_numpy(s.features.image_features[d.test]).T
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_runner_that_leaks_would_be_caught(
    leak: str, toy: Path, tmp_path: Path, watch: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaky(source: Source, drawn: Draw, policy: str) -> FewShotTask:
        return LEAKS[leak](source, drawn, task_of(source, drawn, policy))

    monkeypatch.setattr(runner, "task_of", leaky)
    plan = Plan(features=(str(toy),), methods=("zero-shot",), shots=(4,), seeds=(1,), select="val")
    with pytest.raises(AssertionError, match=r"^select"):
        runner.run_plan(plan, tmp_path / "results.jsonl")
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.parametrize("policy", ["cv", "fixed"])
def test_validation_images_where_the_policy_has_none_would_be_caught(
    policy: str, toy: Path, tmp_path: Path, watch: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "task_of", lambda s, d, _: task_of(s, d, "val"))
    plan = Plan(features=(str(toy),), methods=("zero-shot",), shots=(4,), seeds=(1,), select=policy)
    with pytest.raises(AssertionError, match=r"^select holds a hidden row"):
        runner.run_plan(plan, tmp_path / "results.jsonl")


def test_a_method_that_is_handed_the_source_would_be_caught(
    toy: Path, tmp_path: Path, watch: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Selection may be honest and the final fit not."""
    source = features_source(toy)

    def dishonest(method: str, task: FewShotTask, *_: Any, **__: Any) -> Head:
        kind = methods.get(method)
        return kind(**task.head_arguments()).fit(source.features.image_features, source.labels)

    monkeypatch.setattr(one_run, "select", dishonest)
    plan = Plan(features=(str(toy),), methods=("zero-shot",), shots=(4,), seeds=(1,), select="val")
    with pytest.raises(AssertionError, match=r"^fit(_many)? holds a hidden row"):
        runner.run_plan(plan, tmp_path / "results.jsonl")


# -- what test images change -----------------------------------------------------------------------


def spoilt(path: Path, drawn: Draw, policy: str, value: float) -> Source:
    """The source with everything about its test images replaced, and that of the images which the
    policy does not use."""
    hidden = drawn.test
    if policy != "val" and drawn.validation is not None:
        hidden = np.concatenate([hidden, drawn.validation])
    features = load_features(path)
    assert features.labels is not None and features.view_features is not None
    assert features.pooled_features is not None
    # Into the arrays themselves: a features file with NaN would be refused.
    features.image_features[hidden] = value
    features.view_features[hidden] = value
    features.pooled_features[hidden] = value
    features.labels[hidden] = (features.labels[hidden] + 1) % CLASSES
    return Source("spoilt", (), features, features.labels, features.class_names or (), "spoilt")


def assert_same_head(found: Head, expected: Head) -> None:
    assert found.settings() == expected.settings()
    assert found.selection_ is not None and expected.selection_ is not None
    assert found.selection_.to_json() == expected.selection_.to_json()
    arrays = expected.arrays()
    assert found.arrays().keys() == arrays.keys()
    for name, array in found.arrays().items():
        assert array.dtype == arrays[name].dtype
        assert array.tobytes() == arrays[name].tobytes(), name


@every_method
@every_policy
def test_replacing_the_test_images_changes_nothing(name: str, policy: str, toy: Path) -> None:
    given = small_correction(WIDTH) if methods.get(name).needs_correction else None
    source = replace(features_source(toy), correction=given).seen_by(name)
    drawn = draw("coop", source, 4, 1)
    other = replace(spoilt(toy, drawn, policy, np.nan), correction=given).seen_by(name)
    again = draw("coop", other, 4, 1)
    assert again.support.tolist() == drawn.support.tolist()
    run = Run(source.digest, "coop", policy, 4, 1, name)
    expected = learn(run, task_of(source, drawn, policy))
    assert_same_head(learn(run, task_of(other, drawn, policy)), expected)


def test_replacing_the_test_images_would_change_a_leak(toy: Path) -> None:
    """The same comparison where settings are chosen on the test."""

    def leaky(source: Source) -> FewShotTask:
        task, f = task_of(source, drawn, "val"), source.features
        return replace(task, X_val=f.image_features[drawn.test], y_val=source.labels[drawn.test])

    source = features_source(toy)
    drawn = draw("coop", source, 4, 1)
    run = Run(source.digest, "coop", "val", 4, 1, "tip-adapter")
    expected = learn(run, leaky(source))
    with pytest.raises(AssertionError):
        assert_same_head(learn(run, leaky(spoilt(toy, drawn, "val", 1e6))), expected)
