"""The pages say what is true: links lead somewhere, commands and code run, outputs look as printed.

Rules for whoever writes a page (README.md included):
- ``python`` blocks all run, one after the other in one session per page;
- in ``sh`` blocks the lines that begin with ``handful`` run, in order, and must end with status 0;
  lines that begin with another of the words below are what CI or the reader does;
- a ``text`` block that follows directly is what was printed: compared without numbers and
  blanks, and a line ``…`` stands for anything.
All of it happens in one folder per page, with a copy of the example photographs named ``photos``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from markdown_pages import method_page, names_in, section, table
from typer.main import get_command

from handful import methods, tuning
from handful.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
# Every verb, and the verbs below it by both words: "encoders", "encoders check".
COMMANDS: dict[str, Any] = {
    " ".join(words): command
    for name, verb in get_command(app).commands.items()
    for words, command in (
        ((name,), verb),
        *(((name, below), command) for below, command in getattr(verb, "commands", {}).items()),
    )
}
NOT_RUN = {"make", "pip", "python", "python3", "source", ".", "git", "cd", "cp", "export", "#"}

every_page = pytest.mark.parametrize("page", [*PAGES, README], ids=lambda page: page.stem)
every_method = pytest.mark.parametrize("name", [*methods.names(), *tuning.names()])
every_verb = pytest.mark.parametrize("verb", COMMANDS)


# -- reading Markdown ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block; ``follows`` is true where only blank lines part it from the block before."""

    language: str
    code: str
    follows: bool


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found, end = [], 0
    for match in re.finditer(r"^```(\S*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        between = text[end : match.start()]
        found.append(Block(match[1], match[2], bool(found) and not between.strip()))
        end = match.end()
    return found


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        words = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
        again = sum(
            re.fullmatch(rf"{re.escape(slug)}(-\d+)?", anchor) is not None for anchor in found
        )
        found.add(f"{slug}-{again}" if again else slug)
    return found


# -- links -----------------------------------------------------------------------------------------


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name}: there is no {path}"
        assert not anchor or anchor in anchors(place), f"{page.name}: no heading for {target}"


def test_every_page_is_listed() -> None:
    listed = set(re.findall(r"\]\((\w[\w-]*\.md)\)", prose(ROOT / "docs" / "index.md")))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}


def test_every_room_is_described() -> None:
    package = ROOT / "src" / "handful"
    rooms = {folder.parent.name for folder in package.glob("*/__init__.py")} | {"task.py"}
    rows = table(section("architecture.md", "Rooms"), "room")
    assert {names_in(row[0])[0] for row in rows} == rooms


# -- methods ---------------------------------------------------------------------------------------


def kind_of(name: str) -> Any:
    """The class of a method of either family."""
    return (tuning if name in tuning.names() else methods).get(name)


@every_method
def test_every_setting_and_its_default(name: str) -> None:
    kind = kind_of(name)
    rows = {names_in(row[0])[0]: row for row in table(method_page(name), "setting")}
    assert set(rows) == set(kind().settings())
    for setting, value in kind().settings().items():
        _, _, default, searched, _ = rows[setting]
        assert names_in(default) == [
            f"{value:g}" if isinstance(value, float) else str(value).lower()
        ]
        assert (searched != "no") == (setting in kind.searched({}).settings()), setting


@every_method
def test_every_method_names_its_paper(name: str) -> None:
    """By its number at arXiv, or its DOI."""
    numbers = re.findall(r"\d{4}\.\d{5}|10\.\d{4}/[^\s,;]+", kind_of(name).paper)
    assert numbers
    assert all(number in method_page(name) for number in numbers)


def test_every_method_is_listed_and_none_is_made_up() -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert [names_in(row[0])[0] for row in table(text, "method")] == methods.names()
    assert [names_in(row[0])[0] for row in table(text, "inside")] == tuning.names()
    pages = {page.stem: page for page in (ROOT / "docs" / "methods").glob("*.md")}
    assert set(pages) == {*methods.names(), *tuning.names()}
    for name, page in pages.items():
        assert page.read_text(encoding="utf-8").startswith(f"# `{name}`\n"), page


