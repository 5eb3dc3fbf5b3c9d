"""Files are written whole or not at all, and nothing is replaced unasked."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest

from handful.errors import InputError
from handful.paths import cache_folder, new_file, new_folder, refuse_existing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- the cache -------------------------------------------------------------------------------------


def test_the_user_may_move_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()  # naming it does not make it
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HANDFUL_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "given/handful"),
        ("linux", None, ".cache/handful"),
        ("darwin", None, "Library/Caches/handful"),
        ("win32", "LOCALAPPDATA", "given/handful"),
        ("win32", None, "AppData/Local/handful"),
    ],
)
def test_the_cache_is_where_the_system_has_caches(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    platform: str,
    variable: str | None,
    expected: str,
) -> None:
    for name in ("HANDFUL_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "given"))
    assert cache_folder() == tmp_path / expected


# -- files -----------------------------------------------------------------------------------------


def test_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "file.txt"
    with new_file(path, overwrite=False) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent  # renaming works within a file system only
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["file.txt"]
    (tmp_path / "any").touch()
    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("kind", [new_file, new_folder])
def test_a_block_that_fails_leaves_nothing(tmp_path: Path, kind, error) -> None:
    with pytest.raises(error), kind(tmp_path / "out", overwrite=False) as temporary:
        (temporary if kind is new_file else temporary / "part").write_text("half")
        raise error
    assert names(tmp_path) == []


def test_an_existing_file_is_kept_where_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ValueError), new_file(path, overwrite=True) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert path.read_text() == "old"
    with new_file(path, overwrite=True) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


# -- folders ---------------------------------------------------------------------------------------


def test_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    with new_folder(path, overwrite=False) as temporary:
        (temporary / "part").write_text("whole")
        assert not path.exists()
    assert (path / "part").read_text() == "whole"
    assert names(path.parent) == ["folder"]
    (tmp_path / "any").mkdir()
    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode


def make_old(path: Path) -> None:
    path.mkdir()
    (path / "old").write_text("old")


def test_a_folder_is_replaced_not_merged(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    make_old(path)
    with new_folder(path, overwrite=True) as temporary:
        (temporary / "new").write_text("new")
        assert names(path) == ["old"]
    assert names(path) == ["new"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("failing", [1, 2])
def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Replacing takes two renames; either may fail."""
    path = tmp_path / "folder"
    make_old(path)
    replace, calls = Path.replace, []

    def fail(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == failing:
            raise OSError(5, "Input/output error")
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
        patch.setattr(Path, "replace", fail)
        with new_folder(path, overwrite=True) as temporary:
            (temporary / "new").write_text("new")
    assert names(tmp_path) == ["folder"]
    assert (path / "old").read_text() == "old"


def test_the_old_folder_is_never_deleted_before_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be renamed back, it is still on the disk, beside."""
    path = tmp_path / "folder"
    make_old(path)
    replace, calls = Path.replace, []

    def fail(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) > 1:
            raise OSError(5, "Input/output error")
        return replace(self, target)

    with monkeypatch.context() as patch, suppress(OSError):
        patch.setattr(Path, "replace", fail)
        with new_folder(path, overwrite=True) as temporary:
            (temporary / "new").write_text("new")
    assert [found.read_text() for found in tmp_path.rglob("old")] == ["old"]


def test_a_link_to_a_folder_is_replaced_by_itself(tmp_path: Path) -> None:
    make_old(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with new_folder(tmp_path / "link", overwrite=True) as temporary:
        (temporary / "new").write_text("new")
    assert names(tmp_path / "link") == ["new"]
    assert names(tmp_path / "real") == ["old"]


# -- what is there already, and what cannot be -----------------------------------------------------


@pytest.mark.parametrize("kind", [new_file, new_folder])
def test_what_exists_is_refused_before_anything_is_done(tmp_path: Path, kind) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "folder", "dangling"):
        with (
            pytest.raises(InputError, match=f"{name} exists already: .*--force"),
            kind(tmp_path / name, overwrite=False),
        ):
            raise AssertionError("the block must not run")
    assert names(tmp_path) == ["dangling", "file", "folder"]


def test_a_file_never_replaces_a_folder(tmp_path: Path) -> None:
    make_old(tmp_path / "folder")
    with (
        pytest.raises(InputError, match="folder is a folder: give the name of a file"),
        new_file(tmp_path / "folder", overwrite=True),
    ):
        raise AssertionError("the block must not run")


@pytest.mark.parametrize("kind", [new_file, new_folder])
@pytest.mark.parametrize("name", ["x" * 300, "file/below"])
def test_names_that_cannot_be(tmp_path: Path, kind, name: str) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="cannot be written: "),
        kind(tmp_path / name, overwrite=False),
    ):
        raise AssertionError("the block must not run")
    assert names(tmp_path) == ["file"]


def test_asking_before_the_work(tmp_path: Path) -> None:
    make_old(tmp_path / "folder")
    refuse_existing(tmp_path / "nothing", overwrite=False, folder=False)
    refuse_existing(tmp_path / ("x" * 300), overwrite=False, folder=False)
    refuse_existing(tmp_path / "folder", overwrite=True, folder=True)
    refuse_existing(tmp_path / "folder" / "old", overwrite=True, folder=False)
    for arguments in (
        {"overwrite": False, "folder": True},
        {"overwrite": False, "folder": False},
        {"overwrite": True, "folder": False},
    ):
        with pytest.raises(InputError):
            refuse_existing(tmp_path / "folder", **arguments)
