"""The images that a user names for a prediction: files, folders, patterns, a list."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from handful.datasets.named import images_named
from handful.errors import InputError

FILES = ("a.jpg", "b.JPG", "c[1].jpg", "c1.jpg", "new/1.png", "new/deep/2.png", "new/notes.txt")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*FILES, ".hidden.jpg", "new/.hidden/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(*names: str, listed: bytes = b"") -> list[str]:
    return [path.as_posix() for path in images_named(names, io.BytesIO(listed))]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.jpg", ["a.jpg"]),
        ("./new", ["new/1.png", "new/deep/2.png"]),
        ("*.jpg", ["a.jpg", "c1.jpg", "c[1].jpg"]),
        ("*.[jJ]*", ["a.jpg", "b.JPG", "c1.jpg", "c[1].jpg"]),
        ("?.jpg", ["a.jpg"]),
        ("new/*", ["new/1.png", "new/deep/2.png", "new/notes.txt"]),  # as a shell has it
        ("n*/deep/*", ["new/deep/2.png"]),
        ("new/**/*.png", ["new/1.png", "new/deep/2.png"]),
        ("**/*.png", ["new/1.png", "new/deep/2.png"]),
        ("new/**", ["new/1.png", "new/deep/2.png"]),
        ("**/deep/*", ["new/deep/2.png"]),
        ("n*/**/2.*", ["new/deep/2.png"]),
    ],
)
def test_patterns(place: Path, name: str, found: list[str]) -> None:
    assert named(name) == found
    assert named(str(place / name)) == [(place / path).as_posix() for path in found]


def test_a_file_that_is_called_like_a_pattern_goes_before_it(place: Path) -> None:
    assert named("c[1].jpg") == ["c[1].jpg"]
    (place / "c[1].jpg").unlink()
    assert named("c[1].jpg") == ["c1.jpg"]


def test_the_order_is_that_of_the_names(place: Path) -> None:
    assert named("c1.jpg", "new", "a*", "c1.jpg") == [
        *("c1.jpg", "new/1.png", "new/deep/2.png", "a.jpg", "c1.jpg")
    ]


def test_links_that_go_round_in_a_circle(place: Path) -> None:
    (place / "new" / "round").symlink_to(place / "new", target_is_directory=True)
    (place / "new" / "again").symlink_to(place / "new", target_is_directory=True)
    assert named("new/**/*.png") == ["new/1.png", "new/deep/2.png"]


@pytest.mark.parametrize(
    "listed",
    [
        b"a.jpg\nnew\nc[1].jpg\n",
        b"a.jpg\r\nnew/\r\n\r\n  \r\nc[1].jpg",
        b"\xef\xbb\xbfa.jpg\nnew\nc[1].jpg\n",
        b"a.jpg\0new\0c[1].jpg\0",
    ],
)
def test_a_list(place: Path, listed: bytes) -> None:
    (place / "c1.jpg").unlink()  # in a list, brackets are no pattern
    found = ["a.jpg", "new/1.png", "new/deep/2.png", "c[1].jpg"]
    assert named("-", listed=listed) == found
    assert named("b.JPG", "-", "a.jpg", listed=listed) == ["b.JPG", *found, "a.jpg"]


def test_names_with_line_breaks_and_such_as_are_no_text(place: Path) -> None:
    names = [b"with a\nbreak.jpg", b" blank .jpg", b"\xff.jpg"]
    for name in names:
        Path(os.fsdecode(name)).touch()
    assert named("-", listed=b"\0".join(names)) == [os.fsdecode(name) for name in names]
    assert named("-", listed=b"\n".join(names[1:])) == [os.fsdecode(name) for name in names[1:]]


@pytest.mark.parametrize(
    ("name", "listed", "says"),
    [
        (
            "*.gif",
            b"",
            r"nothing matches '\*\.gif': expected an image file, a folder of images, or",
        ),
        ("new/**/*.gif", b"", r"nothing matches 'new/\*\*/\*\.gif'"),
        ("none/**", b"", r"nothing matches 'none/\*\*'"),
        ("a.jpeg", b"", r"a\.jpeg does not exist: .*Did you mean 'a\.jpg'"),
        ("empty", b"", "empty has no images"),
        ("-", b"", "standard input lists no images: expected one path per line"),
        ("-", b"\n \n", "standard input lists no images"),
        ("-", b"a.jpg\nd.jpg\n", r"d\.jpg does not exist: expected an image file or a folder"),
        ("-", b"*.jpg\n", r"\*\.jpg does not exist"),
    ],
)
def test_refused(place: Path, name: str, listed: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        named(name, listed=listed)


def test_the_list_is_read_only_where_it_is_asked_for(place: Path) -> None:
    closed = io.BytesIO()
    closed.close()
    assert images_named(["a.jpg"], closed) == [Path("a.jpg")]
