"""Every table and figure of a paper, on miniature data sets with a tiny CLIP of random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_pictures import make_with_pictures, twelve_blocks

from handful.benchmark.papers.figures import T_SNE, of_runs, of_test_images
from handful.benchmark.papers.make import make
from handful.benchmark.papers.paper import Item, paper_named
from handful.benchmark.papers.tables import paper_tables
from handful.benchmark.papers.wanted import Where
from handful.benchmark.plan import Plan
from handful.benchmark.runner import run_plan
from handful.benchmark.text_table import TextTable
from handful.datasets import catalogue

pytestmark = pytest.mark.slow

FEW = 20  # classes of ImageNet
SMALL = ("dtd", "eurosat", "caltech101", "oxford_pets")
# Not what the paper has: seconds in place of hours.
QUICK = """
[settings.all]
epochs = 1
steps = 1
views = 1
C = 1.0
"""
PAPER = paper_named("clip-adapter")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("imagenet", *SMALL):
        make_with_pictures(name, folder, FEW)
    (folder / "quick.toml").write_text(QUICK)
    return folder


@pytest.fixture(scope="module")
def shifted_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all 1,000 classes: folders of ImageNetV2 are numbers among them."""
    folder = tmp_path_factory.mktemp("shifted")
    for name in ("imagenet", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"):
        make_with_pictures(name, folder)
    (folder / "quick.toml").write_text(QUICK)
    return folder


@pytest.fixture
def few_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ImageNet have a few classes, as most tables of 1,000 would take minutes."""
    known = catalogue.catalogue()
    few = known | {"imagenet": replace(known["imagenet"], classes=FEW)}
    monkeypatch.setattr(catalogue, "catalogue", lambda: few)


@pytest.fixture(scope="module")
def encoder(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"dir:{twelve_blocks(tiny('clip'), tmp_path_factory.mktemp('model') / 'twelve')}"


def asked(item: Item, root: Path, encoder: str) -> Where:
    given = [encoder, f"{encoder}?style=coop"] * 2
    return Where(root, root / "quick.toml", tuple(given[: len(item.encoders)]), (1,), (1,))


@pytest.mark.parametrize("number", [n for n in PAPER.tables if n != "9"])
def test_a_table_runs_and_a_second_time_only_reads(
    number: str, few_classes: None, root: Path, encoder: str, tmp_path: Path
) -> None:
    of_table(number, root, encoder, tmp_path / "results.jsonl")


def test_the_table_of_shifts_runs(shifted_root: Path, encoder: str, tmp_path: Path) -> None:
    table = of_table("9", shifted_root, encoder, tmp_path / "results.jsonl")
    assert not [cell for row in table.rows for cell in row if cell == "–"]


def of_table(number: str, root: Path, encoder: str, results: Path) -> TextTable:
    """Make a table, twice, and return it."""
    item = PAPER.table(number)
    where = asked(item, root, encoder)
    made = make(item, where, results)
    assert made.told == ()
    count = sum(one.count for one in made.needed)
    assert made.made == count - (count // 2 if number == "8" else 0)  # each backbone stands twice
    tables = paper_tables(PAPER, item, made.needed, made.results)
    assert len(tables) == len(item.datasets) + (len(item.datasets) > 1)
    for table in tables:
        assert len(table.rows) == len(item.rows) * len(item.encoders)
        for row in table.rows:
            assert "–" not in row[1]
    again = make(item, where, results)
    assert again.made == 0
    assert paper_tables(PAPER, item, again.needed, again.results) == tables
    return tables[0]


def test_runs_of_the_same_data_under_another_name_are_found(
    few_classes: None, root: Path, encoder: str, tmp_path: Path
) -> None:
    """The encoder's own template is that of ImageNet: nothing differs but the flags."""
    results = tmp_path / "results.jsonl"
    run_plan(
        Plan(
            images=(f"data:imagenet@{root}",),
            encoder=encoder,
            methods=("zero-shot",),
            shots=(1,),
            seeds=(1,),
        ),
        results,
    )
    item = PAPER.table("1")
    made = make(item, asked(item, root, encoder), results)
    assert (made.made, made.told) == (3, ())
    (table,) = paper_tables(PAPER, item, made.needed, made.results)
    assert "–" not in [row[1] for row in table.rows]


@pytest.mark.parametrize("number", PAPER.figures)
def test_a_figure_is_drawn_of_the_data_sets_that_are_there(
    number: str, few_classes: None, root: Path, encoder: str, tmp_path: Path
) -> None:
    item = PAPER.figure(number)
    where = asked(item, root, encoder)
    if item.kind == T_SNE:
        found, told = of_test_images(PAPER, item, where)
    else:
        made = make(item, where, tmp_path / "results.jsonl")
        found, _ = of_runs(PAPER, item, made)
        told = list(made.told)
    assert len(found) == 1
    there = {"imagenet", *SMALL}
    assert len([one for one in told if "does not exist" in one]) == len(
        [name for name in item.datasets if name not in there]
    )
    assert len(found[0].sources) == len([name for name in item.datasets if name in there])
    figure = found[0].figure()
    assert figure.axes
