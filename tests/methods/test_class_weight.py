"""``class_weight``: under ``balanced`` a class counts the same, however many images it has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_sample_weight
from two_spaces import as_taken

from handful import methods
from handful.errors import InputError
from handful.functional.class_weights import balanced_weights
from handful.functional.discriminant import gaussian_discriminant
from handful.functional.expert_weights import expert_weights
from handful.functional.kernel import cache_votes
from handful.methods.head import Head
from handful.methods.training import Recipe, train

WEIGHED = [name for name in methods.names() if "class_weight" in methods.get(name)().settings()]
MEANS = [name for name in methods.names() if name not in WEIGHED]
every_weighed = pytest.mark.parametrize("name", WEIGHED)

RNG = np.random.default_rng(0)
MIDDLES = RNG.normal(size=(5, 24))
Y = np.array([0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 4, 4])
X = MIDDLES[Y] + 0.6 * RNG.normal(size=(12, 24))
TEXT = MIDDLES + 0.5 * RNG.normal(size=(5, 24))
QUERIES = MIDDLES[RNG.integers(5, size=40)] + 0.8 * RNG.normal(size=(40, 24))
TIMES = 4  # each image of class 3 so often
COPIED = np.concatenate([np.arange(12), np.tile(np.flatnonzero(Y == 3), TIMES - 1)])
MORE = len(COPIED) / len(Y)  # how much more the votes, or the errors, add up to


def make(name: str, **settings: Any) -> Head:
    """A head at a small scale, at which the names leave something to learn."""
    kind = methods.get(name)
    if "epochs" in inspect.signature(kind).parameters:
        settings.setdefault("epochs", 15)
    return kind(TEXT, logit_scale=4.0, **settings)


# -- the weights -----------------------------------------------------------------------------------


def test_the_weights_are_those_of_scikit_learn() -> None:
    found = balanced_weights(torch.from_numpy(Y), 7)
    np.testing.assert_allclose(found, compute_sample_weight("balanced", Y), rtol=1e-6)
    assert float(found.mean()) == pytest.approx(1)


@every_weighed
def test_where_counts_are_equal_it_changes_nothing(name: str) -> None:
    rows = np.flatnonzero(np.isin(Y, (0, 2, 3, 4)))
    rows = np.concatenate([rows[Y[rows] == c][:2] for c in (0, 2, 3, 4)])  # class 1 has none
    one, other = (
        make(name, class_weight=how)
        .fit(as_taken(name, X[rows]), Y[rows])
        .logits(as_taken(name, QUERIES))
        for how in ("none", "balanced")
    )
    np.testing.assert_array_equal(one, other)


@every_weighed
def test_where_they_are_not_it_does(name: str) -> None:
    rows, queries = as_taken(name, X), as_taken(name, QUERIES)
    one, other = (
        make(name, class_weight=how).fit(rows, Y).logits(queries) for how in ("none", "balanced")
    )
    assert np.abs(one - other).max() > 1e-4 * np.abs(one).max()


@pytest.mark.parametrize("given", [{0: 2.0, 1: 1.0}, None, "equal"])
def test_other_weights_are_refused(given: object) -> None:
    with pytest.raises(InputError, match=r"'class_weight' of method 'gda'.*none or balanced"):
        make("gda", class_weight=given).fit(X, Y)


def test_a_head_saved_before_there_were_weights_has_none() -> None:
    head = make("tip-adapter", class_weight="none").fit(X, Y)
    settings = {k: v for k, v in head.settings().items() if k != "class_weight"}
    again = type(head).from_arrays(head.arrays(), head.classes_, settings, head.logit_scale)
    np.testing.assert_array_equal(again.logits(QUERIES), head.logits(QUERIES))


# -- copies of the images of a class ---------------------------------------------------------------


def of_copies(name: str, strength: str | None, power: float, **settings: Any) -> None:
    """Copies of a class's images are its images; only how much there is of everything grows.

    ``strength`` is the setting that the sum over all images is held against, in ``power``.
    """
    if strength is not None:
        settings.setdefault(strength, getattr(make(name), strength))
    rows, queries = as_taken(name, X), as_taken(name, QUERIES)
    expected = make(name, **settings).fit(rows, Y).logits(queries)
    if strength is not None:
        settings[strength] *= MORE**power
    found = make(name, **settings).fit(rows[COPIED], Y[COPIED]).logits(queries)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", MEANS)
def test_a_head_without_the_setting_does_not_count_images(name: str) -> None:
    of_copies(name, None, 0)


@pytest.mark.parametrize(
    ("name", "strength", "power", "settings"),
    [
        ("tip-adapter", "blend", -1, {}),
        ("tip-x", "blend", -1, {"profile_blend": 0.0}),
        ("ape", "blend", -1, {"keep": 1.0}),
        ("cafo", None, 0, {"epochs": 0}),
        ("clip-adapter", "cache_blend", -1, {"cache": "tip", "epochs": 0}),
        ("proker", "penalty", 1, {}),
        ("proker", "penalty", 1, {"target": "logit", "blend": 0.5}),
        ("linear-probe", "C", -1, {}),
    ],
)
def test_copies_change_nothing_in_closed_forms(
    name: str, strength: str | None, power: float, settings: dict[str, Any]
) -> None:
    of_copies(name, strength, power, **settings)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("zs-lp", {}),
        ("clap", {}),
        ("task-res", {}),
        ("task-res", {"enhanced": True}),
        ("graph-adapter", {}),
        ("cross-modal", {"text_share": 0.0}),
        ("clip-adapter", {"branch": "both"}),
        ("elevater-l2p", {}),
        ("elevater-r2p", {}),
        ("elevater-l1p", {}),
        ("wise-ft", {"base": "zs-lp"}),
    ],
)
def test_copies_change_nothing_in_training(name: str, settings: dict[str, Any]) -> None:
    of_copies(name, None, 0, **settings)


def test_the_weighted_loss_is_that_of_copies() -> None:
    """Weights of whole numbers, over their mean, are copies: the same steps, batch by batch."""
    times = torch.tensor([1, 3, 2, 1, 1])
    x, labels = torch.randn(5, 1, 6, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    rows = torch.arange(5).repeat_interleave(times)
    recipe = Recipe(epochs=6, lr=0.5, weight_decay=0.0, schedule="constant", optimiser="sgd")

    def trained(x: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None) -> Any:
        (found,) = train(
            [torch.zeros(1, 5, 6)],
            lambda v, matrix: v @ matrix.mT,
            [x],
            labels[None],
            recipe,
            [0],
            weights=weights,
        )
        return found

    weighted = trained(x, labels, (times / times.double().mean()).float()[None])
    torch.testing.assert_close(weighted, trained(x[rows], labels[rows], None))
    assert not torch.allclose(weighted, trained(x, labels, None), atol=1e-3)


def test_copies_in_votes_covariances_and_the_weights_of_experts() -> None:
    times = torch.tensor([1, 3, 2, 1, 1, 2, 1, 1, 4, 1, 1, 2])
    rows = torch.arange(12).repeat_interleave(times)
    x, y, text = torch.from_numpy(X), torch.from_numpy(Y), torch.from_numpy(TEXT)
    torch.testing.assert_close(
        cache_votes(x @ x.T, y, 5, 0.1, times.double()),
        cache_votes(x @ x[rows].T, y[rows], 5, 0.1),
    )
    logits = torch.randn(3, 12, 5, generator=torch.Generator().manual_seed(0)).double()
    assert expert_weights(logits, y, [0.3] * 3, 1.0, weights=times.double()) == pytest.approx(
        expert_weights(logits[:, rows], y[rows], [0.3] * 3, 1.0), rel=1e-4
    )
    # Copies of whole classes, so that class means stay: S adds up, its ridge is the trace over
    # one less than the number of samples.
    times = torch.tensor([1, 2, 1, 3, 1])[y]
    rows = torch.arange(12).repeat_interleave(times)
    weight, _ = gaussian_discriminant(x, y, text, weights=times.double())
    deviations = torch.stack([x[i] - x[y == y[i]].mean(dim=0) for i in rows.tolist()])
    scatter = deviations.T @ deviations
    precision = torch.linalg.inv(scatter + scatter.trace() / 11 * torch.eye(24))
    means = torch.stack([x[y == c].mean(dim=0) for c in range(5)])
    torch.testing.assert_close(weight, 24 * means @ precision)


def test_leaving_one_out_is_refitting_without_it() -> None:
    """Of weighted errors, too; the weights of the others stay, so nothing but the row goes."""
    head = make("proker", penalty=0.3).fit(X, Y)
    weights = balanced_weights(torch.from_numpy(Y), 5).double().numpy()
    keys = head.keys_ / np.linalg.norm(head.keys_, axis=1, keepdims=True)  # type: ignore[attr-defined]
    kernel = np.exp(keys.astype(float) @ keys.T - 1)
    logits = 4 * keys @ (head.text_ / np.linalg.norm(head.text_, axis=1, keepdims=True)).T
    prior = np.exp(logits - logits.max(axis=1, keepdims=True))
    prior /= prior.sum(axis=1, keepdims=True)
    for i in range(12):
        rest = np.arange(12) != i
        system = kernel[np.ix_(rest, rest)] + 0.3 * np.diag(1 / weights[rest])
        found = prior[i] + kernel[i, rest] @ np.linalg.solve(
            system, np.eye(5)[Y[rest]] - prior[rest]
        )
        np.testing.assert_allclose(head.leave_one_out()[i], found, atol=1e-4)  # type: ignore[attr-defined]


def test_what_is_swept_is_what_is_predicted() -> None:
    """Every head that votes, or solves anew, for the settings that selection tries."""
    for name in WEIGHED:
        blend = methods.get(name).search.blend
        if blend is None:
            continue
        queries = as_taken(name, QUERIES)
        head = make(name).fit(as_taken(name, X), Y)
        ((base, direction),) = head.sweep(queries)
        expected = head.decision_function(queries)
        found = (base + getattr(head, blend) * direction).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_step_of_lp_plus_plus_goes_down_the_weighted_loss() -> None:
    names = np.roll(TEXT, 1, axis=0)  # those of other classes: there is something to learn
    start, after = (methods.get("lp++")(names, steps=steps).fit(X, Y) for steps in (0, 1))
    x, text = (torch.nn.functional.normalize(torch.from_numpy(rows).float()) for rows in (X, names))
    weight, bias, blend = (
        torch.from_numpy(getattr(start, name)).requires_grad_()
        for name in ("weight_", "bias_", "blend_")
    )
    logits = x @ weight.T + bias + blend * (x @ text.T)
    errors = torch.nn.functional.cross_entropy(logits, torch.from_numpy(Y), reduction="none")
    (errors * balanced_weights(torch.from_numpy(Y), 5)).mean().backward()
    for parameter, name in ((weight, "weight_"), (bias, "bias_")):
        moved, gradient = parameter.detach().numpy() - getattr(after, name), parameter.grad
        assert gradient is not None
        np.testing.assert_allclose(
            moved / np.linalg.norm(moved), gradient / gradient.norm(), atol=1e-4
        )


# -- one and two hundred ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", methods.names())
def test_one_image_of_one_class_and_two_hundred_of_another(name: str) -> None:
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], [1, 200, 5])
    rows = MIDDLES[y] + 0.6 * rng.normal(size=(206, 24))
    head = methods.get(name)(
        TEXT[:3], **({"epochs": 15} if "epochs" in make(name).settings() else {})
    )
    head.fit(as_taken(name, rows), y)
    true = np.repeat([0, 1, 2], 20)
    queries = MIDDLES[true] + 0.6 * rng.normal(size=(60, 24))
    right = head.predict(as_taken(name, queries)) == true
    # A single image says where its class is: the classes are far apart.
    assert all(right[true == c].mean() >= 0.8 for c in range(3))


@every_weighed
def test_a_rare_class_is_not_recalled_less_often(name: str, whu: Callable[..., Any]) -> None:
    """Real features: one image in every second class and sixteen in the others; recall of the
    former on images that nothing was learnt from or chosen on, over two draws."""
    right: dict[str, float] = {}
    for how in ("none", "balanced"):
        right[how] = 0
        for seed in (1, 2):
            task, _, _ = whu("vit-b-32", 16, seed)
            place = np.arange(len(task.y)) % 16
            rows = (task.y % 2 == 1) | (place == 0)
            head = methods.get(name)(**task.head_arguments(), class_weight=how)
            if "epochs" in head.settings():
                head.set_params(epochs=15)
            rare = task.y_val % 2 == 0
            head.fit(as_taken(name, task.X[rows]), task.y[rows])
            predicted = head.predict(as_taken(name, task.X_val[rare]))
            right[how] += (predicted == task.y_val[rare]).mean()
    assert right["balanced"] >= right["none"]
