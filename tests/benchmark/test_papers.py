"""Papers as data: what their tables need, and ours beside the published."""

from __future__ import annotations

import json
import math
import re
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from bench_rows import run

from handful import Features, save_features
from handful.benchmark.figures.plot import KINDS
from handful.benchmark.papers.cells import MEASURES
from handful.benchmark.papers.make import make, needs_table
from handful.benchmark.papers.paper import Item, Paper, paper_named, papers
from handful.benchmark.papers.tables import paper_tables
from handful.benchmark.papers.wanted import Wanted, Where, wanted
from handful.benchmark.results import Results, ResultsFile
from handful.datasets.catalogue import catalogue
from handful.errors import InputError

PAPER = paper_named("clip-adapter")
ITEMS = [
    pytest.param(paper, item, id=f"{paper.name} {item.name}")
    for paper in papers().values()
    for item in (*paper.tables.values(), *paper.figures.values())
]
# Half the width of the 95 % interval of a mean of three, in standard errors: Student's t with two
# degrees of freedom, 4.303 in any table.
T_OF_THREE = 4.303


# -- the data --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("paper", "item"), ITEMS)
def test_every_item_asks_for_runs_that_can_be_made(paper: Paper, item: Item) -> None:
    needed = wanted(item, Where())
    assert {one.dataset for one in needed} == set(item.datasets) <= catalogue().keys()
    arms = sum(len(one.plan.arms) for one in needed) / len(item.datasets) / len(item.encoders)
    assert not item.rows or arms == len(item.rows)
    assert set(item.columns) <= MEASURES.keys()
    if item.name.startswith("figure"):
        assert item.kind in {*KINDS, "gain-by-source", "over", "t-sne"}


@pytest.mark.parametrize(("paper", "item"), ITEMS)
def test_published_numbers_have_a_place(paper: Paper, item: Item) -> None:
    for printed in item.published:
        assert printed.dataset in item.datasets
        assert printed.encoder in item.encoders or (not printed.encoder and len(item.encoders) == 1)
        assert printed.values.keys() <= {*item.columns, *item.test_on}
        assert {len(values) for values in printed.values.values()} == {len(item.rows)}


def test_published_accuracies_are_those_of_the_reference(shared: Path) -> None:
    text = (shared / "reference" / "protocol.md").read_text("utf-8")
    section = text[text.index("## 7. The CLIP-Adapter paper") : text.index("## 8. ")]
    of_tables = re.split(r"\*\*Table (\d+)", section)
    told = dict(zip(of_tables[1::2], of_tables[2::2], strict=True))
    seen = 0
    for number, item in PAPER.tables.items():
        here = set(re.findall(r"\d+\.\d\d", told[number]))
        for printed in item.published:
            accuracies = {
                n: v for n, v in printed.values.items() if n in ("accuracy", *item.test_on)
            }
            for value in (one for values in accuracies.values() for one in values):
                assert f"{value:.2f}" in here, f"table {number}: {value}"
                seen += 1
    assert seen == 4 + 8 + 5 + 12 + 12 + 3 + 16 + 20 + 4  # tables 1, 2, 4 to 10


def test_published_costs_are_those_of_table_1_in_our_units() -> None:
    (printed,) = PAPER.table("1").published
    of = dict(zip(PAPER.table("1").rows, zip(*printed.values.values(), strict=True), strict=True))
    mib, hours = 1024, 60
    assert of["CoOp"] == (60.46, 0.02, 14 * hours + 40, round(7193 / mib, 2), 299.6)
    assert of["CLIP-Adapter"] == (61.33, 0.52, 50, round(2227 / mib, 2), 10.6)


# -- ours beside the published ---------------------------------------------------------------------


def source(digest: str, one: Wanted) -> dict[str, Any]:
    """A line of a results file for the source that a plan names."""
    plan = one.plan
    flags = ["--images", plan.images[0].replace("ROOT", "/data"), "--encoder", plan.encoder]
    for template in plan.templates or ():
        flags += ["--template", template]
    return {"kind": "source", "digest": digest * 64, "name": one.dataset, "flags": flags}


def filled(item: Item, accuracy: Any, **more: Any) -> Results:
    """Results with all runs that an item needs.

    Args:
        item: whose.
        accuracy: of data set, row and seed, in thousandths.
        **more: in every run.
    """
    runs, sources = {}, {}
    for letter, one in zip("abcdefghijkl", wanted(item, Where()), strict=False):
        sources[letter * 64] = source(letter, one)
        arms = list(enumerate(one.plan.arms))
        for (row, (method, given)), k, seed in product(arms, one.plan.shots, one.plan.seeds):
            line = run(
                method,
                accuracy(one.dataset, row, seed) / 1000,
                source=letter,
                shots=k,
                seed=seed,
                given=given,
                **more,
            )
            runs[line["key"]] = line
    return Results(runs, sources)


