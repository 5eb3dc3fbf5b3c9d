"""Training of several runs at once: grouping, seeds, the schedule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from handful.methods.clip_adapter import ClipAdapter
from handful.methods.head import Support
from handful.methods.training import Recipe, batches_by_size, train


def support(n: int = 6, views: int = 0, width: int = 4, classes: int = 3) -> Support:
    return Support(
        features=torch.randn(n, width),
        labels=torch.arange(n) % classes,
        views=torch.randn(n, views, width) if views else None,
        text=torch.eye(classes, width),
    )


def test_only_equal_shapes_and_settings_train_together() -> None:
    heads = [
        ClipAdapter(blend=0.2),
        ClipAdapter(blend=0.6),  # another blend is no obstacle
        ClipAdapter(epochs=5),
        ClipAdapter(logit_scale=10.0),
        ClipAdapter(),
        ClipAdapter(),
        ClipAdapter(),
    ]
    supports = [support() for _ in range(4)] + [support(n=7), support(views=2), support(classes=2)]
    groups = list(batches_by_size(heads, supports, ("reduction", "output_relu", "epochs", "lr")))
    assert [[heads.index(h) for h in g.heads] for g in groups] == [[0, 1], [2], [3], [4], [5], [6]]
    for group in groups:
        for head, own in zip(group.heads, group.supports, strict=True):
            assert own is supports[heads.index(head)]


def test_schedule_per_epoch_starts_with_one_slow_epoch() -> None:
    recipe = Recipe(epochs=10, lr=1e-3)
    rates = [recipe.rate(epoch, 3 * epoch, 30) for epoch in range(10)]
    assert rates[0] == 1e-5
    assert rates[1:] == [1e-3 * (1 + math.cos(math.pi * e / 10)) / 2 for e in range(1, 10)]
    assert recipe.rate(4, 12, 30) == recipe.rate(4, 14, 30)


def test_schedule_per_step_falls_from_the_peak_to_zero() -> None:
    recipe = Recipe(epochs=10, lr=1e-3, schedule="step")
    rates = [recipe.rate(step // 3, step, 30) for step in range(31)]
    assert rates[0] == 1e-3 and rates[30] == pytest.approx(0)
    assert rates == sorted(rates, reverse=True)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight


def test_every_image_once_per_epoch_in_one_of_its_views() -> None:
    """Logits that do not depend on the parameters through anything but what is recorded."""
    n, views = 10, 3
    samples = torch.arange(n * views, dtype=torch.float32).reshape(n, views, 1)
    seen: list[list[int]] = []

    def record(x: Tensor, weight: Tensor) -> Tensor:
        seen.append(x[0, :, 0].int().tolist())
        return x * weight

    recipe = Recipe(epochs=4, batch=4)
    train([torch.zeros(1, 1, 2)], record, [samples], torch.zeros(1, n).long(), recipe, [0])
    assert [len(batch) for batch in seen] == [4, 4, 2] * 4
    for epoch in range(4):
        rows = [row for batch in seen[3 * epoch : 3 * epoch + 3] for row in batch]
        assert sorted(row // views for row in rows) == list(range(n))
    assert len({row % views for batch in seen for row in batch}) == views


def test_a_run_learns_the_same_alone_or_among_others() -> None:
    """More images than a batch, several views: everything random comes from the run's own seed.
    Up to the last digits: a stacked product adds up in another order."""
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(20, 3, 5, generator=generator) for _ in range(4)]
    labels = torch.randint(3, (4, 20), generator=generator)
    start = torch.randn(4, 5, 3, generator=generator)
    recipe = Recipe(epochs=10, lr=0.05, batch=8)
    (together,) = train([start], linear, samples, labels, recipe, [5, 6, 7, 5])
    for run, seed in enumerate([5, 6, 7, 5]):
        (alone,) = train([start[[run]]], linear, [samples[run]], labels[[run]], recipe, [seed])
        np.testing.assert_allclose(together[run], alone[0], rtol=1e-4, atol=1e-5)


def test_equal_to_an_optimiser_of_its_own() -> None:
    """Full batches, one view: AdamW of PyTorch on one run."""
    torch.manual_seed(0)
    samples, labels = torch.randn(12, 1, 5), torch.randint(3, (1, 12))
    start = torch.randn(1, 5, 3)
    recipe = Recipe(epochs=20, lr=0.01, weight_decay=0.1, schedule="step")
    (found,) = train([start], linear, [samples], labels, recipe, [0])
    weight = start[0].clone().requires_grad_()
    optimiser = torch.optim.AdamW([weight], lr=0.01, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20)
    for _ in range(20):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(samples[:, 0] @ weight, labels[0]).backward()
        optimiser.step()
        schedule.step()
    torch.testing.assert_close(found[0], weight.detach(), rtol=1e-4, atol=1e-5)


def test_the_start_is_copied() -> None:
    start = torch.zeros(1, 5, 3)
    train([start], linear, [torch.randn(6, 1, 5)], torch.zeros(1, 6).long(), Recipe(3), [0])
    assert (start == 0).all()


def test_no_epochs_give_the_start_back() -> None:
    start = torch.randn(2, 5, 3)
    samples = [torch.randn(6, 1, 5)] * 2
    (found,) = train([start], linear, samples, torch.zeros(2, 6).long(), Recipe(0), [0, 1])
    assert torch.equal(found, start)
