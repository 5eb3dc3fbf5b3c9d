"""Checkpoints of the hub: what is fetched, what is kept, and every way in which it can fail."""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from hub_stand_in import GOOD_TOKEN, HubStandIn
from huggingface_hub import constants, hf_hub_download

from handful.encoders.checkpoint import hub as module
from handful.encoders.checkpoint import hub_errors, hub_transfer
from handful.encoders.checkpoint.hub import Snapshot, fetch, is_cached, is_reachable
from handful.errors import InputError

NAME = "someone/clip"
WEIGHTS = bytes(range(256)) * 1000
SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
SMALL = {
    "config.json": json.dumps({"model_type": "clip", "padding": "x" * 500}),
    "preprocessor_config.json": '{"size": 224}',
    "tokenizer_config.json": '{"model_max_length": 77}',
    "vocab.json": '{"a": 0}',
    "merges.txt": "#version: 0.2\n",
}
FILES: dict[str, Any] = {**SMALL, SAFE: WEIGHTS, PICKLED: b"pickled", "README.md": "# A model"}


def kept(snapshot: Snapshot) -> set[str]:
    return {path.name for path in snapshot.folder.iterdir()}


def weights_asked(hub: HubStandIn) -> list[str | None]:
    """The ranges that the host of large files was asked for."""
    return [request.range for request in hub.requests if request.host == "cdn"]


def refusal(name: str = NAME, revision: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        fetch(name, revision)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert name in sentence
    return sentence


# What is fetched


def test_a_checkpoint_comes_once(hub: HubStandIn, capfd: pytest.CaptureFixture[str]) -> None:
    commit = hub.add(NAME, FILES)
    snapshot = fetch(NAME)
    assert snapshot == Snapshot(snapshot.folder, commit, downloaded=True)
    assert snapshot.folder.parts[-3:] == ("models--someone--clip", "snapshots", commit)
    assert kept(snapshot) == {*SMALL, SAFE}  # neither the second format nor the README
    assert (snapshot.folder / SAFE).read_bytes() == WEIGHTS
    assert (snapshot.folder / "config.json").read_text() == SMALL["config.json"]
    said = capfd.readouterr()
    size = f"{sum(len(FILES[name]) for name in [*SMALL, SAFE]) / 1e6:.1f} MB"
    assert said.out == ""
    assert said.err == (
        f"handful: downloading {NAME} from {hub.url[7:]}: {size}, once, to"
        f" {constants.HF_HUB_CACHE}\n"
    )

    hub.requests.clear()
    for revision in (None, "main", commit):  # a saved classifier names the commit
        assert fetch(NAME, revision) == Snapshot(snapshot.folder, commit, downloaded=False)
        assert is_cached(NAME, revision)
        assert is_reachable(NAME, revision)
    assert hub.requests == []
    assert capfd.readouterr().err == ""


def test_the_files_are_where_others_find_them(hub: HubStandIn) -> None:
    hub.add(NAME, FILES)
    snapshot = fetch(NAME)
    hub.requests.clear()
    for name in (*SMALL, SAFE):
        found = hf_hub_download(NAME, name, local_files_only=True)
        assert Path(found) == snapshot.folder / name
    assert hub.requests == []
    blobs = snapshot.folder.parent.parent / "blobs"
    assert len(list(blobs.iterdir())) == len(SMALL) + 1  # and no partial file


def test_small_files_come_first_and_all_of_one_commit(hub: HubStandIn) -> None:
    commit = hub.add(NAME, FILES)
    fetch(NAME)
    heads = [path for path in hub.asked("hub", "HEAD") if "/resolve/" in path]
    assert heads[0].endswith("/config.json")
    assert heads[-1].endswith(SAFE)
    assert all(f"/{commit}/" in path for path in heads)
    assert len(weights_asked(hub)) == 1
    assert not any("xet-read-token" in path for path in hub.asked())


def index(*shards: str) -> str:
    return json.dumps({"metadata": {}, "weight_map": {f"w{i}": s for i, s in enumerate(shards)}})


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({PICKLED: b"p"}, {PICKLED}),
        ({f"{SAFE}.index.json": index(ONE, TWO, ONE), ONE: b"1", TWO: b"2", PICKLED: b"p"}, None),
        ({f"{SAFE}.index.json": index(ONE), ONE: b"1", TWO: b"2"}, {f"{SAFE}.index.json", ONE}),
        ({f"{PICKLED}.index.json": index("a.bin"), "a.bin": b"1"}, None),
        ({f"{SAFE}.index.json": index(ONE, TWO), ONE: b"1", PICKLED: b"p"}, {PICKLED}),
        ({f"{SAFE}.index.json": "[]", ONE: b"1", PICKLED: b"p"}, {PICKLED}),
    ],
    ids=["bin", "shards", "shards of the index alone", "bin shards", "shard gone", "no index"],
)
def test_one_set_of_weights(
    hub: HubStandIn, weights: dict[str, Any], expected: set[str] | None
) -> None:
    hub.add(NAME, {"config.json": "{}", **weights})
    names = kept(fetch(NAME)) - {"config.json", f"{SAFE}.index.json"}
    wanted = set(weights) - {PICKLED} if expected is None else expected
    assert names == wanted - {f"{SAFE}.index.json"}
    hub.requests.clear()
    assert not fetch(NAME).downloaded
    assert hub.requests == []


