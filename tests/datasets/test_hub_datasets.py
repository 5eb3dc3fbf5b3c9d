"""Data sets of the hub, from a stand-in on this machine: what comes, and what can go wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from PIL import Image

hf = pytest.importorskip("datasets", reason="needs the extra datasets")

OPENS = """
import json, sys
from handful.datasets.source import open_images
from handful.errors import InputError
for spec in sys.argv[1:]:
    try:
        train = open_images(spec).train
        names = [train.class_names[label] for label in train.labels]
        found = {"names": names, "sizes": [path.stat().st_size for path in train.paths]}
    except InputError as error:
        found = {"error": str(error)}
    print(json.dumps(found))
"""
NOT_FOUND = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}


class Hub(BaseHTTPRequestHandler):
    """What the package datasets asks of a hub."""

    protocol_version = "HTTP/1.1"
    repositories: dict[str, dict[str, Any]]

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: bytes | list[Any] | dict[str, Any], **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        path, query = unquote(urlsplit(self.path).path), parse_qs(urlsplit(self.path).query)
        match = re.fullmatch(r"(?:/api)?/datasets/(own/\w+)(?:/([\w-]+)/([^/]+)(?:/(.+))?)?", path)
        if not match:
            return self.answer(404, {"error": "no such page"})
        name, verb, revision, rest = match.groups()
        there = self.repositories.get(name, {"status": 401})
        if status := there.get("status"):
            return self.answer(status, {"error": "no"}, X_Error_Message="no")
        commits: Mapping[str, dict[str, bytes]] = there["commits"]
        commit = there["branches"].get(revision or "main", revision)
        if commit not in commits:
            return self.answer(404, {}, X_Error_Code="RevisionNotFound", X_Error_Message="no rev")
        files = commits[commit]
        if verb == "resolve":
            if there.get("gated"):
                return self.answer(403, {}, X_Error_Code="GatedRepo", X_Error_Message="restricted")
            if rest not in files:
                return self.answer(404, {}, X_Repo_Commit=commit, **NOT_FOUND)
            etag = hashlib.sha1(files[rest]).hexdigest()
            return self.answer(200, files[rest], X_Repo_Commit=commit, ETag=f'"{etag}"')
        if verb == "tree":
            listed = entries(files, f"{rest}/" if rest else "", query["recursive"] == ["true"])
            return self.answer(200, listed)
        if verb == "paths-info":
            asked = parse_qs(self.body.decode()).get("paths", [])
            listed = [one for one in entries(files, "", True) if one["path"] in asked]
            return self.answer(200, listed)
        siblings = [{"rfilename": file} for file in files]
        return self.answer(200, {"_id": "0", "id": name, "sha": commit, "siblings": siblings})


def entries(files: Mapping[str, bytes], under: str, recursive: bool) -> list[dict[str, Any]]:
    found = {}
    for path, content in files.items():
        if not path.startswith(under):
            continue
        folder, inside, _ = path.removeprefix(under).partition("/")
        if inside and not recursive:
            about = {"type": "directory", "path": under + folder, "oid": "0", "size": 0}
        else:
            oid = hashlib.sha1(content).hexdigest()
            about = {"type": "file", "path": path, "oid": oid, "size": len(content)}
        found[about["path"]] = about
    return list(found.values())


def parquet(labels: list[int], level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), level).save(buffer, "BMP")
    images = [{"bytes": buffer.getvalue(), "path": "1.bmp"}] * len(labels)
    features = {"image": hf.Image(), "label": hf.ClassLabel(names=["cat", "dog", "eel"])}
    file = io.BytesIO()
    hf.Dataset.from_dict({"image": images, "label": labels}, hf.Features(features)).to_parquet(file)
    return file.getvalue()


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    one, two = "1" * 40, "2" * 40
    train, test = "data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*\n" for name in "ab")

    class Known(Hub):
        repositories = {
            "own/animals": {
                "branches": {"main": two, "old": one},
                "commits": {
                    one: {train: parquet([0, 2], 0), test: parquet([1], 9)},
                    two: {train: parquet([0, 1, 1], 0), test: parquet([1], 9)},
                },
            },
            "own/configs": {
                "branches": {"main": one},
                "commits": {
                    one: {
                        "README.md": f"---\nconfigs:\n{configs}---\n".encode(),
                        "a/train.parquet": parquet([0, 1], 0),
                        "b/train.parquet": parquet([2, 1], 0),
                    }
                },
            },
            "own/program": {"branches": {"main": one}, "commits": {one: {"program.py": b"exit()"}}},
            "own/texts": {"branches": {"main": one}, "commits": {one: {"a.csv": b"text\nyes\n"}}},
            "own/empty": {"branches": {"main": one}, "commits": {one: {"notes.xyz": b"?"}}},
            "own/gated": {"branches": {"main": one}, "commits": {one: {}}, "gated": True},
            "own/absent": {"status": 404},
            "own/forbidden": {"status": 403},
        }

    server = ThreadingHTTPServer(("127.0.0.1", 0), Known)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def opened(endpoint: str, home: Path, *specs: str, **environment: str) -> list[dict[str, Any]]:
    """Open data sets in a process of its own, where the variables are read."""
    where = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HANDFUL_CACHE": str(home / "handful")}
    quiet = {"HF_TOKEN": "", "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", OPENS, *specs],
        capture_output=True,
        text=True,
        cwd=home,
        env={**os.environ, **where, **quiet, **environment},
        timeout=120,
        check=True,
    )
    assert ran.stderr == ""  # in a pipe, no bars and no other noise
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture(scope="module")
def answers(hub: str, home: Path) -> dict[str, dict[str, Any]]:
    """What became of each spec, asked of the stand-in; what could be had is cached afterwards."""
    specs = [
        "hf:own/animals",
        "hf:own/animals@old",
        "hf:own/animals@" + "1" * 40,
        "hf:own/animals@v9",
        "hf:own/configs:b",
        "hf:own/configs",
        "hf:own/configs:c",
        *(f"hf:own/{name}" for name in ("program", "texts", "empty", "gated", "absent")),
        *(f"hf:own/{name}" for name in ("forbidden", "unknown")),
    ]
    return dict(zip(specs, opened(hub, home, *specs), strict=True))


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("hf:own/animals", ["cat", "dog", "dog"]),
        ("hf:own/animals@old", ["cat", "eel"]),
        ("hf:own/animals@" + "1" * 40, ["cat", "eel"]),
        ("hf:own/configs:b", ["eel", "dog"]),
    ],
)
def test_what_the_hub_has(answers: dict[str, Any], spec: str, names: list[str]) -> None:
    assert answers[spec].get("names") == names, answers[spec]
    assert all(size > 0 for size in answers[spec]["sizes"])


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("hf:own/animals@v9", "own/animals has no revision 'v9': give a branch, a tag or a commit"),
        ("hf:own/configs", "Config name is missing.*'a', 'b'"),
        ("hf:own/configs:c", r"BuilderConfig 'c' not found. Available: \['a', 'b'\]"),
        ("hf:own/program", "own/program is made by a program of its own, program.py, and no such"),
        ("hf:own/texts", r"hf:own/texts, split train: there is no column of images among 'text'"),
        ("hf:own/empty", "own/empty cannot be loaded by the package datasets: "),
        ("hf:own/gated", "own/gated is gated: accept its terms at http://.*/datasets/own/gated, "),
        ("hf:own/absent", "no folder own/absent here, and 127.0.0.1:.* has no data set of that na"),
        ("hf:own/unknown", "no folder own/unknown here, and 127.0.0.1:.* or it is private: check"),
        ("hf:own/forbidden", "127.0.0.1:.* refuses the data set own/forbidden with status 403"),
    ],
)
def test_what_it_does_not_give(answers: dict[str, Any], spec: str, says: str) -> None:
    error = answers[spec].get("error", "")
    assert re.search(says, error), answers[spec]
    assert "\n" not in error
    assert error.endswith(".")


def test_without_a_network_the_cache_is_used_where_that_is_asked_for(
    answers: dict[str, Any], home: Path
) -> None:
    nobody = "http://127.0.0.1:9"  # the port of "discard", where nobody listens
    (error,) = opened(nobody, home, "hf:own/animals")
    assert "could not be asked for it" in error["error"]
    assert "set HF_HUB_OFFLINE=1" in error["error"]
    configs, last, before, branch, absent = opened(
        nobody,
        home,
        "hf:own/configs:b",
        f"hf:own/animals@{'1' * 40}",
        f"hf:own/animals@{'2' * 40}",
        "hf:own/animals@old",
        "hf:own/none",
        HF_HUB_OFFLINE="1",
    )
    assert configs["names"] == answers["hf:own/configs:b"]["names"]
    # The package datasets gives what came last, whatever revision is asked for.
    assert last["names"] == answers["hf:own/animals@old"]["names"]
    assert f"nothing shows that it is of revision '{'2' * 40}'" in before["error"]
    assert "nothing shows that it is of revision 'old'" in branch["error"]
    assert "own/none is not in the cache" in absent["error"]
    assert "HF_HUB_OFFLINE forbids" in absent["error"]