def test_a_cell_is_the_mean_with_half_its_interval_and_the_difference() -> None:
    item = PAPER.table("6")
    values = {1: 600, 2: 610, 3: 632}
    results = filled(item, lambda dataset, row, seed: values[seed] + 10 * row)
    tables = paper_tables(PAPER, item, wanted(item, Where()), results)
    dtd, imagenet, average = tables
    assert dtd.header == ("ratio", "accuracy", "published", "difference")
    for row, (ratio, ours, published, difference) in enumerate(dtd.rows):
        numbers = [(value + 10 * row) / 10 for value in values.values()]
        half = T_OF_THREE * stdev(numbers) / math.sqrt(3)
        assert ours == f"{fmean(numbers):.1f} ±{half:.1f}"
        assert ratio == item.rows[row]
        printed = item.published[0].values["accuracy"][row]
        assert published == f"{printed:.2f}"
        assert difference == f"{fmean(numbers) - float(printed):+.1f}"
    assert [row[2] for row in imagenet.rows] == [
        "60.46",
        "61.33",
        "61.17",
        "60.77",
        "59.79",
        "59.05",
    ]
    assert average.rows[0][2] == f"{(40.72 + 60.46) / 2:.2f}"
    assert "the 60.46 of this table is CoOp's number" in dtd.note
    assert average.note == "As above."


def test_the_average_is_over_data_sets_seed_by_seed() -> None:
    item = PAPER.table("5")
    values = {("dtd", 1): 600, ("dtd", 2): 640, ("dtd", 3): 680}
    values |= {("imagenet", 1): 580, ("imagenet", 2): 540, ("imagenet", 3): 500}
    results = filled(item, lambda dataset, row, seed: values[dataset, seed])
    average = paper_tables(PAPER, item, wanted(item, Where()), results)[-1]
    # 59 with every seed: nothing varies, though both data sets do.
    assert {row[1] for row in average.rows} == {"59.0 ±0.0"}


def test_what_is_missing_is_shown_as_missing() -> None:
    item = PAPER.table("5")
    results = filled(item, lambda dataset, row, seed: 600)
    gone = [
        key
        for key, row in results.runs.items()
        if row["source"][0] == "a"
        and (
            row["given"] == {"reduction": 1}
            or (row["given"] == {"reduction": 2} and row["seed"] > 1)
        )
    ]
    for key in gone:
        del results.runs[key]
    dtd, _, average = paper_tables(PAPER, item, wanted(item, Where()), results)
    assert [row[1] for row in dtd.rows][:3] == ["–", "60.0 (n=1)", "60.0 ±0.0"]
    assert [row[3] for row in dtd.rows][:2] == ["–", "-5.6"]
    assert [row[1] for row in average.rows][:3] == ["–", "–", "60.0 ±0.0"]


def test_costs_have_the_units_of_the_paper() -> None:
    item = PAPER.table("1")
    costs = {
        "trained_parameters": 524_288,
        "fit_seconds": 90.0,
        "peak_memory_mb": 512.0,
        "peak_device_mb": 2560.0,
        "inference_seconds_per_image": 0.0125,
    }
    results = filled(item, lambda dataset, row, seed: 600, **costs)
    (table,) = paper_tables(PAPER, item, wanted(item, Where()), results)
    of_clip_adapter = dict(zip(table.header, table.rows[-1], strict=False))
    assert of_clip_adapter["trained, millions"] == "0.524"
    assert of_clip_adapter["minutes"] == "1.5"
    assert of_clip_adapter["memory, GiB"] == "2.5"  # of the GPU, where there was one
    assert of_clip_adapter["ms per image"] == "12.5"
    assert table.rows[0][4:] == ("0.524", "0", "1.5", "0", "2.5", "2.17", "12.5", "10.2")


