"""A stand-in for the Hugging Face hub on this machine, with switchable faults.

It speaks what huggingface_hub asks of huggingface.co: the listing of a repository, ``resolve``
with its commit, ETag and size headers, a redirect of small files to ``/api/resolve-cache`` and of
large ones (LFS) to another host, where ranges are served and no token may arrive.

    with HubStandIn() as hub:
        commit = hub.add("someone/clip", folder)
        subprocess.run(command, env={**os.environ, **hub.environment(home)})
        hub.faults("someone/clip").cut_after = 1000
        hub.requests  # what was asked, in order
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

GOOD_TOKEN = "hf_good"
LARGE = (".safetensors", ".bin", ".msgpack", ".h5", ".onnx")
PIECE = 1 << 20


@dataclass
class Faults:
    """What is wrong with a repository; the defaults are: nothing."""

    missing: int | None = None  # 401 as who is not logged in sees it, or 404
    moved_to: str | None = None  # the name it has now
    private: bool = False  # there for GOOD_TOKEN alone
    gated: int | None = None  # 401 or 403 for every file; the listing is public
    status: int | None = None  # of an answer instead of the right one
    status_at: str = "list"  # "list", "file" or "cdn"
    status_headers: dict[str, str] = field(default_factory=dict)
    status_times: int | None = None  # how often; None: always
    cut_after: int | None = None  # bytes of a large file, then the connection is closed
    cut_times: int | None = None  # how often; None: always
    reset: bool = False  # cut with a reset, as a failing router does, not with an end
    corrupt: bool = False  # one byte of every large file differs
    short: int = 0  # bytes that are left out at the end of every file
    listed_more: int = 0  # bytes that the listing adds to a large file
    no_ranges: bool = False  # large files are always sent from the start
    no_details: bool = False  # a mirror that lists names alone
    login_page: bool = False  # HTML in the place of the listing


@dataclass(frozen=True)
class Request:
    host: str  # "hub" or "cdn"
    method: str
    path: str
    range: str | None
    token: str | None


class _File:
    """Content that is in memory or in a file that may be large."""

    def __init__(self, name: str, source: bytes | Path) -> None:
        self.name, self.source = name, source
        self.size = len(source) if isinstance(source, bytes) else source.stat().st_size
        self.large = name.endswith(LARGE) or self.size > 10_000_000
        digest = hashlib.sha256() if self.large else hashlib.sha1(f"blob {self.size}\0".encode())
        for piece in self.pieces(0, self.size):
            digest.update(piece)
        self.digest = digest.hexdigest()

    def pieces(self, start: int, stop: int) -> Any:
        if isinstance(self.source, bytes):
            yield self.source[start:stop]
            return
        with self.source.open("rb") as file:
            file.seek(start)
            while start < stop and (piece := file.read(min(PIECE, stop - start))):
                start += len(piece)
                yield piece

    def listed(self, faults: Faults) -> dict[str, Any]:
        if faults.no_details:
            return {"rfilename": self.name}
        size = self.size + (faults.listed_more if self.large else 0)
        about = {"rfilename": self.name, "size": size, "blobId": self.digest[:40]}
        if self.large:
            about["lfs"] = {"sha256": self.digest, "size": size, "pointerSize": 134}
        return about


@dataclass
class _Repository:
    faults: Faults
    commits: dict[str, dict[str, _File]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


class HubStandIn:
    """Two servers, the hub and the host of its large files, while the ``with`` block lasts."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._repositories: dict[str, _Repository] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> HubStandIn:
        self._servers = {host: _serve(self, host) for host in ("hub", "cdn")}
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    @property
    def url(self) -> str:
        return self.address("hub")

    def address(self, host: str) -> str:
        return f"http://127.0.0.1:{self._servers[host].server_address[1]}"

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables with which another process uses this hub and an own cache."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_HUB_OFFLINE": "",
            "HF_TOKEN": "",
            "NO_PROXY": "127.0.0.1",
        }

    def add(
        self,
        name: str,
        files: Path | Mapping[str, bytes | str | Path],
        *,
        branch: str = "main",
        **faults: Any,
    ) -> str:
        """Serve a folder or a mapping as a repository; return the commit.

        Once more with other files is a new commit, to which the branch moves.
        """
        if isinstance(files, Path):
            paths = sorted(path for path in files.rglob("*") if path.is_file())
            files = {path.relative_to(files).as_posix(): path for path in paths}
        content = {
            key: _File(key, value.encode() if isinstance(value, str) else value)
            for key, value in files.items()
        }
        told = json.dumps([name, sorted((f.name, f.digest) for f in content.values())])
        commit = hashlib.sha1(told.encode()).hexdigest()
        repository = self._repositories.setdefault(name, _Repository(Faults()))
        repository.faults = replace(repository.faults, **faults)
        repository.commits[commit] = content
        repository.branches[branch] = commit
        return commit

    def faults(self, name: str) -> Faults:
        """Return the faults of a repository, to be changed in place."""
        return self._repositories[name].faults

    def asked(self, host: str = "hub", method: str | None = None) -> list[str]:
        """Return the paths that were asked for, without the list of agents, asked once a day."""
        return [
            request.path
            for request in self.requests
            if request.host == host
            and method in (None, request.method)
            and request.path != "/api/agent-harnesses"
        ]


