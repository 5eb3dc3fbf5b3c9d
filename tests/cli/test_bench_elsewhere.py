"""Protocols that test elsewhere, as a user meets them: runs, again, and their table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handful import Features, save_features

QUICK = ("--shots", "2", "--seeds", "1,2", "--select", "fixed", "--out", "out.jsonl")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("ant", "bee", "cat", "dog")
    centres = np.random.default_rng(0).normal(size=(4, 8))
    for name, kept, seed in (("photos", [0, 1, 2, 3], 1), ("drawn", [3, 1], 2)):
        labels = np.tile(np.arange(len(kept)), 10)
        noise = np.random.default_rng(seed).normal(size=(len(labels), 8))
        save_features(
            tmp_path / f"{name}.safetensors",
            Features(
                centres[kept][labels] + 0.8 * noise,
                labels=labels,
                class_names=tuple(names[c] for c in kept),
                class_embeddings=centres[kept],
            ),
        )


@pytest.mark.parametrize(
    ("protocol", "flags", "columns"),
    [
        ("base-to-new", (), ["base", "new", "harmonic mean"]),
        ("shift", ("--test-on", "drawn.safetensors"), ["itself", "drawn"]),
        ("transfer", ("--test-on", "drawn.safetensors"), ["itself", "drawn"]),
    ],
)
def test_run_again_and_table(
    handful, files: None, protocol: str, flags: tuple[str, ...], columns: list[str]
) -> None:
    command = (
        *("bench", "run", "--features", "photos.safetensors", "--protocol", protocol, *flags),
        *("--methods", "zero-shot,clip-adapter", *QUICK),
    )
    said = handful(*command).done()
    assert "4 runs made, 0 were there" in said
    assert "Nothing to do: all 4 runs" in handful(*command).done()
    table = handful("bench", "table", "out.jsonl").done()
    caption, below = table.split("Tested elsewhere, 2 shots")
    assert f"photos: protocol {protocol}, selection fixed" in caption
    header = next(line for line in below.splitlines() if line.strip())
    assert header.split("  ")[0] == "method"
    assert all(name in header for name in columns)


def test_what_is_missing_or_of_no_use_is_said(handful, files: None) -> None:
    run = ("bench", "run", "--features", "photos.safetensors", "--methods", "zero-shot", *QUICK)
    other = ("--test-on", "drawn.safetensors")
    handful(*run, "--protocol", "shift").refused("name them with --test-on")
    handful(*run, *other).refused("leave --test-on drawn.safetensors out")
