"""The ridge map is the textbook one, on the published class names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from handful.encoders.lite.join import apply_map, centred_unit_rows, imagenet_names, ridge_map


def test_class_names_are_the_published_ones(shared: Path) -> None:
    lines = (shared / "data" / "imagenet" / "classnames.txt").read_text("utf-8").splitlines()
    assert list(imagenet_names()) == [line[len("n00000000 ") :] for line in lines]
    assert len(imagenet_names()) == 1000


def test_ridge_map_equals_the_closed_forms() -> None:
    generator = np.random.default_rng(0)
    e, y = generator.normal(size=(30, 12)), generator.normal(size=(30, 7))
    y -= y.mean(0)
    new = generator.normal(size=(5, 12))
    for ridge in (0.1, 3.0):
        fitted = ridge_map(torch.from_numpy(e), torch.from_numpy(y), ridge)
        x = e - e.mean(0)
        # Primal: least squares with √λ·I as further rows. Dual: Xᵀ(XXᵀ + λI)⁻¹Y.
        rows = np.vstack([x, np.sqrt(ridge) * np.eye(12)])
        primal = np.linalg.lstsq(rows, np.vstack([y, np.zeros((12, 7))]))[0]
        dual = x.T @ np.linalg.solve(x @ x.T + ridge * np.eye(30), y)
        np.testing.assert_allclose(fitted["matrix"], primal, atol=1e-10)
        np.testing.assert_allclose(fitted["matrix"], dual, atol=1e-10)
        mapped = apply_map(torch.from_numpy(new), fitted)
        np.testing.assert_allclose(mapped, (new - e.mean(0)) @ primal, atol=1e-10)


def test_the_encoder_s_map_solves_its_equation(lite) -> None:
    texts = lite.text_tower(imagenet_names()).double()
    targets = centred_unit_rows(lite._weights["_fc.weight"])
    x = texts - texts.mean(0)
    residual = x.T @ (targets - x @ lite.join["matrix"]) - 3.0 * lite.join["matrix"]
    assert residual.abs().max() < 1e-6  # the text tower's float32 may differ in its last digit


def test_rows_are_unit_before_they_are_centred() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 2.0], [5.0, 0.0]])
    unit = torch.tensor([[0.6, 0.8], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(centred_unit_rows(rows), unit - unit.mean(0))