class _Answer(Exception):  # noqa: N818
    def __init__(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.status, self.headers, self.body = status, headers, body


def _error(status: int, message: str, code: str | None = None, **headers: str) -> _Answer:
    told = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | headers
    body = json.dumps({"error": message}).encode()
    return _Answer(status, {"Content-Type": "application/json", **told}, body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the client may go away
            super().handle_error(*_)


def _serve(stand_in: HubStandIn, host: str) -> ThreadingHTTPServer:
    class Handler(_Handler):
        hub, role = stand_in, host

    server = _Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: HubStandIn
    role: str

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ") or None
        asked = Request(self.role, self.command, self.path, self.headers["Range"], token)
        with self.hub._lock:
            self.hub.requests.append(asked)
        try:
            if self.role == "cdn":
                self._large(*self._find_large())
            else:
                self._hub(unquote(urlsplit(self.path).path), token)
        except _Answer as answer:
            self.send_response(answer.status)
            for key, value in answer.headers.items():
                self.send_header(key, value)
            if "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(answer.body)
        except ConnectionError:  # the client went away
            self.close_connection = True

    def _hub(self, path: str, token: str | None) -> None:
        if path == "/api/agent-harnesses":
            raise self._json({"standardEnvVars": [], "harnesses": {}})
        for pattern, answer in (
            (r"/api/models/([^/]+(?:/[^/]+)?)(?:/revision/(.+))?", self._list),
            (r"/([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)", self._resolve),
            (r"/api/resolve-cache/models/([^/]+(?:/[^/]+)?)/([0-9a-f]{40})/(.+)", self._small),
        ):
            if match := re.fullmatch(pattern, path):
                name, revision, *file = match.groups()
                files, commit, faults = self._commit(name, revision or "main", token)
                answer(name, commit, files, faults, *file)
        raise _error(404, "Sorry, we can't find the page you are looking for.")

    def _commit(
        self, name: str, revision: str, token: str | None
    ) -> tuple[dict[str, _File], str, Faults]:
        if token not in (None, GOOD_TOKEN):
            raise _error(401, "Invalid credentials in Authorization header")
        repository = self.hub._repositories.get(name, _Repository(Faults(missing=401)))
        faults = repository.faults
        if faults.moved_to:
            place = self.path.replace(f"/{name}", f"/{faults.moved_to}", 1)
            raise _Answer(307, {"Location": place})
        missing = faults.missing or (401 if faults.private and not token else None)
        if missing == 404 or (missing and token):
            raise _error(404, "Repository not found", "RepoNotFound")
        if missing:
            raise _error(401, "Invalid username or password.")
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            raise _error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repository.commits[commit], commit, faults

    def _list(self, name: str, commit: str, files: dict[str, _File], faults: Faults) -> None:
        self._fail(faults, "list")
        if faults.login_page:
            raise _Answer(200, {"Content-Type": "text/html"}, b"<html>Accept our terms</html>")
        details = parse_qs(urlsplit(self.path).query).get("blobs") == ["true"]
        shown = faults if details else replace(faults, no_details=True)
        answer = self._json(
            {
                "_id": "0",
                "id": name,
                "modelId": name,
                "private": faults.private,
                "gated": "manual" if faults.gated else False,
                "sha": commit,
                "siblings": [file.listed(shown) for file in files.values()],
            }
        )
        answer.headers["X-HF-Warning"] = (
            "unauthenticated; You are sending unauthenticated requests."
        )
        raise answer

    def _resolve(
        self, name: str, commit: str, files: dict[str, _File], faults: Faults, path: str
    ) -> None:
        told = {"X-Repo-Commit": commit, "RateLimit": '"resolvers";r=2998;t=172'}
        if faults.gated:
            text = f"Access to model {name} is restricted."
            raise _error(faults.gated, text, "GatedRepo", **told)
        self._fail(faults, "file")
        if path not in files:
            raise _error(404, "Entry not found", "EntryNotFound", **told)
        file = files[path]
        if not file.large:
            place = f"/api/resolve-cache/models/{name}/{commit}/{path}?etag=%22{file.digest}%22"
            raise _Answer(307, {**told, "Location": place}, b"Temporary Redirect")
        told |= {
            "Location": f"{self.hub.address('cdn')}/{name}/{commit}/{path}?Signature=abc",
            "X-Linked-Size": str(file.size),
            "X-Linked-Etag": f'"{file.digest}"',
        }
        if not faults.no_details:  # whoever follows this asks for a token that nobody gives here
            token = f"{self.hub.url}/api/models/{name}/xet-read-token/{commit}"
            told |= {"X-Xet-Hash": file.digest, "Link": f'<{token}>; rel="xet-auth"'}
        raise _Answer(302, told, b"Found. Redirecting")

    def _small(
        self, name: str, commit: str, files: dict[str, _File], faults: Faults, path: str
    ) -> None:
        file = files[path]
        content = b"".join(file.pieces(0, file.size - faults.short))
        told = {"X-Repo-Commit": commit, "ETag": f'"{file.digest}"'}
        if self.command == "HEAD":
            raise _Answer(200, {**told, "Content-Length": str(file.size)})
        if "gzip" in (self.headers["Accept-Encoding"] or ""):
            raise _Answer(200, {**told, "Content-Encoding": "gzip"}, gzip.compress(content))
        raise _Answer(200, told, content)

    def _find_large(self) -> tuple[_File, Faults]:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        place = next(i for i, part in enumerate(parts) if re.fullmatch("[0-9a-f]{40}", part))
        repository = self.hub._repositories["/".join(parts[:place])]
        return repository.commits[parts[place]]["/".join(parts[place + 1 :])], repository.faults

    def _large(self, file: _File, faults: Faults) -> None:
        self._fail(faults, "cdn")
        size = file.size - faults.short
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = int(asked[1]) if asked and not faults.no_ranges else 0
        if start >= size > 0:
            raise _Answer(416, {"Content-Range": f"bytes */{size}"})
        self.send_response(206 if asked and not faults.no_ranges else 200)
        if asked and not faults.no_ranges:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.send_header("ETag", '"of the other host"')
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = faults.cut_after is not None and self._use(faults, "cut_times")
        stop = min(size, start + (faults.cut_after or 0)) if cut else size
        for piece in file.pieces(start, stop):
            if faults.corrupt and start <= file.size // 2 < start + len(piece):
                middle = file.size // 2 - start
                piece = piece[:middle] + bytes([piece[middle] ^ 1]) + piece[middle + 1 :]
            self.wfile.write(piece)
            start += len(piece)
        if cut:
            self.wfile.flush()
            if faults.reset:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
            self.close_connection = True

    def _fail(self, faults: Faults, place: str) -> None:
        if faults.status and faults.status_at == place and self._use(faults, "status_times"):
            raise _error(faults.status, "not now", **faults.status_headers)

    def _use(self, faults: Faults, counter: str) -> bool:
        with self.hub._lock:
            left = getattr(faults, counter)
            if left is not None:
                setattr(faults, counter, max(left - 1, 0))
            return left is None or left > 0

    def _json(self, value: Any) -> _Answer:
        return _Answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())
