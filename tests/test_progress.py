"""A bar on a terminal, silence in a pipe."""

from __future__ import annotations

import contextlib
import io

import pytest

from handful.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def shown(stream: io.StringIO, total: int, stop_at: int | None = None) -> str:
    with contextlib.redirect_stderr(stream), progress("encoding", total, "pictures") as advance:
        for n in range(total):
            if n == stop_at:
                raise ZeroDivisionError
            advance(1)
    return stream.getvalue()


def test_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(io.StringIO(), 20) == ""
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_label_and_count(capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(Terminal(), 20)
    assert "encoding" in said
    assert "20/20" in said
    assert capsys.readouterr().out == ""


def test_a_terminal_sees_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.progress import Task

    monkeypatch.setattr(Task, "speed", property(lambda task: 12.4))
    assert "12 pictures/s" in shown(Terminal(), 20)


@pytest.mark.parametrize("total", [0, 1])
def test_one_thing_needs_no_bar(total: int) -> None:
    assert shown(Terminal(), total) == ""


def test_errors_pass_and_the_cursor_comes_back() -> None:
    terminal = Terminal()
    with pytest.raises(ZeroDivisionError):
        shown(terminal, 20, stop_at=5)
    said = terminal.getvalue()
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")  # show after hide


def test_a_note_and_a_slow_rate_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.progress import Task

    monkeypatch.setattr(Task, "speed", property(lambda task: 0.44))
    stream = Terminal()
    with contextlib.redirect_stderr(stream), progress("training", 3, "steps") as advance:
        advance(2, "loss 0.31")
    assert "training loss 0.31" in stream.getvalue()
    assert "0.4 steps/s" in stream.getvalue()