# -- command line ----------------------------------------------------------------------------------


def flags(verb: str) -> set[str]:
    return {flag for p in COMMANDS[verb].params for flag in p.opts if flag.startswith("-")}


@every_verb
def test_every_flag_and_its_default(verb: str) -> None:
    rows = table(section("command-line.md", f"`handful {verb}`"), "option")
    documented = {name: row for row in rows for name in names_in(row[0])}
    assert {name for name in documented if name.startswith("-")} == flags(verb)
    for parameter in COMMANDS[verb].params:
        if parameter.param_type_name == "argument":
            assert (parameter.metavar or parameter.name.upper()) in documented
        elif parameter.default not in (None, False):
            assert names_in(documented[parameter.opts[0]][1]) == [str(parameter.default)]


def test_no_verb_is_made_up() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## `handful ([\w ]+)`$", text, re.MULTILINE)) == set(COMMANDS)


@every_page
def test_no_flag_is_made_up(page: Path) -> None:
    known = {"--help", "--version"}.union(*(flags(verb) for verb in COMMANDS))
    told = [command for block in blocks(page) for command in runs(block)]
    if page != README:  # it also tells how to install
        told += [code for code in names_in(prose(page)) if "pip" not in code]
    words = {word for code in told for word in code.split()}
    used = {word for word in words if re.fullmatch(r"--[a-z][a-z-]*", word)}
    if page.stem == "bad-inputs":  # where mistakes are shown
        used -= {word for row in table(prose(page), "what is wrong") for word in row[1].split()}
    assert used <= known


# -- running the pages -----------------------------------------------------------------------------

RUNNER = """
import contextlib, io, json, shlex, sys, traceback
from handful.cli.main import main

work = json.load(sys.stdin)
found, names = [], {"__name__": "page"}
for language, code in work["parts"]:
    out = io.StringIO()
    err = out if work["together"] else io.StringIO()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if language == "python":
                exec(compile(code, "<block>", "exec"), names)
            else:
                main(shlex.split(code, comments=True)[1:])
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
    found.append([status, out.getvalue(), err.getvalue()])
json.dump(found, sys.stdout)
"""

Part = tuple[str, str]
Outcome = tuple[int, str, str]


def run(folder: Path, parts: Sequence[Part], *, together: bool = False) -> list[Outcome]:
    """Run commands and code in ``folder``: status, standard output and standard error of each.

    One process for all of them: most of the time of a command is its imports.
    """
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps({"parts": parts, "together": together}),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return [(status, out, err) for status, out, err in json.loads(done.stdout)]


def runs(block: Block) -> Iterator[str]:
    """The commands of a ``sh`` block that are run."""
    if block.language == "sh":
        for line in block.code.replace("\\\n", " ").splitlines():
            if line.startswith("handful "):
                yield line


def shape(text: str) -> str:
    """Text without what may differ between machines: numbers and widths."""
    return re.sub(r"[\s─]+", " ", re.sub(r"\d+(\.\d+)?(e-?\d+)?", "#", text)).strip()


def looks_like(shown: str, printed: str) -> bool:
    parts = [re.escape(shape(part)) for part in re.split(r"^\s*…\s*$", shown, flags=re.MULTILINE)]
    return re.fullmatch(" ?.*? ?".join(parts), shape(printed)) is not None


@pytest.fixture
def workplace(tmp_path: Path, photos: Path) -> Path:
    shutil.copytree(photos, tmp_path / "photos")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in [*PAGES, README] if blocks(page)], ids=lambda page: page.stem
)
def test_commands_and_code_run(page: Path, workplace: Path) -> None:
    """And print what the page shows."""
    parts: list[Part] = []
    shown: list[tuple[slice, str]] = []
    last = slice(0, 0)
    for block in blocks(page):
        start = len(parts)
        if block.language == "python":
            parts.append(("python", block.code))
        elif block.language == "sh":
            parts += [("sh", line) for line in runs(block)]
            first = {line.split()[0] for line in block.code.splitlines() if line[:1].strip()}
            assert first <= {"handful", *NOT_RUN}, "a line that is neither run nor known"
        elif block.language == "text" and block.follows and last.start < last.stop:
            shown.append((last, block.code))
        last = slice(start, len(parts))
    if not parts:
        pytest.skip("nothing to run on this page")
    outcomes = run(workplace, parts, together=True)
    for (_, code), (status, printed, _) in zip(parts, outcomes, strict=True):
        assert status == 0, f"{code}\n{printed}"
    for which, expected in shown:
        printed = "\n".join(out for _, out, _ in outcomes[which])
        assert looks_like(expected, printed), f"the page shows\n{expected}\nbut it is\n{printed}"


