"""Every format: it can be read back, says what the summary says, and shows user text as it is."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from bench_rows import grid, results, run

from handful.benchmark.anchors import read_anchors
from handful.benchmark.render import FORMATS, SUFFIXES, latex, markdown, terminal
from handful.benchmark.render.words import grids, heading
from handful.benchmark.summary import Summary, summarise

HOSTILE = """<script>alert("1")</script> a|b*c_d & 50% $x$ {y} ~ ^ # `z` \\end [w] 'q'"""
every_format = pytest.mark.parametrize("name", FORMATS)


def rows_of_two_policies() -> list[dict[str, Any]]:
    """Two sources under val, one of them under cv too, an incomplete cell, given settings."""
    accuracies = {
        "zero-shot": (0.50, 0.52, 0.54),
        "linear-probe": (0.45, 0.48, 0.62),
        "tip-adapter": (0.71, 0.72, 0.76),
    }
    rows = grid(accuracies, shots=[1, 2, 4]) + grid(accuracies, shots=[1, 2, 4], source="b")
    rows += grid(accuracies, shots=[1, 2], select="cv", policy="fixed")
    rows += [run("clip-adapter", 0.9, shots=2)]
    return [*rows, *grid({"tip-adapter": (0.6,) * 3}, shots=[1, 2, 4], given={"blend": 2.5})]


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    path = tmp_path_factory.mktemp("anchors") / "anchors.toml"
    path.write_text(
        'about = "Measured\\n  <here>."\nprotocol = "coop"\nshots = [1, 2]\n[[anchor]]\n'
        'method = "zero-shot"\ncode = "CLIP & co"\naccuracy = { a = [49.9, 52.0] }\n'
    )
    return summarise([results(rows_of_two_policies())], anchors=read_anchors(path))


@pytest.fixture(scope="module")
def hostile() -> Summary:
    """User text is in names of sources, methods, classes, settings and words of the command."""
    rows = [
        run(HOSTILE, 0.4, given={"mode": HOSTILE}, command=["handful", HOSTILE]),
        run("zero-shot", 0.5, per_class={HOSTILE: 1.0}),
    ]
    return summarise([results(rows, {"a": HOSTILE}, [HOSTILE, "dog"])])


# -- all formats -----------------------------------------------------------------------------------


@every_format
def test_protocol_and_policy_stand_with_every_table(summary: Summary, name: str) -> None:
    assert len(summary.tables) == 4
    text = FORMATS[name](summary, "sd")
    if name == "csv":
        named = {(row["protocol"], row["select"]) for row in csv.DictReader(io.StringIO(text))}
        assert named == {("coop", "val"), ("coop", "cv")}
        return
    for table in summary.tables:
        assert f"protocol coop, selection {table.select}" in heading(table)
        assert heading(table) in text
    told = text if name != "html" else text[: text.index("Behind the numbers")]
    tabulars = told.count(r"\begin{tabular}") if name == "latex" else None
    if tabulars:
        assert told.count("selection val") + told.count("selection cv") == tabulars


def bare(text: str, name: str) -> str:
    """Text without what sets it in bold, escapes it or wraps it."""
    if name == "html":
        text = re.sub(r"<[^>]*>", "", text)
    text = re.sub(r"\\pm|\\textbf|[$*\\{}±]", "", text)
    return re.sub(r"\s+", " ", text.replace("ddag", "‡").replace("dag", "†"))


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "csv"])
def test_numbers_marks_and_notes(summary: Summary, name: str) -> None:
    """71, 72 and 76: mean 73.0, deviation √((4 + 1 + 9) / 2) = 2.65, half the interval 6.57."""
    text = bare(FORMATS[name](summary, "sd"), name)
    wide = bare(FORMATS[name](summary, "95"), name)
    assert "73.0 2.6" in text
    assert "73.0 6.6" in wide
    assert "90.0 (n=1)" in text
    assert "51.7 9.1‡" in text  # linear-probe under cv
    assert "52.0 2.0‡" not in text  # zero-shot selects nothing
    for note in (
        "average: over 1, 2, 4 shots; none where one of these cells is missing or incomplete",
        "n: this cell does not have the seeds 1, 2, 3",
        "not chosen by cv but the documented defaults",
        "Left out of the average over sources: clip-adapter at 2 shots",
        "Draws share test images",
        "p: against tip-adapter, the best; 9 draws, 3 comparisons.",
    ):
        assert note in text, note


