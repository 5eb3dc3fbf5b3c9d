"""The DINO equations against what the published code returns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from handful.functional.self_distillation import (
    cosine_schedule,
    distillation_loss,
    moved_centre,
    teacher_temperature,
)


@pytest.fixture(scope="module")
def dino(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "data/oracles/dino.safetensors")


def test_loss_gradient_and_centre_of_two_steps(dino: dict[str, Tensor]) -> None:
    student = dino["student"].double().requires_grad_()
    loss = distillation_loss(
        student, dino["teacher"].double(), dino["center_init"].double(),
        teacher_temperature=teacher_temperature(1),
    )  # fmt: skip
    loss.backward()
    assert loss.item() == pytest.approx(dino["loss_epoch1"].item(), rel=1e-5)
    assert student.grad is not None
    worst = (student.grad - dino["grad_student"]).abs().max()
    assert worst <= 1e-4 * dino["grad_student"].abs().max()
    centre = moved_centre(dino["center_init"].double(), dino["teacher"].double().mean(0))
    torch.testing.assert_close(centre.float(), dino["center_after_1"], rtol=1e-5, atol=1e-6)
    second = distillation_loss(
        dino["student_2"].double(), dino["teacher_2"].double(), centre,
        teacher_temperature=teacher_temperature(5),
    )  # fmt: skip
    assert second.item() == pytest.approx(dino["loss_2_epoch5"].item(), rel=1e-5)
    wrong = dino["loss_2_epoch5_official_nondistributed"].item()
    assert second.item() != pytest.approx(wrong, rel=1e-5)
    after = moved_centre(centre, dino["teacher_2"].double().mean(0))
    torch.testing.assert_close(after.float(), dino["center_after_2"], rtol=1e-5, atol=1e-6)


def test_the_loss_is_the_mean_over_pairs_of_different_crops() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(15, 7).double(), torch.randn(6, 7).double()
    centre = torch.randn(7).double()
    pairs = []
    for i in range(2):
        target = torch.softmax((teacher[3 * i : 3 * i + 3] - centre) / 0.05, 1)
        for j in range(5):
            if i != j:
                log = torch.log_softmax(student[3 * j : 3 * j + 3] / 0.1, 1)
                pairs.append(-(target * log).sum(1).mean())
    loss = distillation_loss(student, teacher, centre, teacher_temperature=0.05)
    torch.testing.assert_close(loss, torch.stack(pairs).mean())


def test_schedules(dino: dict[str, Tensor]) -> None:
    """The published ones are float32."""
    rate = cosine_schedule(8e-4, 2e-6, 200, warm_up=40)
    np.testing.assert_allclose(rate, dino["schedule_lr"].numpy(), rtol=1e-5, atol=1e-10)
    decay = cosine_schedule(0.04, 0.4, 200)
    np.testing.assert_allclose(decay, dino["schedule_weight_decay"].numpy(), rtol=1e-5)
    momentum = cosine_schedule(0.9998, 1, 200)
    left = dino["schedule_one_minus_momentum"].numpy()
    np.testing.assert_allclose(1 - momentum, left, rtol=1e-4, atol=1e-12)
    warm = [teacher_temperature(epoch) for epoch in range(10)]
    np.testing.assert_allclose(warm, dino["teacher_temperature"].numpy(), rtol=1e-6)