def test_the_comparison_can_fail() -> None:
    assert looks_like("dam  90.1%\n…\nsaved", "dam 7% \nfish\nhammer\nsaved\n")
    assert not looks_like("dam 90.1%", "fish 90.1%")
    assert not looks_like("dam\nsaved", "dam\nfish\nsaved")


# -- documents of the command line -----------------------------------------------------------------


def fields(value: Any, path: str = "") -> set[str]:
    """The paths of all fields of a JSON document; of a list, those of its entries."""
    if isinstance(value, dict) and not value:
        return {f"{path}.*"}
    if isinstance(value, dict):
        return set().union(*(fields(v, f"{path}.{k}".lstrip(".")) for k, v in value.items()))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return set().union(*(fields(entry, f"{path}[]" if path else "") for entry in value))
    return {path}


def documented(heading: str) -> list[str]:
    rows = table(section("command-line.md", heading), "field")
    return [name.replace("[]", "()") for row in rows for name in names_in(row[0])]


def assert_documented(document: Any, heading: str) -> None:
    """Every field is in the table, and every row of the table is a field."""
    found, told = {name.replace("[]", "()") for name in fields(document)}, documented(heading)
    assert told, f"{heading}: no table of fields"
    assert [f for f in sorted(found) if not any(fnmatchcase(f, t) for t in told)] == []
    assert [t for t in told if not any(fnmatchcase(f, t) for f in found)] == []


@pytest.mark.slow
def test_json_documents_have_the_documented_fields(workplace: Path) -> None:
    (workplace / "photos" / "hammer" / "hammer99.jpg").write_text("this is no picture")
    names_alone = "handful fit photos --method zero-shot --out names"  # makes mistakes
    commands = {
        "fit": "handful fit photos --method tip-adapter --out things --json",
        "predict": "handful predict things photos/dam/dam1.webp --top 2 --coverage 0.9 --unsure 0.1"
        " --why --json",
        "evaluate": "handful evaluate names photos --coverage 0.9 --json",
        "embed": "handful embed photos --out photos.safetensors --json",
        "correct train": "handful correct train photos.safetensors --out c.safetensors --json",
        "overlap": "handful overlap photos --correction c.safetensors --json",
        "methods": "handful methods --json",
        "encoders": "handful encoders --json",
    }
    parts = [("sh", command) for command in (names_alone, *commands.values())]
    for verb, (status, out, err) in zip(["", *commands], run(workplace, parts), strict=True):
        assert status == 0, err
        if verb:
            assert_documented(json.loads(out), f"`handful {verb}`")
    saved = json.loads((workplace / "things" / "config.json").read_text(encoding="utf-8"))
    assert_documented(saved, "The saved folder")


@pytest.mark.slow
def test_json_document_of_the_demo(tmp_path: Path) -> None:
    fewer = ("python", "from handful.examples import demo; demo._SEEDS = (1, 2)")
    _, (status, out, err) = run(tmp_path, [fewer, ("sh", "handful demo --out things --json")])
    assert status == 0, err
    assert_documented(json.loads(out), "`handful demo`")


def test_json_documents_of_the_data_sets(tmp_path: Path) -> None:
    commands = {
        "list": "handful datasets list --json",
        "show": "handful datasets show fgvc_aircraft --json",
        "check": "handful datasets check dtd --root . --json",  # which is not there
    }
    parts = [("sh", command) for command in commands.values()]
    for verb, (status, out, err) in zip(commands, run(tmp_path, parts), strict=True):
        assert status == (verb == "check"), err
        assert_documented(json.loads(out), f"`handful datasets {verb}`")
