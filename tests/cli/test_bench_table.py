"""``handful bench table``: runs of the runner as tables, files written whole, what is refused."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from handful import Features, save_features

ANCHORS = """
about = "Measured elsewhere."
protocol = "coop"
shots = [2]
[[anchor]]
method = "zero-shot"
code = "CLIP"
accuracy = { clouds = [50.0] }
"""


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory, handful) -> Path:
    """Results on clouds of points around three names: two methods, 1 and 2 shots, three seeds."""
    folder = tmp_path_factory.mktemp("bench")
    chance = np.random.default_rng(0)
    names = np.eye(3, 8, dtype=np.float32)
    labels = np.repeat(np.arange(3), 20)
    cloud = (names[labels] + 0.6 * chance.standard_normal((60, 8))).astype(np.float32)
    features = folder / "clouds.safetensors"
    save_features(
        features,
        Features(cloud, labels, class_embeddings=names, class_names=("a", "b", "<c>")),
    )
    out = folder / "results.jsonl"
    done = handful(
        "bench", "run", "--features", features, "--methods", "zero-shot,tip-adapter",
        "--shots", "1,2", "--select", "cv", "--out", out,
    ).done()  # fmt: skip
    assert f"handful bench table {out}" in done
    return out


def test_table_of_what_was_run(handful, ran: Path) -> None:
    said = handful("bench", "table", ran).done()
    rows = [json.loads(line) for line in ran.read_text().splitlines()[1:]]
    assert said.startswith("clouds: protocol coop, selection cv\n")
    for method in ("zero-shot", "tip-adapter"):
        for k in (1, 2):
            found = [r["accuracy"] for r in rows if (r["method"], r["shots"]) == (method, k)]
            assert len(found) == 3
            cell = f"{100 * np.mean(found):.1f} ±{100 * np.std(found, ddof=1):.1f}"
            assert re.search(rf"^{method} .*{re.escape(cell)}", said, re.MULTILINE)
    # One image per class: cv has nothing to hold out.
    assert re.search(r"^tip-adapter +[\d.]+ ±[\d.]+‡", said, re.MULTILINE)
    assert all(line == line.rstrip() for line in said.splitlines())


@pytest.mark.parametrize(
    ("suffix", "start"),
    [
        (".txt", "clouds: "),
        (".md", "## "),
        (".tex", "% "),
        (".csv", "sources,"),
        (".HTML", "<!doc"),
    ],
)
def test_the_name_of_a_file_tells_its_format(
    handful, ran: Path, tmp_path: Path, suffix: str, start: str
) -> None:
    out = tmp_path / f"new folder/table{suffix}"
    assert handful("bench", "table", ran, "--out", out).done() == f"1 table in {out}.\n"
    assert out.read_text("utf-8").startswith(start)
    name = {".txt": "terminal", ".md": "markdown", ".tex": "latex"}.get(suffix, suffix[1:].lower())
    assert handful("bench", "table", ran, "--format", name).done() == out.read_text("utf-8")


def test_a_file_is_replaced_only_by_force_and_whole(
    handful, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handful.benchmark import render

    out = tmp_path / "table.md"
    out.write_text("mine")
    handful("bench", "table", ran, "-o", out).refused("exists already", "--force")
    assert out.read_text() == "mine"

    def fail(*_: object) -> str:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setitem(render.FORMATS, "markdown", fail)
        with pytest.raises(ZeroDivisionError):
            handful("bench", "table", ran, "-o", out, "--force")
    assert out.read_text() == "mine"
    assert [*tmp_path.iterdir()] == [out]
    handful("bench", "table", ran, "-o", out, "--force").done()
    assert out.read_text("utf-8").startswith("## clouds")


def test_json(handful, ran: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.csv"
    found = handful("bench", "table", ran, "--json", "--out", out).document()
    assert found["out"] == str(out)
    (table,) = found["tables"]
    assert (table["protocol"], table["select"]) == ("coop", "cv")
    assert table["averaged"] == [1, 2]
    written = list(csv.DictReader(io.StringIO(out.read_text("utf-8"))))
    assert len(written) == len(table["numbers"]) == 2 * 3
    for line, number in zip(written, table["numbers"], strict=True):
        assert float(line["accuracy"]) == pytest.approx(number["accuracy"])
    assert handful("bench", "table", ran, "--json").document()["out"] is None


def test_interval_baseline_and_anchors(handful, ran: Path, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors.toml"
    anchors.write_text(ANCHORS)
    said = handful(
        "bench", "table", ran, "--interval", "95", "--baseline", "tip-adapter", "--anchors", anchors
    ).done()
    assert "± half the 95% interval" in " ".join(said.split())
    assert "gain: over tip-adapter" in said
    beside = said[said.index("Published code (ours minus it, in points)") :]
    assert re.search(r"^zero-shot +– +50\.0 \(\+[\d.]+\) +–$", beside, re.MULTILINE)
    assert "Measured elsewhere. What was run: zero-shot: CLIP." in " ".join(said.split())


def test_several_files_make_one_table(handful, ran: Path, tmp_path: Path) -> None:
    lines = ran.read_text().splitlines()
    for i, part in enumerate((lines[:7], [lines[0], *lines[7:]])):
        (tmp_path / f"{i}.jsonl").write_text("\n".join(part) + "\n")
    parts = sorted(tmp_path.iterdir())
    assert handful("bench", "table", *parts).done() == handful("bench", "table", ran).done()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "markdwon"], ("no format 'markdwon'", "Did you mean 'markdown'?")),
        (["--out", "table.doc"], ("table.doc does not tell its format", "--format")),
        (["--interval", "99"], ("--interval is '99': expected sd or 95",)),
        (["--baseline", "tip-adaptor"], ("'tip-adaptor'", "Did you mean 'tip-adapter'?")),
        (["--anchors", "none.toml"], ("none.toml cannot be read",)),
    ],
)
def test_what_is_refused(handful, ran: Path, arguments: list[str], words: tuple[str, ...]) -> None:
    handful("bench", "table", ran, *arguments).refused(*words)


def test_files_that_are_no_results(handful, ran: Path, tmp_path: Path) -> None:
    handful("bench", "table", tmp_path / "no.jsonl").refused("no.jsonl does not exist")
    (tmp_path / "empty.jsonl").touch()
    handful("bench", "table", tmp_path / "empty.jsonl").refused("there is no run")
    source = ran.read_text().splitlines()[0]
    (tmp_path / "source.jsonl").write_text(source + "\n")
    handful("bench", "table", tmp_path / "source.jsonl").refused("there is no run")
    (tmp_path / "text.jsonl").write_text("this is text\n")
    handful("bench", "table", tmp_path / "text.jsonl").refused("line 1", "no line of results")
    handful("bench", "table").refused("RESULTS")


def test_on_a_narrow_terminal_averages_come_below(
    handful, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipe every row is one line."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    from handful.cli.bench_table import table

    monkeypatch.setenv("COLUMNS", "60")
    shown = Terminal()
    with contextlib.redirect_stdout(shown):
        table([ran])
    assert "\x1b[1m" in shown.getvalue()
    narrow = re.sub(r"\x1b\[[\d;]*m", "", shown.getvalue())
    assert len(re.findall("^tip-adapter ", narrow, re.MULTILINE)) == 2
    assert all(len(line) <= 60 for line in narrow.splitlines())
    wide = handful("bench", "table", ran).done()
    assert len(re.findall("^tip-adapter ", wide, re.MULTILINE)) == 1
