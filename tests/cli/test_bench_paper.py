"""A paper's tables and figures, as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handful import Features, save_features

TABLE = ("bench", "table", "--paper", "clip-adapter", "--table", "6")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A plan on a features file of four classes."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 8)).astype(np.float32)
    labels = np.tile(np.arange(4), 6)
    noise = rng.normal(size=(24, 8)).astype(np.float32)
    save_features(
        tmp_path / "mine.safetensors",
        Features(centres[labels] + noise, labels=labels, class_embeddings=centres),
    )
    (tmp_path / "mine.toml").write_text(
        'features = ["mine.safetensors"]\nshots = [2]\nseeds = [1, 2]\nselect = "fixed"\n'
        "[settings.all]\nepochs = 2\n"
    )
    return "mine.toml"


def test_needs_then_table_then_table_again(handful, plan: str) -> None:
    needs = handful(*TABLE, "--plan", plan, "--needs", "--json").document()
    assert [row[-1] for row in needs["tables"][0]["rows"]] == ["0 of 2"] * 6
    assert not Path("clip-adapter.jsonl").exists()
    made = handful(*TABLE, "--plan", plan, "--json").document()
    (table,) = made["tables"]
    assert table["header"] == ["ratio", "accuracy"]
    assert [row[0] for row in table["rows"]] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    lines = Path("clip-adapter.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["kind"] == "run" for line in lines) == 12
    assert handful(*TABLE, "--plan", plan, "--json").document() == made
    assert Path("clip-adapter.jsonl").read_text().splitlines() == lines
    handful(*TABLE, "--plan", plan, "--out", "table.md").done()
    for row in table["rows"]:
        assert f"| {' | '.join(row)} |" in Path("table.md").read_text()


def test_results_of_another_name_and_a_figure(handful, plan: str) -> None:
    said = handful(
        *("bench", "plot", "mine.jsonl", "--paper", "clip-adapter", "--figure", "ratio"),
        *("--plan", plan, "--format", "png", "--json"),
    ).document()
    assert said["figures"] == [
        {
            "file": "mine-figures/clip-adapter-figure-ratio.png",
            "kind": "over",
            "protocol": "coop",
            "select": "fixed",
            "sources": ["mine"],
        }
    ]
    assert Path("mine-figures/clip-adapter-figure-ratio.png").read_bytes()[1:4] == b"PNG"
    assert Path("mine.jsonl").exists()


def test_what_cannot_be_made_is_told_beside_the_table(handful, plan: str) -> None:
    ran = handful("bench", "table", "--paper", "clip-adapter", "--table", "1", "--plan", plan)
    assert ran.status == 0
    assert "CoOp" in ran.out
    assert "'coop' trains inside the encoder" in ran.err


def test_a_figure_that_is_there_is_said_before_the_work(handful, plan: str) -> None:
    path = Path("figures/clip-adapter-figure-6.png")
    path.parent.mkdir()
    path.write_text("mine")
    # No data are named, which would be said first if the work had begun.
    figure = ("bench", "plot", "--paper", "clip-adapter", "--figure", "6")
    handful(*figure, "--format", "png", "--out", "figures").refused("exists already")
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("table",), ["--paper"]),
        (("plot",), ["--paper"]),
        (("table", "--paper", "clip-adaptor", "--table", "6"), ["clip-adaptor", "clip-adapter"]),
        (("table", "--paper", "clip-adapter"), ["--table", "6: Residual ratio"]),
        (("table", "--paper", "clip-adapter", "--table", "66"), ["'66'", "10"]),
        (("plot", "--paper", "clip-adapter", "--figure", "1"), ["'1'", "ratio"]),
        (("table", "--table", "6"), ["--table", "without --paper"]),
        (("plot", "x.jsonl", "--data", "."), ["--data", "without --paper"]),
        (("table", "x.jsonl", "--jobs", "2"), ["--jobs", "without --paper"]),
        ((*TABLE[1:], "--baseline", "coop"), ["--baseline", "--paper"]),
        ((*TABLE[1:], "--interval", "95"), ["--interval", "with --paper"]),
        ((*TABLE[1:], "--out", "table.html"), ["table.html", "Markdown"]),
        (("plot", *TABLE[2:4], "--figure", "3", "--over", "blend"), ["--over", "--paper"]),
        ((*TABLE[1:], "a.jsonl", "b.jsonl"), ["a.jsonl", "b.jsonl"]),
        ((*TABLE[1:],), ["36 runs", "--data", "--plan", "--needs"]),
        ((*TABLE[1:], "--data", "nowhere", "--encoder", "lite"), ["nowhere/dtd does not exist"]),
        ((*TABLE[1:], "--plan", "nothing.toml"), ["nothing.toml"]),
        ((*TABLE[1:], "--shots", "few"), ["--shots", "few"]),
        (("plot", *TABLE[2:4], "--figure", "6"), ["--data", "--plan"]),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, tuple) else "",
)
def test_refusals(handful, plan: str, arguments: tuple[str, ...], words: list[str]) -> None:
    handful("bench", *arguments).refused(*words)


def test_a_file_that_is_there_is_kept_before_any_work(handful, plan: str) -> None:
    Path("table.md").write_text("mine")
    handful(*TABLE, "--plan", plan, "--out", "table.md").refused("table.md", "--force")
    assert Path("table.md").read_text() == "mine"
    assert not Path("clip-adapter.jsonl").exists()