def test_revisions(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    old = hub.add(NAME, {**FILES, "vocab.json": "{}"}, branch="refs/pr/1")
    new = hub.add(NAME, FILES)
    assert fetch(NAME, "refs/pr/1").commit == old
    assert fetch(NAME).commit == new
    assert len(weights_asked(hub)) == 1  # the same weights are kept once
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(NAME, "refs/pr/1").commit == old
    assert fetch(NAME, "main").commit == new
    assert f"{NAME}@v2 is not complete in the cache" in refusal(revision="v2")


def test_an_old_name_of_one_word(hub: HubStandIn) -> None:
    commit = hub.add(NAME, FILES)
    hub.add("clip", {}, moved_to=NAME)
    snapshot = fetch("clip")
    assert snapshot.commit == commit
    assert kept(snapshot) == {*SMALL, SAFE}
    hub.requests.clear()
    assert not fetch("clip").downloaded
    assert hub.requests == []


def test_a_system_without_symbolic_links(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refused)
    hub.add(NAME, FILES)
    folder = fetch(NAME).folder
    assert kept(fetch(NAME)) == {*SMALL, SAFE}
    assert not (folder / SAFE).is_symlink()
    assert (folder / SAFE).read_bytes() == WEIGHTS
    assert list((folder.parents[1] / "blobs").iterdir()) == []  # no weights twice
    assert len(weights_asked(hub)) == 1
    assert [str(warning.message) for warning in recwarn] == []


def test_another_process_was_faster(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def waited_for(lock: Path) -> Any:
        blobs = Path(constants.HF_HUB_CACHE) / lock.parent.name / "blobs"
        (blobs / lock.stem).write_bytes(WEIGHTS)
        yield

    monkeypatch.setattr(huggingface_hub.utils, "WeakFileLock", waited_for)
    hub.add(NAME, FILES)
    assert (fetch(NAME).folder / SAFE).read_bytes() == WEIGHTS
    assert weights_asked(hub) == []


def test_a_token_is_used_and_stays_with_the_hub(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES, private=True)
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    assert fetch(NAME).downloaded
    tokens = {(r.host, r.token) for r in hub.requests if r.path != "/api/agent-harnesses"}
    assert tokens == {("hub", GOOD_TOKEN), ("cdn", None)}


# What is in the cache already


def fill(names: tuple[str, ...], revision: str = "main") -> None:
    """Do as other programs do: bring some files, by the name of the branch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # which the stand-in does not speak
        for name in names:
            hf_hub_download(NAME, name, revision=revision)


def test_a_cache_of_others_is_completed(hub: HubStandIn) -> None:
    old = hub.add(NAME, FILES)
    fill(("config.json", "vocab.json"))
    shutil.copy(  # their weights, in the format that we would not have chosen
        Path(__file__),
        Path(hf_hub_download(NAME, "config.json", local_files_only=True)).with_name(PICKLED),
    )
    hub.add(NAME, {**FILES, "vocab.json": "{}"})  # the branch moved on
    hub.requests.clear()
    assert is_cached(NAME)
    snapshot = fetch(NAME)
    assert snapshot.commit == old
    assert not snapshot.downloaded
    assert kept(snapshot) == {*SMALL, PICKLED}
    assert len(hub.asked("hub", "GET")) == 1 + len(SMALL) - 2  # the listing, and what lacked
    assert weights_asked(hub) == []
    hub.requests.clear()
    assert fetch(NAME) == snapshot
    assert hub.requests == []


def test_a_cache_without_weights_follows_the_branch(hub: HubStandIn) -> None:
    hub.add(NAME, FILES)
    fill(("config.json",))
    new = hub.add(NAME, {**FILES, "vocab.json": "{}"})
    assert not is_cached(NAME)
    assert fetch(NAME).commit == new
    hub.requests.clear()
    assert fetch(NAME).commit == new
    assert hub.requests == []


def test_a_file_that_vanished_comes_again(hub: HubStandIn) -> None:
    hub.add(NAME, FILES)
    folder = fetch(NAME).folder
    (folder / "vocab.json").unlink()
    assert not fetch(NAME).downloaded
    assert (folder / "vocab.json").read_text() == FILES["vocab.json"]
    (folder / SAFE).resolve().unlink()  # what `hf cache` removes
    assert not is_cached(NAME)
    assert fetch(NAME).downloaded
    assert (folder / SAFE).read_bytes() == WEIGHTS


@pytest.mark.parametrize("content", ["", "[]", '{"files": []}', '{"files": 3}'])
def test_a_damaged_note_is_written_anew(hub: HubStandIn, tmp_path: Path, content: str) -> None:
    commit = hub.add(NAME, FILES)
    fetch(NAME)
    note = tmp_path / "handful" / "hub" / "someone--clip" / f"{commit}.json"
    whole = note.read_text()
    note.write_text(content)
    hub.requests.clear()
    fetch(NAME)
    assert len(hub.asked()) == 1  # the listing
    assert note.read_text() == whole


def test_a_note_that_cannot_be_written_is_not_missed(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "file"))
    assert fetch(NAME).downloaded
    hub.requests.clear()
    assert not fetch(NAME).downloaded
    assert len(hub.asked()) == 1


@pytest.mark.parametrize("weights", [SAFE, PICKLED])
def test_without_a_note_the_cache_is_enough_offline(
    hub: HubStandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    weights: str,
) -> None:
    commit = hub.add(NAME, {**SMALL, weights: WEIGHTS})
    fill(("config.json", weights))
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert is_cached(NAME)
    snapshot = fetch(NAME)
    assert snapshot == Snapshot(snapshot.folder, commit, downloaded=False)
    assert capsys.readouterr().err == ""
    assert hub.requests == []


@pytest.mark.parametrize("fault", [{"missing": 404}, {"status": 503}, {"login_page": True}])
def test_without_a_note_the_cache_is_enough_when_the_hub_fails(
    hub: HubStandIn, capsys: pytest.CaptureFixture[str], fault: dict[str, Any]
) -> None:
    commit = hub.add(NAME, {**SMALL, SAFE: WEIGHTS})
    fill(("config.json", SAFE))
    hub.add(NAME, FILES, **fault)
    capsys.readouterr()
    assert fetch(NAME).commit == commit
    said = capsys.readouterr().err
    assert said.startswith("handful: ")
    assert said.endswith(f" Going on with the files of {NAME} that are in the cache.\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("here", [("config.json",), (SAFE,), ()])
def test_offline_without_a_model(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, here: tuple[str, ...]
) -> None:
    hub.add(NAME, FILES)
    fill(here)
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not is_cached(NAME)
    assert not is_reachable(NAME)
    assert "HF_HUB_OFFLINE" in refusal()
    assert "dir:FOLDER" in refusal()
    assert hub.requests == []


def test_incomplete_shards_are_not_cached(hub: HubStandIn) -> None:
    shards = {f"{SAFE}.index.json": index(ONE, TWO), ONE: b"1", TWO: b"2"}
    hub.add(NAME, {"config.json": "{}", **shards})
    folder = fetch(NAME).folder
    shutil.rmtree(folder.parents[3] / "handful")
    assert is_cached(NAME)
    (folder / TWO).unlink()
    assert not is_cached(NAME)


# Interrupted downloads


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_a_cut_connection_is_taken_up(hub: HubStandIn, reset: bool) -> None:
    hub.add(NAME, FILES, cut_after=100_000, cut_times=2, reset=reset)
    folder = fetch(NAME).folder
    assert (folder / SAFE).read_bytes() == WEIGHTS
    asked = weights_asked(hub)
    assert len(asked) == 3
    assert asked[0] is None
    if not reset:  # what a reset still lets through is chance
        assert asked[1:] == ["bytes=100000-", "bytes=200000-"]


def test_many_cuts_are_taken_up_while_something_arrives(hub: HubStandIn) -> None:
    hub.add(NAME, FILES, cut_after=20_000)
    assert (fetch(NAME).folder / SAFE).read_bytes() == WEIGHTS
    assert len(weights_asked(hub)) == 13 > len(hub_transfer.WAITS) + 1


def test_a_server_without_ranges_starts_again(hub: HubStandIn) -> None:
    hub.add(NAME, FILES, cut_after=100_000, cut_times=1, no_ranges=True)
    assert (fetch(NAME).folder / SAFE).read_bytes() == WEIGHTS
    assert weights_asked(hub) == [None, "bytes=100000-"]


def test_a_connection_that_stays_cut(hub: HubStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    hub.add(NAME, FILES, cut_after=200_000)
    waits: list[float] = []

    def nothing_more(seconds: float) -> None:
        waits.append(seconds)
        hub.faults(NAME).cut_after = 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_transfer, "time", SimpleNamespace(sleep=nothing_more))
        sentence = refusal()
    assert tuple(waits) == hub_transfer.WAITS
    assert "0.2 MB of 0.3 MB" in sentence
    assert "127.0.0.1" in sentence
    assert "run the same command again" in sentence
    assert not is_cached(NAME)

    hub.requests.clear()
    capsys.readouterr()
    hub.faults(NAME).cut_after = None
    assert fetch(NAME).downloaded
    assert weights_asked(hub) == ["bytes=200000-"]
    assert ": 0.1 MB, once" in capsys.readouterr().err  # what was still missing


def test_an_interrupt_passes_and_its_download_goes_on(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES)

    @contextlib.contextmanager
    def impatient(*_: object) -> Any:
        def advance(count: int) -> None:
            if count > 1000:  # of the weights
                raise KeyboardInterrupt

        yield advance

    with monkeypatch.context() as patch:
        patch.setattr(module, "progress", impatient)
        with pytest.raises(KeyboardInterrupt):
            fetch(NAME)
    assert not is_cached(NAME)
    (part,) = (Path(constants.HF_HUB_CACHE) / "models--someone--clip/blobs").glob("*.incomplete")
    size = part.stat().st_size
    assert 0 < size < len(WEIGHTS)
    assert (fetch(NAME).folder / SAFE).read_bytes() == WEIGHTS
    assert weights_asked(hub) == [None, f"bytes={size}-"]


def test_a_download_that_was_complete_but_not_checked(hub: HubStandIn) -> None:
    hub.add(NAME, FILES)
    folder = fetch(NAME).folder
    blob = (folder / SAFE).resolve()
    (folder / SAFE).unlink()
    blob.rename(blob.with_name(f"{blob.name}.incomplete"))
    hub.requests.clear()
    fetch(NAME)
    assert weights_asked(hub) == []
    assert (folder / SAFE).read_bytes() == WEIGHTS


def test_a_server_fault_in_between_is_waited_for(hub: HubStandIn) -> None:
    hub.add(NAME, FILES, status=502, status_at="cdn", status_times=2)
    assert fetch(NAME).downloaded


# Damaged files


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        ({"corrupt": True}, "SHA-256"),
        ({"listed_more": 7}, f"{len(WEIGHTS)} bytes instead of {len(WEIGHTS) + 7}"),
        ({"short": 7}, f"{len(WEIGHTS) - 7} bytes instead of {len(WEIGHTS)}"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_damaged_weights_are_removed(hub: HubStandIn, fault: dict[str, Any], how: str) -> None:
    files = {"config.json": "{}", SAFE: WEIGHTS}
    hub.add(NAME, files)
    config = Path(hf_hub_download(NAME, "config.json"))  # whole: this is about the weights
    hub.add(NAME, files, **fault)
    sentence = refusal()
    assert how in sentence
    assert SAFE in sentence
    assert "removed" in sentence
    assert list((config.parents[2] / "blobs").iterdir()) == [config.resolve()]
    assert not is_cached(NAME)
    hub.add(NAME, files, corrupt=False, listed_more=0, short=0)
    assert (fetch(NAME).folder / SAFE).read_bytes() == WEIGHTS


def test_a_small_file_that_is_cut_short(hub: HubStandIn) -> None:
    hub.add(NAME, FILES, short=1)
    assert "did not arrive whole" in refusal()


# Everything else that can go wrong


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("", "OWNER/NAME"),
        ("a b/c", "OWNER/NAME"),
        ("a/b/c", "OWNER/NAME"),
        ("../etc", "OWNER/NAME"),
        ("https://example.com/a/b", "OWNER/NAME"),
        ("https://huggingface.co/openai/clip", "Did you mean 'openai/clip'?"),
        ("https://huggingface.co/openai/clip/tree/main", "Did you mean 'openai/clip'?"),
        ("huggingface.co/openai/clip", "Did you mean 'openai/clip'?"),
    ],
)
def test_names_that_are_none(hub: HubStandIn, name: str, hint: str) -> None:
    for ask in (fetch, is_cached, is_reachable):
        with pytest.raises(InputError, match=r"OWNER/NAME") as caught:
            ask(name)
        assert hint in str(caught.value)
        assert f"'{name}'" in str(caught.value)
    assert hub.requests == []


@pytest.mark.parametrize("revision", ["", "a b", "../main", "-x", "a:b", "/etc"])
def test_revisions_that_are_none(hub: HubStandIn, revision: str) -> None:
    hub.add(NAME, FILES)
    assert f"'{revision}' is no revision" in refusal(revision=revision)
    assert hub.requests == []


LIMITED = {"status": 429, "status_headers": {"Retry-After": "120"}}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"missing": 401}, ["has no model", "private", "hf auth login"]),
        ({"missing": 404}, ["has no model", "private", "hf auth login"]),
        ({"private": True}, ["has no model", "private", "hf auth login"]),
        ({"gated": 401}, ["gated", "terms", "/someone/clip,", "hf auth login"]),
        ({"gated": 403}, ["gated", "terms", "/someone/clip,", "hf auth login"]),
        (LIMITED, ["too many requests", "in 120 seconds"]),
        ({**LIMITED, "status_at": "file"}, ["too many requests", "in 120 seconds"]),
        ({**LIMITED, "status_at": "cdn"}, ["too many requests", "in 120 seconds"]),
        (
            {"status": 429, "status_headers": {"RateLimit": '"api";r=0;t=55'}},
            ["too many requests", "in 55 seconds"],
        ),
        (
            {"status": 429, "status_headers": {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}},
            ["after Wed, 21 Oct 2015 07:28:00 GMT"],
        ),
        ({"status": 429}, ["too many requests", "in a few minutes"]),
        ({"status": 500}, ["status 500", "in a few minutes"]),
        ({"status": 503, "status_at": "file"}, ["status 503", "in a few minutes"]),
        ({"status": 503, "status_at": "cdn"}, ["status 503", "in a few minutes"]),
        ({"status": 418}, ["status 418", "not now", "HF_ENDPOINT"]),
        ({"status": 403, "status_at": "cdn"}, ["status 403", "not now"]),
        ({"login_page": True}, ["does not answer as a Hugging Face hub", "login page"]),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_what_the_hub_refuses(hub: HubStandIn, fault: dict[str, Any], said: list[str]) -> None:
    hub.add(NAME, FILES, **fault)
    sentence = refusal()
    for words in said:
        assert words in sentence
    assert hub.url[7:] in sentence  # which hub it was
    assert not is_cached(NAME)


def test_what_is_unknown(hub: HubStandIn) -> None:
    assert "has no model nobody/nothing" in refusal("nobody/nothing")
    hub.add(NAME, FILES)
    assert "no revision 'v9'" in refusal(revision="v9")
    assert f"no revision '{40 * '0'}'" in refusal(revision=40 * "0")


def test_a_token_that_is_refused(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, FILES)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    sentence = refusal()
    assert "refuses your access token" in sentence
    assert "HF_TOKEN" in sentence
    assert "hf_expired" not in sentence


def test_no_network(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")  # nobody listens there
    assert not is_reachable(NAME)
    sentence = refusal()
    assert "127.0.0.1:1 could not be reached" in sentence
    assert "refused" in sentence
    assert "connect to the internet" in sentence
    assert "dir:FOLDER" in sentence


def test_a_hub_that_does_not_answer(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(module, "PING", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert not is_reachable(NAME)
        assert time.monotonic() - start < 3
        assert "could not be reached (timed out)" in refusal()


def test_reachable(hub: HubStandIn) -> None:
    hub.add(NAME, FILES)
    assert is_reachable(NAME)
    assert len(hub.asked()) == 1
    assert not is_cached(NAME)
    assert not is_reachable(NAME, "v9")
    assert not is_reachable("nobody/nothing")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"open_clip_config.json": "{}", "open_clip_pytorch_model.bin": b""}, "open_clip:hf-hub:"),
        ({"config.json": "{}", "open_clip_model.safetensors": b""}, "open_clip:hf-hub:"),
        ({"config.json": "{}", "onnx/model.onnx": b"", "tf_model.h5": b""}, "ONNX and TensorFlow"),
        ({"config.json": "{}", "flax_model.msgpack": b""}, "Flax"),
        ({SAFE: b"1"}, "has no config.json: it holds model.safetensors."),
        ({"config.json": "{}"}, "has no complete weights (model.safetensors or pytorch"),
        ({}, "it holds nothing"),
        ({f"{i}.txt": "" for i in range(9)}, "5.txt and 3 more"),
        ({"config.json": "{}", f"{SAFE}.index.json": index(ONE)}, "has no complete weights"),
    ],
)
def test_no_checkpoint(hub: HubStandIn, files: dict[str, Any], said: str) -> None:
    hub.add(NAME, files)
    assert said in refusal()
    assert weights_asked(hub) == []


def test_a_disk_that_is_too_small(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, FILES)
    room = SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=100_000))
    monkeypatch.setattr(hub_transfer, "shutil", room)
    sentence = refusal()
    assert "needs 0.3 MB" in sentence
    assert "0.1 MB are free" in sentence
    assert "HF_HOME" in sentence
    assert weights_asked(hub) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' full disk")
def test_a_disk_that_fills_up(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, FILES)
    monkeypatch.setattr(hub_transfer, "_part", lambda folder, sha256: Path("/dev/full"))
    sentence = refusal()
    assert "is full" in sentence
    assert "HF_HOME" in sentence


def test_a_cache_that_cannot_be_written(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.add(NAME, FILES)
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    sentence = refusal()
    assert "cannot be written to the cache" in sentence
    assert str(tmp_path / "file" / "hub") in sentence
    assert "HF_HOME" in sentence


def test_a_mirror_that_lists_names_alone(
    hub: HubStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add(NAME, FILES, no_details=True)
    snapshot = fetch(NAME)
    assert snapshot.downloaded
    assert (snapshot.folder / SAFE).read_bytes() == WEIGHTS
    assert "of unknown size" in capsys.readouterr().err


# What is shown


def test_sizes_for_people() -> None:
    assert doctest.testmod(hub_errors) == (0, 1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_one_bar_in_megabytes(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    hub.add(NAME, {**SMALL, SAFE: WEIGHTS * 10}, cut_after=1_500_000, cut_times=1)
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal):
        fetch(NAME)
    said = terminal.getvalue()
    assert "2.6/2.6 MB" in said  # all of it, once, although the connection was cut
    assert "%|" not in said  # no bar of huggingface_hub
    assert "unauthenticated" not in said


@pytest.mark.parametrize("fault", [{}, {"no_ranges": True}], ids=["ranges", "no ranges"])
def test_the_bar_ends_where_its_total_is(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    bars: list[tuple[int, list[int]]] = []

    @contextlib.contextmanager
    def recorded(label: str, total: int, unit: str) -> Any:
        bars.append((total, []))
        yield bars[-1][1].append

    monkeypatch.setattr(module, "progress", recorded)
    hub.add(NAME, FILES, cut_after=100_000, cut_times=1, **fault)
    fetch(NAME)
    fetch(NAME, hub.add(NAME, {**FILES, "vocab.json": "{}"}))  # with the same weights
    for total, steps in bars:
        assert sum(steps) == total > 0
    assert bars[1][0] < len(WEIGHTS) < bars[0][0]


def test_waiting_for_the_hub_is_said(hub: HubStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    hub.add(NAME, FILES, **LIMITED, status_at="file", status_times=2)
    assert fetch(NAME).downloaded
    assert f"handful: {hub.url[7:]}: Rate limited. Waiting 121.0s" in capsys.readouterr().err


CHILD = """
import sys
from handful.encoders.checkpoint.hub import fetch
from handful.errors import InputError
for name in sys.argv[1:]:
    try:
        snapshot = fetch(name)
        print(snapshot.commit, snapshot.downloaded, snapshot.folder)
    except InputError as error:
        print(error)
"""


def test_another_process_with_the_variables_alone(hub: HubStandIn, tmp_path: Path) -> None:
    commit = hub.add(NAME, FILES)
    home = tmp_path / "home"
    environment = {**os.environ, **hub.environment(home)}

    def run(*names: str, **variables: str) -> tuple[list[str], str]:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *names],
            env=environment | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines(), done.stderr

    folder = home / "hub" / "models--someone--clip" / "snapshots" / commit
    lines, said = run(NAME)
    assert lines == [f"{commit} True {folder}"]
    assert said.startswith(f"handful: downloading {NAME} from {hub.url[7:]}: 0.3 MB, once, to ")
    assert said.count("\n") == 1  # and nothing of huggingface_hub

    hub.requests.clear()
    lines, said = run(NAME, "someone/else", HF_HUB_OFFLINE="1")
    assert lines[0] == f"{commit} False {folder}"
    assert "HF_HUB_OFFLINE" in lines[1]
    assert said == ""
    assert hub.requests == []