def test_a_dagger_means_tested_and_not_different() -> None:
    """Nine draws: linear-probe wins and loses by turns, zero-shot always loses."""
    turns = [0.7 + (-1) ** i * i / 50 for i in range(9)]
    rows = [
        row
        for k, i in ((1, 0), (2, 3), (4, 6))
        for row in grid(
            {
                "zero-shot": (0.1, 0.11, 0.12),
                "linear-probe": turns[i : i + 3],
                "tip-adapter": (0.72,) * 3,
            },
            shots=[k],
        )
    ]
    text = terminal.render(summarise([results(rows)]), "sd")
    found = {line.split()[0]: line for line in text.splitlines() if re.match(r"\S+ +\d", line)}
    assert [name for name, line in found.items() if "†" in line] == ["linear-probe"]
    assert found["linear-probe"].count("†") == 1  # of the average: a column has three draws
    assert re.search(r"0\.008$", found["zero-shot"])  # 2 · 2 / 2⁹
    named = terminal.render(summarise([results(rows)], baseline="zero-shot"), "sd")
    assert re.search(r"^tip-adapter .* 0\.008$", named, re.MULTILINE)
    assert re.search(r"^zero-shot .* –$", named, re.MULTILINE)
    assert "p: against zero-shot; 9 draws, 2 comparisons." in named


def test_notes_that_few_tables_need() -> None:
    rows = grid({"zero-shot": (0.5,) * 2, "tip-adapter": (0.6,) * 3}, shots=[1, 2])
    rows += grid({"linear-probe": (0.5,) * 2}, shots=[1, 2], versions={"handful": "2.0"})
    text = " ".join(terminal.render(summarise([results(rows)]), "sd").split())
    assert "on the same draws: tip-adapter." in text
    assert "Made by several versions of handful: 1.0, 2.0." in text
    plain = terminal.render(summarise([results(rows[:4])]), "sd")
    assert "Runs of other seeds" not in plain
    assert "versions" not in plain


@every_format
def test_one_seed_stands_alone(name: str) -> None:
    text = FORMATS[name](summarise([results([run(accuracy=0.5)])]), "sd")
    assert name == "csv" or "seed 1 alone" in text
    assert "±" not in text
    assert r"\pm" not in text
    assert "nan" not in text


@every_format
def test_an_empty_average(name: str) -> None:
    rows = [run(source="a", shots=1), run(source="b", shots=2)]
    text = FORMATS[name](summarise([results(rows)]), "sd")
    assert name == "csv" or "No cell is complete on all 2 sources." in text


# -- terminal --------------------------------------------------------------------------------------


