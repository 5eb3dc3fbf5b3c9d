"""The results file: whole lines, one for each run, whoever writes and whoever is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handful.benchmark.results import ResultsFile, read_results
from handful.errors import InputError
from handful.features.claims import VALID_S, new_owner


def run(key: str, **more: Any) -> dict[str, Any]:
    return {"kind": "run", "key": key, **more}


SOURCE = {"kind": "source", "digest": "d", "name": "x"}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A file to be; afterwards there is nothing beside it."""
    yield tmp_path / "results.jsonl"
    assert {one.name for one in tmp_path.iterdir()} <= {"results.jsonl"}


def added(path: Path, *rows: dict[str, Any]) -> ResultsFile:
    file = ResultsFile(path)
    for row in rows:
        file.add(row)
    file.close()
    return file


def dead_owner() -> str:
    """An owner whose process has ended."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    host, _, rest = new_owner().rsplit(" ", 2)
    return f"{host} {ended.stdout.strip()} {rest}"


# -- lines -----------------------------------------------------------------------------------------


def test_what_is_added_is_read(path: Path) -> None:
    name = 'Staudämme 大坝 "\n\u2028'
    added(path, SOURCE, run("a", label=name), run("b"))
    found = read_results(path)
    assert found.sources == {"d": SOURCE}
    assert found.runs == {"a": run("a", label=name), "b": run("b")}
    assert list(found.runs) == ["a", "b"]
    assert len(path.read_bytes().split(b"\n")) == 4  # the last one is empty


def test_a_key_has_one_line(path: Path) -> None:
    added(path, SOURCE, run("a", n=1))
    added(path, SOURCE, run("a", n=2), run("b"), run("b"))
    assert len(path.read_bytes().splitlines()) == 3
    assert read_results(path).runs["a"]["n"] == 1


def test_reading_again_reads_what_is_new(path: Path) -> None:
    reader = ResultsFile(path)
    assert reader.read().runs == {}
    added(path, run("a"))
    assert list(reader.read().runs) == ["a"]
    added(path, run("b"))
    with path.open("ab") as file:
        file.write(b'{"kind": "run", "key": "c"')
    assert list(reader.read().runs) == ["a", "b"]
    with path.open("ab") as file:
        file.write(b"}\n")
    assert list(reader.read().runs) == ["a", "b", "c"]
    with path.open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(InputError, match="line 4, is no line of results"):
        reader.read()


@pytest.mark.parametrize("cut", [1, 5, 10, 20, 26])
def test_a_torn_last_line_is_passed_over_and_replaced(path: Path, cut: int) -> None:
    added(path, run("a"), run("b"))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: first + cut])
    assert list(read_results(path).runs) == ["a"]
    added(path, run("b"))
    assert path.read_bytes() == whole


def test_a_long_torn_line_is_removed_whole(path: Path) -> None:
    """Longer than what is read at a time when looking for its beginning."""
    added(path, run("a"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "run", "key": "' + b"x" * 200_000)
    added(path, run("b"))
    assert path.read_bytes() == whole + json.dumps(run("b")).encode() + b"\n"
    path.write_bytes(b'{"kind": "run", "key": "' + b"x" * 200_000)
    added(path, run("b"))
    assert path.read_bytes() == json.dumps(run("b")).encode() + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind": "run", "key": "b"',
        b"{}",
        b"[]",
        b"7",
        b'{"kind": "run"}',
        b'{"kind": "table", "key": "b"}',
        b'{"kind": ["run"], "key": "b"}',
        b"\xff\xfe",
        b"\0" * 40,
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_named(path: Path, line: bytes) -> None:
    added(path, run("a"), run("c"))
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], b"", line, lines[1], b""]))
    before = path.read_bytes()
    with pytest.raises(InputError) as error:
        read_results(path)
    assert str(error.value) == (
        f"{path}, line 3, is no line of results: remove it and run again, or give another file."
    )
    with pytest.raises(InputError, match="line 3"):
        added(path, run("d"))
    assert path.read_bytes() == before
    path.with_name("results.jsonl.lock").unlink(missing_ok=True)


def test_somebody_elses_file_is_left_alone(path: Path) -> None:
    """A file without an end of line is not taken for a line that was cut short."""
    for content in (b'{"a": 1}', b"features = []"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="line 1, is no line of results"):
            read_results(path)
        with pytest.raises(InputError, match="line 1"):
            ResultsFile(path).add(run("a"))
        assert path.read_bytes() == content
    path.with_name("results.jsonl.lock").unlink(missing_ok=True)


def test_no_file_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.jsonl does not exist: expected a file that"):
        read_results(tmp_path / "no.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        read_results(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"results\.jsonl cannot be written"):
        added(tmp_path / "file" / "results.jsonl", run("a"))
    added(tmp_path / "new" / "folder" / "results.jsonl", run("a"))
    assert [one.name for one in (tmp_path / "new" / "folder").iterdir()] == ["results.jsonl"]


def test_numbers_that_json_has_not_are_never_written(path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        added(path, run("a", n=float("nan")))
    assert not path.exists()


# -- claims ----------------------------------------------------------------------------------------


def test_what_one_does_no_other_does(path: Path) -> None:
    one, other = ResultsFile(path), ResultsFile(path)
    with one.claim("a") as mine:
        assert mine
        with other.claim("a") as theirs, other.claim("b") as free:
            assert (theirs, free) == (False, True)
        with other.claim("a") as theirs:  # that they asked has not ended ours
            assert not theirs
    with other.claim("a") as theirs:
        assert theirs
    one.close()


def test_a_claim_ends_with_an_error(path: Path) -> None:
    file = ResultsFile(path)
    with pytest.raises(ZeroDivisionError), file.claim("a"):
        raise ZeroDivisionError
    with ResultsFile(path).claim("a") as mine:
        assert mine
    file.close()


def test_the_claim_of_a_dead_process_counts_no_longer(path: Path) -> None:
    file = ResultsFile(path)
    with file.claim("a"):
        (claim,) = path.with_name("results.jsonl.claims").iterdir()
        for owner in (dead_owner(), "", "cut sh"):
            claim.write_text(owner)
            with ResultsFile(path).claim("a") as mine:
                assert mine
        claim.write_text(new_owner())
        os.utime(claim, (0, claim.stat().st_mtime - VALID_S - 1))
        with ResultsFile(path).claim("a") as mine:
            assert mine
    file.close()


def test_closing_removes_what_the_dead_left_and_nothing_of_the_living(path: Path) -> None:
    folder = path.with_name("results.jsonl.claims")
    file = ResultsFile(path)
    with file.claim("a"):
        (folder / "0").write_text(dead_owner())
        ResultsFile(path).close()
        assert len(list(folder.iterdir())) == 1
        assert path.with_name("results.jsonl.lock").exists()
    (folder / "0").write_text(dead_owner())
    file.close()
    assert not folder.exists()
    file.close()  # again, and with nothing there


def test_several_writers_at_once(path: Path) -> None:
    """All ask for the same work, and the lock file is removed again and again: nothing is torn,
    nothing is done or written twice."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from handful.benchmark.results import ResultsFile\n"
        "path, name, go = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])\n"
        "while not go.exists():\n"
        "    time.sleep(0.001)\n"
        "for n in range(60):\n"
        "    file = ResultsFile(path)\n"
        "    with file.claim(f'shared {n}') as mine:\n"
        "        if mine and f'shared {n}' not in file.read().runs:\n"
        "            print(n)\n"
        "            time.sleep(0.002)\n"
        "            file.add({'kind': 'run', 'key': f'shared {n}', 'text': 'x' * 30_000})\n"
        "    file.add({'kind': 'run', 'key': f'same {n}', 'by': name})\n"
        "    if n % 5 == 0:\n"
        "        file.close()\n"
        "file.close()\n"
    )
    go = path.with_name("results.jsonl.go")
    command = [sys.executable, "-c", code, str(path)]
    writers = [
        subprocess.Popen([*command, str(n), str(go)], stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    time.sleep(1.5)  # all of them wait at the start
    go.touch()
    done = [int(n) for one in writers for n in one.communicate(timeout=120)[0].split()]
    go.unlink()
    assert [one.returncode for one in writers] == [0] * 4
    assert sorted(done) == list(range(60))
    keys = [json.loads(line)["key"] for line in path.read_bytes().splitlines()]
    assert sorted(keys) == sorted(f"{kind} {n}" for kind in ("shared", "same") for n in range(60))
