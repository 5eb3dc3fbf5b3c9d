"""``--help``: the everyday verbs first, every flag where it is promised, and no waiting."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from typer.main import get_command

from handful import __version__
from handful.cli.main import app

VERBS = list(get_command(app).commands)


@pytest.fixture(autouse=True)
def plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")


def test_the_everyday_verbs_come_first(handful) -> None:
    said = handful("--help").done()
    listed = re.findall(rf"^\W*({'|'.join(VERBS)}) ", said, re.MULTILINE)
    assert listed[:3] == ["fit", "predict", "evaluate"]
    assert sorted(listed) == sorted(VERBS)
    assert {"fit", "predict", "evaluate", "demo", "embed", "methods", "encoders"} <= set(VERBS)
    assert all(len(line) <= 80 for line in said.splitlines())


def test_no_verb_is_help(handful) -> None:
    assert handful().done() == handful("--help").done() == handful("-h").done()


# What can be called: verbs, and the verbs below one that only groups them.
CALLS = [
    " ".join(words)
    for name, verb in get_command(app).commands.items()
    for words, command in (
        ((name,), verb),
        *(((name, below), command) for below, command in getattr(verb, "commands", {}).items()),
    )
    if not getattr(command, "commands", None) or command.invoke_without_command
]


@pytest.mark.parametrize("call", CALLS)
def test_every_verb_explains_itself_and_takes_json(handful, call: str) -> None:
    said = handful(*call.split(), "--help").done()
    assert f"handful {call}" in said
    assert re.search(r"--json +One JSON document", said)
    # An argument or an option that must be given, but where there is nothing to say.
    assert re.search(r"^\W*\* +(-|[A-Z]+ )", said, re.MULTILINE) or call in (
        "demo",
        "methods",
        "encoders",
        "cache info",
        "cache clear",
        "datasets list",
        "bench table",  # results, or a paper
        "bench plot",
    )
    # No switch looks as if it took a value.
    assert not re.search(r"--(json|force|strict) +<", said)


def test_version(handful) -> None:
    assert handful("--version").done() == f"handful {__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    """Each of these takes longer to import than ``--help`` may take."""
    code = (
        "import sys\n"
        "from handful.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'numpy', 'scipy', 'PIL', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=60
    )
    assert found.stderr.strip() == "[]"
    assert "evaluate" in found.stdout


def test_errors_of_ours_that_are_not_the_users(handful, monkeypatch, tmp_path) -> None:
    """Status 1, still one sentence; what nobody foresaw keeps its traceback."""
    from handful.encoders import spec
    from handful.errors import HandfulError

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(spec, "encoder_kinds", fail)
    error: BaseException = HandfulError("the model gave NaN")
    ran = handful("encoders")
    assert (ran.status, ran.err) == (1, "handful: the model gave NaN\n")
    error = KeyboardInterrupt()
    ran = handful("encoders")
    assert ran.status == 130
    assert ran.err == "handful: stopped; what was done is kept.\n"
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        handful("encoders")


def test_warnings_are_one_line(handful, monkeypatch) -> None:
    import warnings

    from handful.encoders import spec

    kinds = spec.encoder_kinds()

    def warn() -> object:
        warnings.warn("the store\n  is full", RuntimeWarning, stacklevel=2)
        return kinds

    monkeypatch.setattr(spec, "encoder_kinds", warn)
    ran = handful("encoders", "--json")
    assert len(ran.document()) == len(kinds)
    assert ran.err == "handful: warning: the store is full\n"