def test_terminal_fits_80_columns() -> None:
    """With five numbers of shots and the longest name there is."""
    accuracies = {"zero-shot": (0.5, 0.6, 0.4), "cluster-adapter": (0.9, 0.7, 1.0)}
    summary = summarise([results(grid(accuracies, shots=[1, 2, 4, 8, 16]))])
    narrow = terminal.render(summary, "sd", width=80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow
    assert len(re.findall("^cluster-adapter ", narrow, re.MULTILINE)) == 2  # cut in two
    parts = terminal.render(summary, "sd", width=40)
    assert all(len(line) <= 40 for line in parts.splitlines() if line[:7] == "cluster")
    wide = terminal.render(summary, "sd")
    assert len(re.findall("^cluster-adapter ", wide, re.MULTILINE)) == 1
    assert (
        Counter(re.findall(r"[\d.]+ ±[\d.]+", wide))
        == Counter(re.findall(r"[\d.]+ ±[\d.]+", narrow))
        == Counter(re.findall(r"[\d.]+ ±[\d.]+", parts))
    )


def test_terminal_sets_the_best_in_bold(summary: Summary) -> None:
    plain = terminal.render(summary, "sd", width=80)
    styled = terminal.render(summary, "sd", width=80, styled=True)
    assert "\x1b[" not in plain
    assert re.sub(r"\x1b\[\d*m", "", styled) == plain
    best = re.findall(r"\x1b\[1m([\d][\d.]+ ±[^\x1b]*)\x1b", styled)
    assert all(text.endswith("*") for text in best)
    assert len(best) == len(re.findall(r"[\d†‡]\*", plain))


def test_terminal_takes_names_as_they_are() -> None:
    """Square brackets are rich's markup."""
    text = terminal.render(summarise([results([run("[bold]x[/bold]")])]), "sd")
    assert "[bold]x[/bold]" in text


# -- markdown --------------------------------------------------------------------------------------


def test_markdown_tables_are_whole(summary: Summary, hostile: Summary) -> None:
    for one in (summary, hostile):
        rows = [line for line in markdown.render(one, "sd").splitlines() if line[:1] == "|"]
        widths = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
        for table in one.tables:
            for grid_ in grids(table, one, "sd"):
                here, widths = widths[: len(grid_.rows) + 2], widths[len(grid_.rows) + 2 :]
                assert set(here) == {len(grid_.columns) + 2}
        assert widths == []


def test_markdown_shows_user_text_as_it_is(hostile: Summary) -> None:
    """Every sign that could begin something stands behind a backslash."""
    for sign in set(HOSTILE) & set("<>|*_&${}~#`\\[]"):
        assert rf"\{sign}" in markdown.escape(HOSTILE)
    assert markdown.escape(HOSTILE) in markdown.render(hostile, "sd")
    assert not re.search(r"(?<!\\)<", markdown.render(hostile, "sd"))


# -- LaTeX -----------------------------------------------------------------------------------------


def test_latex_is_balanced(summary: Summary, hostile: Summary) -> None:
    for one in (summary, hostile):
        text = latex.render(one, "sd")
        bare = re.sub(r"\\[{}&%#$_\\]", "", text)
        depth = 0
        for sign in bare:
            depth += (sign == "{") - (sign == "}")
            assert depth >= 0
        assert depth == 0
        assert bare.count("$") % 2 == 0
        assert Counter(re.findall(r"\\begin{(\w+)}", text)) == Counter(
            re.findall(r"\\end{(\w+)}", text)
        )
        for columns, body in re.findall(
            r"\\begin{tabular}{(\w+)}\n(.*?)\\end{tabular}", text, re.DOTALL
        ):
            for row in re.findall(r"^(.*) \\\\$", body, re.MULTILINE):
                assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1
                # Would be an argument of the \\ before it.
                assert row[0] not in "[*"


def test_latex_escapes() -> None:
    assert latex.escape(r"50% of a_b & c\d") == r"50\% of a\_b \& c\textbackslash{}d"
    assert latex.escape("[x] *y {z}") == r"{[}x{]} {*}y \{z\}"
    assert latex.escape("1 ±2† – ~^<") == (
        r"1 $\pm$2\dag{} -- \textasciitilde{}\textasciicircum{}\textless{}"
    )


def test_latex_has_real_minus_signs() -> None:
    rows = grid({"zero-shot": (0.5,), "linear-probe": (0.45,)})
    text = latex.render(summarise([results(rows)]), "sd")
    assert "& $-$5.0 & $-$10\\% &" in text
    assert "linear-probe &" in text


# -- CSV -------------------------------------------------------------------------------------------


def test_csv_has_one_line_for_each_number(summary: Summary) -> None:
    found = list(csv.DictReader(io.StringIO(FORMATS["csv"](summary, "sd"))))
    figures = [figure for table in summary.tables for figure in table.figures]
    assert len(found) == len(figures)
    assert sum(row["shots"] == "" for row in found) == sum(
        line.average is not None for table in summary.tables for line in table.lines
    )
    (cell,) = [
        row
        for row in found
        if (row["sources"], row["select"], row["method"], row["shots"])
        == ("a", "val", "tip-adapter", "2")
    ]
    told = {name: float(cell[name]) for name in ("accuracy", "gain", "error_reduction", "rank")}
    assert told == pytest.approx(
        {"accuracy": 0.73, "gain": 0.21, "error_reduction": 0.21 / 0.48, "rank": 1}
    )
    assert float(cell["standard_deviation"]) == pytest.approx(7**0.5 / 100)
    assert float(cell["half_interval_95"]) == pytest.approx(4.303 * (7 / 3) ** 0.5 / 100, rel=1e-3)
    assert (cell["seeds"], cell["complete"], cell["best"]) == ("1;2;3", "true", "true")
    keys = {row["key"] for row in rows_of_two_policies()}
    assert {key for row in found for key in row["runs"].split(";")} == keys
    (beside,) = [r for r in found if r["published"] and r["sources"] == "a" and r["shots"] == "1"
                 and r["select"] == "val"]  # fmt: skip
    assert float(beside["above_published"]) == pytest.approx(0.52 - 0.499)


def test_csv_quotes_user_text(hostile: Summary) -> None:
    found = list(csv.DictReader(io.StringIO(FORMATS["csv"](hostile, "sd"))))
    assert {row["sources"] for row in found} == {HOSTILE}


# -- HTML ------------------------------------------------------------------------------------------

VOID = {"meta"}


class Page(HTMLParser):
    """What a page holds; tags that do not close in their order are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts.setdefault(tag, []).append(data)

    def all(self, attribute: str) -> list[str]:
        return [found[attribute] or "" for _, found in self.tags if attribute in found]


@pytest.fixture(scope="module", params=["usual", "hostile"])
def page(request: pytest.FixtureRequest, summary: Summary, hostile: Summary) -> Page:
    one = summary if request.param == "usual" else hostile
    return Page(FORMATS["html"](one, "sd"))


def test_html_ids_are_unique_and_links_lead_somewhere(page: Page) -> None:
    ids = page.all("id")
    assert len(set(ids)) == len(ids)
    targets = page.all("href")
    assert targets
    assert all(target[0] == "#" and target[1:] in ids for target in targets)


def test_html_needs_nothing_else(page: Page) -> None:
    """Neither network nor files; the browser is told so, too."""
    assert page.all("src") == page.all("srcset") == page.all("action") == []
    assert {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "base"} == set()
    assert page.all("content")[0].startswith("default-src 'none';")
    for text in [*page.texts["style"], *page.texts["script"]]:
        assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|import ", text)


def test_html_runs_no_script_of_the_user(hostile: Summary) -> None:
    page = Page(FORMATS["html"](hostile, "sd"))
    assert [attributes.get("id") for tag, attributes in page.tags if tag == "script"] == [
        "lines",
        None,
    ]
    assert HOSTILE in "".join(page.texts["h2"])
    assert HOSTILE in "".join(page.texts["nav"])
    assert any(HOSTILE in text for text in page.all("aria-label"))
    # In the command, as a shell must read it.
    assert any(text.startswith("handful '<script>") for text in page.texts["pre"])


def test_every_number_of_the_page_leads_to_its_runs(summary: Summary) -> None:
    text = FORMATS["html"](summary, "sd")
    shown = text[: text.index("Behind the numbers")]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", shown)
    numbers = [cell for cell in cells if cell != "–"]
    assert numbers
    assert all(re.fullmatch(r'<a href="#t\d+-\d+-(\d+|average)">[^<]+</a>', n) for n in numbers)
    # The cell of tip-adapter at 2 shots on the source a under val, with its three runs.
    (name,) = re.findall(
        r'<details id="(t[\d-]+)"><summary>tip-adapter, 2 shots: 73.00%</summary>.*?'
        r"coop val 2 1 tip-adapter ",
        text[text.index("<h3>a: protocol coop, selection val") :].split("<h3>")[1],
        re.DOTALL,
    )
    part = re.search(rf'<details id="{name}">.*?</details></article></div></details>', text, re.S)
    assert part is not None
    assert [*re.findall(r"<h4>seed (\d)</h4>", part[0])] == ["1", "2", "3"]
    assert part[0].count("<pre>handful bench run --methods tip-adapter</pre>") == 3
    assert f'href="#{name}"' in shown


def test_the_page_holds_every_line_once_and_whole(summary: Summary) -> None:
    text = FORMATS["html"](summary, "sd")
    (packed,) = re.findall(r'<script type="application/octet-stream" id="lines">([^<]*)<', text)
    assert base64.b64decode(packed)[4:8] == bytes(4)  # no time in it
    lines = gzip.decompress(base64.b64decode(packed)).decode().split("\n")
    rows = {row["key"]: row for row in rows_of_two_policies()}
    assert sorted(lines) == sorted(json.dumps(row, ensure_ascii=False) for row in rows.values())
    # And each part says which line is its.
    for place, key in re.findall(r'data-line="(\d+)">.*?"key": "([^"]*)"', text, re.DOTALL):
        assert json.loads(lines[int(place)])["key"] == key
    assert text.count("data-line=") == len(lines)
    assert "0, 1, 2, … 20 in all" in text
    # Runs on one draw have the same lists: side by side they take a fraction of the space.
    draws = [(row["source"], row["shots"], row["seed"]) for row in map(json.loads, lines)]
    assert draws == sorted(draws)


def test_runs_are_compared_image_by_image(summary: Summary) -> None:
    """The made-up runs have the first 500 and the first 710 of 1,000 images right."""
    text = FORMATS["html"](summary, "sd")
    words = "Beside tip-adapter: 0 images right that it has wrong, 210 wrong that it has right, p ="
    assert words in text


def test_six_hundred_runs_make_a_page_of_sane_size() -> None:
    """Five sources, three seeds, shots 1 to 16, eight methods; 100 classes."""
    names = [f"class number {i}" for i in range(100)]
    rows = [
        run(method, 0.5 + seed / 100, source=source, shots=k, seed=seed,
            support=list(range(seed, 100 * k * 7, 7)), per_class=dict.fromkeys(names, 0.875),
            selection={"policy": "val", "trace": {"blend": [i / 7 for i in range(120)]}})
        for source in "abcde" for k in (1, 2, 4, 8, 16) for seed in (1, 2, 3)
        for method in ("zero-shot", "linear-probe", "clip-adapter", *"mnopq")
    ]  # fmt: skip
    assert len(rows) == 600
    assert sum(len(json.dumps(row)) for row in rows) > 5e6
    assert len(FORMATS["html"](summarise([results(rows)]), "sd")) < 3e6


def test_formats_and_suffixes_fit() -> None:
    assert set(SUFFIXES.values()) == set(FORMATS)
    assert all(Path(f"x{suffix}").suffix == suffix for suffix in SUFFIXES)
