"""``docs/bad-inputs.md`` is what happens: every row of it is made, run and compared.

The first cell of a row finds the builder of the bad input in ``tests/support/bad_inputs``; an empty
one means the bad input of the row above. The third cell holds what is on standard error, after
``handful:``, where ``…`` stands for anything. The exit status is 2, or 0 where it says *goes on*.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from bad_inputs.place import BUILDERS, Place
from markdown_pages import DOCS, names_in, table

for path in (Path(__file__).parents[1] / "support" / "bad_inputs").glob("*.py"):
    importlib.import_module(f"bad_inputs.{path.stem}")

PAGE = (DOCS / "bad-inputs.md").read_text("utf-8")
SLOW = {"a table of a million rows", "a table of a million files that do not exist"}


@dataclass(frozen=True)
class Run:
    """What a command left behind."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Row:
    """A row of the page: what is wrong, the command, and what is answered."""

    what: str
    command: str
    answers: tuple[str, ...]
    goes_on: bool


def rows() -> list[Row]:
    found: list[Row] = []
    for what, command, answer in table(PAGE, "what is wrong"):
        found.append(
            Row(
                what or found[-1].what,
                names_in(command)[0],
                tuple(names_in(answer)),
                answer.startswith("*goes on*"),
            )
        )
    return found


ROWS = rows()
ODD = [what for what, _ in table(PAGE, "what is odd")]


def marked(row: Row) -> object:
    slow = [pytest.mark.slow] if row.what in SLOW or ">" in row.command else []
    return pytest.param(row, marks=slow, id=f"{row.what}: {row.command}")


# -- the place -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def sound(learnt: Path, handful, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a classifier and a features file in which nothing is wrong; not to be changed."""
    folder = tmp_path_factory.mktemp("sound")
    shutil.copytree(learnt, folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        handful("fit", "photos", "--out", "things", "--method", "tip-adapter").done()
        handful("embed", "photos", "--out", "photos.safetensors").done()
    return folder


@pytest.fixture
def place(
    sound: Path,
    tiny: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    folder = tmp_path / "here"
    shutil.copytree(sound, folder)
    monkeypatch.chdir(folder)
    with ExitStack() as afterwards:
        yield Place(folder, tiny, [], afterwards)


@pytest.fixture
def run(handful, monkeypatch: pytest.MonkeyPatch):
    """Run a command as it is written on the page."""

    def run(command: str):
        words = shlex.split(command)
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            monkeypatch.setenv(name, value)
        return handful(*words[1:])

    return run


def in_a_shell(command: str) -> Run:
    """Run a command in a process of its own."""
    handful = f"{shlex.quote(sys.executable)} -m handful.cli.main"
    found = subprocess.run(
        re.sub(r"\bhandful\b", lambda _: handful, command, count=1),
        shell=True,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    return Run(found.returncode, found.stdout, found.stderr)


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what lies in a folder and below, with size and time of change of each file."""
    found = {}
    for here, folders, files in os.walk(folder):
        found |= {os.path.join(here, name): (0, 0) for name in folders}  # noqa: PTH118
        for name in files:
            about = Path(here, name).lstat()
            found[os.path.join(here, name)] = (about.st_size, about.st_mtime_ns)  # noqa: PTH118
    return found


def one_line(text: str) -> str:
    return " ".join(text.split())


def looks_like(shown: str, said: str) -> bool:
    return re.fullmatch(".*?".join(map(re.escape, shown.split("…"))), said) is not None


# -- the page and the builders are one list --------------------------------------------------------


def test_every_row_has_a_builder_and_every_builder_a_row() -> None:
    told = {row.what for row in ROWS} | set(ODD)
    assert told - set(BUILDERS) == set()
    assert set(BUILDERS) - told == set()


def test_no_row_is_there_twice() -> None:
    seen = Counter((row.what, row.command) for row in ROWS) + Counter((w, "") for w in ODD)
    assert [row for row, count in seen.items() if count > 1] == []


def test_what_is_wrong_is_said_in_one_sentence() -> None:
    for row in ROWS:
        if row.goes_on:
            assert all(a.startswith(("warning: ", "pytorch_model.bin")) for a in row.answers), row
        else:
            assert len(row.answers) == 1, row
            # One style; what begins otherwise begins with a name that the user gave.
            first = row.answers[0].split()[0]
            assert first[0].islower() or not first.isalpha(), row
            assert row.answers[0].endswith((".", "?")), row


# -- the rows --------------------------------------------------------------------------------------


def check(row: Row, place: Place, run: Callable[[str], Run]) -> None:
    BUILDERS[row.what](place)
    before = contents(place.folder)
    with place.holding():
        found = run(row.command)
    shown = " ".join(f"handful: {answer}" for answer in row.answers)
    said = one_line(found.err)
    assert looks_like(shown, said), f"the page says\n{shown}\nbut it is\n{said}"
    assert found.status == (0 if row.goes_on else 2)
    assert bool(found.out) == row.goes_on
    after = contents(place.folder)
    changed = {Path(n) for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
    left = {path.relative_to(place.folder).parts[0] for path in changed}
    assert left <= ({"new", "new.safetensors", "cache", "disk"} if row.goes_on else set())


@pytest.mark.parametrize("row", [marked(row) for row in ROWS])
def test_it_is_answered_as_documented(row: Row, place: Place, run) -> None:
    check(row, place, in_a_shell if ">" in row.command else run)


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    [
        "a JPEG that is cut short",
        "a checkpoint that lacks a tensor",
        "a feature store that is damaged",
    ],
)
def test_so_it_is_in_a_process_of_its_own(what: str, place: Place) -> None:
    """Nothing below Python speaks, and no library."""
    check(next(row for row in ROWS if row.what == what), place, in_a_shell)


@pytest.mark.parametrize("what", ODD)
def test_what_looks_wrong_goes_all_the_way(what: str, place: Place, run) -> None:
    """Through fit, embed, evaluate and predict; the labels come back as they were given."""
    given, classes = BUILDERS[what](place)
    expected = sorted(classes)
    folder = shlex.quote(given if (place / given).is_dir() else "photos")
    count = 10 if what == "the same photograph under two names" else 9
    with place.holding():
        data = shlex.quote(given)
        found = run(f"handful fit {data} --method tip-adapter --out new --json").document()
        assert (found["classes"], sum(found["images"].values())) == (expected, count)
        done = run(f"handful embed {data} --out new.safetensors").done()
        assert done.startswith(f"{count} images in new.safetensors")
        named = "handful fit new.safetensors --method zero-shot --out named --json"
        assert run(named).document()["classes"] == expected
        for images in (data, "new.safetensors"):
            found = run(f"handful evaluate new {images} --json").document()
            assert (found["n"], found["skipped"]) == (count, 0)
            assert [one["label"] for one in found["per_class"]] == expected
        for images in (folder, "new.safetensors"):
            answers = run(f"handful predict new {images} --json").document()
            assert len(answers) == count
            # All were learnt from; Tip-Adapter answers with the label of an image that it knows.
            assert {answer["label"] for answer in answers} == set(expected)
        # For people, too: nothing in a name breaks a line, or is taken for a mark of style.
        told = run(f"handful evaluate new {data}").out
        said = run(f"handful predict new {folder}").done()
    lines = [line.split("  ")[0] for line in told.splitlines()]
    assert all(" ".join(name.split())[:900] in "\n".join(lines) for name in classes)
    assert all(f": {' '.join(name.split())} " in said for name in classes)