def test_shifted_tests_stand_beside_what_the_paper_prints_of_them() -> None:
    item = PAPER.table("9")
    (one,) = wanted(item, Where())
    tests = [
        {"name": "x", "source": letter * 64, "by": "x", "accuracy": accuracy, "test_images": 10}
        for letter, accuracy in zip("vsxr", (0.5, 0.3, 0.2, 0.4), strict=True)
    ]
    results = filled(item, lambda dataset, row, seed: 600, tests=tests, protocol="shift")
    for letter, name in zip("vsxr", item.test_on, strict=True):
        flags = ["--images", f"data:{name}@/data", "--encoder", str(one.plan.encoder)]
        results.sources[letter * 64] = {"kind": "source", "flags": flags}
    (table,) = paper_tables(PAPER, item, [one], results)
    row = dict(zip(table.header, table.rows[-1], strict=False))
    assert [row[name] for name in item.test_on] == [
        f"{a} ±0.0" for a in ("50.0", "30.0", "20.0", "40.0")
    ]
    assert row["mean of the shifted"] == "35.0 ±0.0"
    at = table.header.index("imagenet_r")
    assert table.rows[-1][at + 1 : at + 3] == ("54.75", f"{40 - 54.75:+.1f}")


def test_another_encoder_is_said_and_so_are_given_settings(tmp_path: Path) -> None:
    item = PAPER.table("5")
    (tmp_path / "mine.toml").write_text("[settings.all]\nepochs = 3\n")
    where = Where(plan=tmp_path / "mine.toml", encoders=("lite",))
    tables = paper_tables(PAPER, item, wanted(item, where), Results({}, {}))
    assert "ours of lite" in tables[0].note
    assert "Settings that were given: clip-adapter epochs=3." in tables[0].note


def test_two_versions_of_a_data_set_are_never_mixed() -> None:
    item = PAPER.table("5")
    results = filled(item, lambda dataset, row, seed: 600)
    other = results.sources["a" * 64] | {"digest": "z" * 64}
    results.sources["z" * 64] = other
    key, row = next((k, r) for k, r in results.runs.items() if r["source"][0] == "a")
    results.runs[key] = row | {"source": "z" * 64}
    with pytest.raises(InputError, match="two different versions of dtd"):
        paper_tables(PAPER, item, wanted(item, Where()), results)


@pytest.mark.parametrize(
    ("asked", "there", "same"),
    [
        ("hf:a/b", "hf:a/b@c0ffee", True),
        ("hf:a/b@c0ffee", "hf:a/b@c0ffee", True),
        ("hf:a/b@c0ffee", "hf:a/b@decaf", False),
        ("hf:a/b", "hf:a/bc@c0ffee", False),
        ("hf:a/b?style=coop", "hf:a/b@c0ffee", False),
        ("hf:a/b?style=coop", "hf:a/b@c0ffee?style=coop", True),
        ("dir:models/x", f"dir:{Path.cwd()}/models/x", True),
        ("dir:models/x", "dir:/models/x", False),
        ("lite", "dir:lite", False),
    ],
)
def test_runs_are_found_by_encoder_however_it_was_named(asked: str, there: str, same: bool) -> None:
    (one,) = wanted(PAPER.table("1"), Where(encoders=(asked,)))
    told = source("a", one) | {"flags": ["--images", "data:imagenet@/x", "--encoder", there]}
    told["flags"] += ["--template", "imagenet"]
    row = run("zero-shot", 0.5, source="a", shots=16, seed=1)
    found = one.found(Results({row["key"]: row}, {"a" * 64: told}))
    assert sum(map(len, found)) == same


# -- making what is missing ------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A plan on a features file of three classes, and quick settings."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 8)).astype(np.float32)
    labels = np.tile(np.arange(3), 8)
    noise = rng.normal(size=(24, 8)).astype(np.float32)
    save_features(
        tmp_path / "mine.safetensors",
        Features(centres[labels] + noise, labels=labels, class_embeddings=centres),
    )
    path = tmp_path / "plan.toml"
    path.write_text(
        'features = ["mine.safetensors"]\nshots = [1, 2]\nseeds = [1, 2]\nselect = "fixed"\n'
        "[settings.all]\nepochs = 2\n"
    )
    return path


def test_only_what_is_missing_is_made(own: Path, tmp_path: Path) -> None:
    item, out = PAPER.table("6"), tmp_path / "r.jsonl"
    first = make(item, Where(plan=own), out)
    assert (first.made, first.told) == (6 * 2 * 2, ())
    lines = out.read_text().splitlines()
    kept = [line for line in lines if '"seed": 2' not in line or '"shots": 2' not in line]
    out.write_text("\n".join(kept) + "\n")
    second = make(item, Where(plan=own), out)
    assert second.made == 6
    tables = [paper_tables(PAPER, item, one.needed, one.results) for one in (first, second)]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 2  # one for each number of shots
    assert "Not the paper's data" in tables[0][0].note


