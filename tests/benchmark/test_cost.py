"""What is measured of a method is what it does."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from handful.benchmark.cost import cost_of


class Fitted:
    def trained_parameters(self) -> int:
        return 7


def test_times_and_numbers() -> None:
    calls: list[str] = []

    def fit() -> Fitted:
        calls.append("fit")
        time.sleep(0.2)
        return Fitted()

    def predict(fitted: Fitted) -> None:
        time.sleep(1.0 if "predict" not in calls else 0.1)  # the first one warms up
        calls.append("predict")

    fitted, cost = cost_of(fit, predict, images=10)
    assert isinstance(fitted, Fitted)
    assert calls == ["fit", "predict", "predict"]
    assert cost.trained_parameters == 7
    assert 0.2 <= cost.fit_seconds < 1.0
    assert 0.01 <= cost.seconds_per_image < 0.1


def test_memory_is_that_of_the_fit() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux forgets the peak of what came before")
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        pytest.skip(f"the peak cannot be reset here: {error}")

    def cost(fitting: int, predicting: int) -> float:
        def fit() -> Fitted:
            np.ones(max(1, fitting), np.uint8)
            return Fitted()

        def predict(fitted: Fitted) -> None:
            np.ones(max(1, predicting), np.uint8)

        return cost_of(fit, predict, 1)[1].peak_memory_mb

    size = 300 * 2**20
    before = cost(0, size)
    assert cost(size, 0) - before > 200
    assert abs(cost(0, 0) - before) < 100
