"""Files from a Hugging Face hub into the Hugging Face cache, whole and checked.

huggingface_hub lists, keeps and links the files. Large ones (LFS) are received here, because since
version 1.18 it keeps nothing of a download that was interrupted, and so that what is received is
counted on one bar, and its SHA-256 known before anything can find it. They come by plain HTTP, not
by the Xet protocol: one way that every mirror and proxy knows.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from handful.encoders.checkpoint.hub_errors import explained, host, is_network, megabytes
from handful.errors import InputError

__all__ = ["Listing", "RemoteFile", "get", "is_here", "list_files", "missing", "refuse_full_disk"]

WAITS = (1, 2, 4, 8)  # seconds before another try, counted anew whenever something arrived


@dataclass(frozen=True)
class RemoteFile:
    """What a hub says of a file: its bytes, and the SHA-256 if it is large; a mirror may not."""

    size: int | None
    sha256: str | None


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit."""

    name: str
    revision: str  # as it was asked for
    commit: str
    files: Mapping[str, RemoteFile]


def list_files(name: str, revision: str, timeout: float | None = None) -> Listing:
    """Ask the hub for the files of a repository: one request.

    Args:
        name: ``OWNER/NAME``.
        revision: branch, tag or commit.
        timeout: seconds; without it that of huggingface_hub.

    Raises:
        InputError: the hub could not be asked, or does not give that repository.
    """
    with explained(name, revision):
        from huggingface_hub import HfApi, constants

        timeout = timeout or constants.HF_HUB_ETAG_TIMEOUT
        try:
            info = HfApi().model_info(name, revision=revision, timeout=timeout, files_metadata=True)
        except (KeyError, TypeError) as error:
            raise ValueError("JSON, but no listing") from error
        if not info.sha:
            raise ValueError("a listing without a commit")
        files = {
            file.rfilename: RemoteFile(file.size, file.lfs.sha256 if file.lfs else None)
            for file in info.siblings or ()
        }
        return Listing(name, revision, info.sha, files)


def is_here(listing: Listing, folder: Path, file: str) -> bool:
    """Whether no byte of a file has to come over the network: it may still have to be linked.

    Args:
        listing: what the hub has.
        folder: ``snapshots/COMMIT`` in the Hugging Face cache.
        file: name in the repository.
    """
    sha256 = listing.files[file].sha256
    return (folder / file).is_file() or (sha256 is not None and _blob(folder, sha256).is_file())


def missing(listing: Listing, folder: Path, file: str) -> int:
    """Return how many bytes of a file are still to come; 0 where the hub does not say."""
    about = listing.files[file]
    if about.size is None or is_here(listing, folder, file):
        return 0
    return about.size - (_size(_part(folder, about.sha256)) if about.sha256 else 0)


def refuse_full_disk(name: str, count: int) -> None:
    """Raise before a download that cannot fit.

    Raises:
        InputError: the disk of the Hugging Face cache has less than ``count`` bytes of room.
    """
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE).expanduser()
    with explained(name, ""):
        free = shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists())).free
    if free < count:
        raise InputError(
            f"{name} needs {megabytes(count)} in {cache}, where {megabytes(free)} are free: free"
            " some space, or set HF_HOME to a folder with room."
        )


def get(
    listing: Listing,
    file: str,
    folder: Path | None,
    advance: Callable[[int], None] = lambda n: None,
) -> Path:
    """Bring one file into the cache and return its path there.

    Args:
        listing: what the hub has.
        file: name in the repository.
        folder: ``snapshots/COMMIT`` in the cache, or None before anything is in it.
        advance: told how many bytes arrived.

    Raises:
        InputError: the file could not be had, or is not the one that the hub announced.
    """
    about, blob = listing.files[file], None
    here = folder is not None and is_here(listing, folder, file)
    with explained(listing.name, listing.revision):
        from huggingface_hub import hf_hub_download

        if folder and about.sha256 and about.size and not here:
            blob = _receive(listing, file, folder, about.sha256, about.size, advance)
        path = Path(hf_hub_download(listing.name, file, revision=listing.commit))
        if about.size is not None and path.stat().st_size != about.size:
            found = path.stat().st_size
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise _wrong(listing, file, f"{found} bytes instead of {about.size}")
        if blob and not path.is_symlink():  # on Windows, often: it was copied
            blob.unlink(missing_ok=True)
    if not blob and not here:
        advance(about.size or 0)
    return path


def _receive(
    listing: Listing,
    file: str,
    folder: Path,
    sha256: str,
    size: int,
    advance: Callable[[int], None],
) -> Path:
    """Put a large file where huggingface_hub looks for it before it downloads: in ``blobs/``."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    blob, part = _blob(folder, sha256), _part(folder, sha256)
    repository = blob.parent.parent
    lock = repository.parent / ".locks" / repository.name / f"{sha256}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):  # of the same name as huggingface_hub's own
        if blob.is_file():  # another process was faster
            return blob
        if _size(part) < size:
            url = hf_hub_url(listing.name, file, revision=listing.commit)
            _append(url, part, size, f"{file} of {listing.name}", advance)
        found = _size(part)
        with part.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if digest != sha256:
            part.unlink()
            how = f"the SHA-256 {digest[:12]}… instead of {sha256[:12]}…"
            raise _wrong(
                listing, file, how if found == size else f"{found} bytes instead of {size}"
            )
        part.replace(blob)
    return blob


def _append(url: str, part: Path, size: int, what: str, advance: Callable[[int], None]) -> None:
    """Receive what a partial file lacks; after a cut go on where it stopped."""
    from huggingface_hub.errors import HfHubHTTPError

    waits = list(WAITS)
    while True:
        before = _size(part)
        try:
            return _stream(url, part, advance)
        except Exception as error:
            server_fault = isinstance(error, HfHubHTTPError) and error.response.status_code >= 500
            if not server_fault and not is_network(error):
                raise
            if _size(part) > before:
                waits = list(WAITS)
            if not waits:
                if server_fault:
                    raise
                reason = str(error) or type(error).__name__
                raise InputError(
                    f"the connection to {_asked(error)} broke ({reason}) with"
                    f" {megabytes(_size(part))} of {megabytes(size)} of {what} received: run the"
                    " same command again to go on from there."
                ) from error
            time.sleep(waits.pop(0))


def _stream(url: str, part: Path, advance: Callable[[int], None]) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        get_session,
        hf_raise_for_status,
    )

    have = _size(part)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream(
        "GET", url, headers=headers, timeout=timeout, follow_redirects=True
    ) as response:
        hf_raise_for_status(response)
        continues = response.status_code == 206
        if have and not continues:  # a server that knows no ranges sends everything again
            advance(-have)
        with part.open("ab" if continues else "wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
                advance(len(chunk))


def _blob(folder: Path, sha256: str) -> Path:
    # The layout is documented: models--OWNER--NAME/{refs,blobs,snapshots}.
    return folder.parent.parent / "blobs" / sha256


def _part(folder: Path, sha256: str) -> Path:
    return _blob(folder, sha256).with_name(f"{sha256}.incomplete")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _wrong(listing: Listing, file: str, how: str) -> InputError:
    return InputError(
        f"{file} of {listing.name} arrived damaged from {host()} ({how}) and was removed: run the"
        " same command again, and if that does not help, see whether a proxy changes it."
    )


def _asked(error: Exception) -> str:
    """Return the host that did not answer: large files lie on others than the hub's own."""
    try:
        return str(error.request.url.host)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):
        return host()