def test_runs_are_found_wherever_the_features_lie_now(own: Path, tmp_path: Path) -> None:
    item, out = PAPER.table("6"), tmp_path / "r.jsonl"
    first = make(item, Where(plan=own), out)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("mine.safetensors", "plan.toml"):
        (tmp_path / name).rename(elsewhere / name)
    moved = Where(plan=elsewhere / "plan.toml")
    second = make(item, moved, out)
    assert (second.made, second.told) == (0, ())
    assert {row[-1] for row in needs_table(PAPER, item, moved, out).rows} == {"4 of 4"}
    tables = [paper_tables(PAPER, item, one.needed, one.results) for one in (first, second)]
    assert tables[0] == tables[1]


def test_runs_of_other_features_under_the_same_name_are_not_taken(
    own: Path, tmp_path: Path
) -> None:
    item, out = PAPER.table("6"), tmp_path / "r.jsonl"
    make(item, Where(plan=own), out)
    labels = np.tile(np.arange(3), 8)
    centres = np.eye(3, 8, dtype=np.float32)
    others = Features(centres[labels], labels=labels, class_embeddings=centres)
    save_features(tmp_path / "mine.safetensors", others, overwrite=True)
    again = make(item, Where(plan=own), out)
    assert again.made == 6 * 2 * 2
    # Images on the class embeddings themselves, by ratio 0.
    (first, *_) = paper_tables(PAPER, item, again.needed, again.results)
    assert first.rows[0][1] == "100.0 ±0.0"


def test_images_are_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path
) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "photos").symlink_to(photos)
    (tmp_path / "plan.toml").write_text(
        'images = ["here/photos"]\nencoder = "lite"\nshots = [1]\nseeds = [1]\nselect = "fixed"\n'
        "[settings.all]\nepochs = 1\n"
    )
    item, out = PAPER.figure("4"), tmp_path / "r.jsonl"
    monkeypatch.chdir(tmp_path)
    assert make(item, Where(plan=Path("plan.toml")), out).made == 2
    monkeypatch.chdir(tmp_path / "there")
    again = make(item, Where(plan=Path("../plan.toml")), out)
    assert (again.made, again.told) == (0, ())


def test_a_plan_names_what_is_tested_elsewhere_and_not_the_protocol(
    own: Path, tmp_path: Path
) -> None:
    item = PAPER.table("9")
    with pytest.raises(InputError, match=r"name them in .*plan\.toml with test_on"):
        wanted(item, Where(plan=own))
    own.write_text('test_on = ["v2.safetensors"]\n' + own.read_text())
    (tmp_path / "mine.safetensors").rename(tmp_path / "v2.safetensors")
    (one,) = wanted(item, Where(plan=own))
    assert (one.plan.protocol, len(one.plan.test_on)) == ("shift", 1)


def test_sources_of_one_name_are_refused(own: Path) -> None:
    own.write_text('features = ["a/x.safetensors", "b/x.safetensors"]\n')
    with pytest.raises(InputError, match="two sources are called 'x'"):
        wanted(PAPER.table("6"), Where(plan=own))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("settings = 3", "settings in the plan .* is 3"),
        ("settings = {all = 3}", "settings in the plan .* expected tables"),
        ("[settings.clip-adaptor]\nblend = 1", "Did you mean 'clip-adapter'"),
        ("[settings.coop]\nepocs = 1", "Did you mean 'epochs'"),
        ("shotss = [1]", "has the key 'shotss'"),
    ],
    ids=["number", "number for all", "method", "setting", "key"],
)
def test_wrong_plans_for_the_papers_data(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        wanted(PAPER.table("6"), Where(root=tmp_path, plan=path))


@pytest.mark.parametrize("accuracy", [None, math.nan])
def test_damaged_runs_are_named(tmp_path: Path, accuracy: float | None) -> None:
    item, out = PAPER.table("1"), tmp_path / "r.jsonl"
    whole = run("zero-shot", 0.5, source="a", shots=16, seed=1)
    lacking = {name: value for name, value in whole.items() if name != "given"}
    damaged = whole | {"accuracy": accuracy}
    for row, words in ((lacking, "lacks 'given'"), (damaged, f"has accuracy {accuracy}")):
        out.write_text(json.dumps(row) + "\n")
        with pytest.raises(InputError, match=words):
            make(item, Where(), out)
        with pytest.raises(InputError, match=words):
            needs_table(PAPER, item, Where(), out)


def test_a_source_of_an_older_version_is_no_accident(tmp_path: Path) -> None:
    (one,) = wanted(PAPER.table("1"), Where())
    row = run("zero-shot", 0.5, source="a", shots=16, seed=1)
    for flags in ({}, {"flags": ["--images"]}):
        told = {"kind": "source", "digest": "a" * 64, **flags}
        assert not any(one.found(Results({row["key"]: row}, {"a" * 64: told})))


def test_ratio_zero_of_a_table_that_was_made_is_zero_shot(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    made = make(PAPER.table("6"), Where(plan=own), out)
    zero = make(PAPER.table("1"), Where(plan=own), out)
    ours = paper_tables(PAPER, PAPER.table("6"), made.needed, made.results)[0].rows[0][1]
    theirs = paper_tables(PAPER, PAPER.table("1"), zero.needed, zero.results)[0].rows[0][1]
    assert ours == theirs


def test_what_features_cannot_serve_is_left_out_and_said(own: Path, tmp_path: Path) -> None:
    made = make(PAPER.table("1"), Where(plan=own), tmp_path / "r.jsonl")
    assert made.made == 3 * 4
    assert "'coop' trains inside the encoder" in made.told[0]
    assert "4 of 16 runs are not there" in made.told[1]
    table = paper_tables(PAPER, PAPER.table("1"), made.needed, made.results)[0]
    assert table.rows[2] == ("CoOp", *("–",) * 5)


def test_what_an_encoder_cannot_serve_is_left_out_and_said(photos: Path, tmp_path: Path) -> None:
    """``lite`` has no projection, and no blocks in its image tower."""
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f'images = ["{photos}"]\nencoder = "lite"\nshots = [1]\nseeds = [1]\nselect = "fixed"\n'
        "[settings.all]\nepochs = 1\n"
    )
    for table, gone, told in (
        ("4", [2], ["elevater-l1p is left out: the encoder lite has no projection"]),
        ("3", [0, 1], ["houlsby is left out: ", "parallel is left out: "]),
    ):
        item = PAPER.table(table)
        made = make(item, Where(plan=plan), tmp_path / "r.jsonl")
        (shown,) = paper_tables(PAPER, item, made.needed, made.results)
        assert [n for n, row in enumerate(shown.rows) if row[1] == "–"] == gone
        for beginning, sentence in zip(told, made.told, strict=False):
            assert sentence.startswith(beginning)


def test_without_data_the_needs_are_told(tmp_path: Path) -> None:
    out = tmp_path / "none.jsonl"
    with pytest.raises(InputError, match=r"table 6 needs 36 runs, and .* has none of them"):
        make(PAPER.table("6"), Where(), out)
    assert not out.exists()
    table = needs_table(PAPER, PAPER.table("6"), Where(), out)
    assert {row[-1] for row in table.rows} == {"0 of 3"}
    results = ResultsFile(out)
    kept = filled(PAPER.table("6"), lambda dataset, row, seed: 600)
    for line in (*kept.sources.values(), *kept.runs.values()):
        if line.get("given") != {"blend": 1.0}:
            results.add(line)
    counts = {row[3]: row[-1] for row in needs_table(PAPER, PAPER.table("6"), Where(), out).rows}
    assert counts["clip-adapter (blend=0.8)"] == "3 of 3"
    assert counts["clip-adapter (blend=1.0)"] == "0 of 3"


def test_data_sets_that_are_not_there_are_left_out_unless_all_are(tmp_path: Path) -> None:
    (tmp_path / "dtd").mkdir()
    where = Where(root=tmp_path, encoders=("lite",))
    with pytest.raises(InputError, match=r"split_zhou_DescribableTextures\.json"):
        make(PAPER.table("6"), where, tmp_path / "r.jsonl")  # it is there, but incomplete
    with pytest.raises(InputError, match="imagenet does not exist"):
        make(PAPER.table("1"), where, tmp_path / "r.jsonl")


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: paper_named("clip-adaptor"), "Did you mean 'clip-adapter'?"),
        (lambda: PAPER.table("11"), "no table '11'"),
        (lambda: PAPER.figure("2"), "no figure '2'"),
        (
            lambda: wanted(PAPER.table("8"), Where(encoders=("lite",))),
            "has 4 backbones",
        ),
        (
            lambda: wanted(PAPER.table("6"), Where(encoders=("lite", "lite"))),
            "give --encoder once",
        ),
    ],
    ids=["paper", "table", "figure", "one encoder of four", "two encoders of one"],
)
def test_refusals(call: Any, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        call()


def test_a_plan_with_images_and_the_data_sets_do_not_go_together(own: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave --data"):
        wanted(PAPER.table("6"), Where(root=tmp_path, plan=own))


def test_prompts_cannot_be_changed_in_a_features_file(own: Path) -> None:
    with pytest.raises(InputError, match="rows with other prompts"):
        wanted(PAPER.table("7"), Where(plan=own))
